"""The ledger: the accounts of a process, by pipeline and place."""

from __future__ import annotations

import weakref
from typing import Any

from meshcore.accounting.account import Account
from meshcore.accounting.sampler import EVERY, Sampler

__all__ = ["Ledger"]


class Ledger:
    """Has the accounts of all layers that are accounted with it.

    An account lives as long as a stack that has its layer: a pipeline that is built anew finds those of the old one.

    Args:
        every: seconds between two requests that are measured, on average, where there are many.
        seed: of the generator that chooses them.
    """

    def __init__(self, *, every: float = EVERY, seed: int = 0) -> None:
        self._every = every
        self._seed = seed
        self._accounts: weakref.WeakValueDictionary[tuple[str, str], Account] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Ledger accounts={len(self._accounts)}>"

    def account(self, pipeline: str, place: str, direction: str = "", protocol: str = "http") -> Account:
        """The account of a place; the same one again while somebody has it."""
        found = self._accounts.get((pipeline, place))
        if found is None:
            found = self._accounts[pipeline, place] = Account(pipeline, place, direction, protocol)
        return found

    def sampler(self, account: Account) -> Sampler:
        """What decides at the account's place which requests are measured."""
        if account.sampler is None:
            account.sampler = Sampler(self._seed, self._every)
        return account.sampler

    def accounts(self) -> list[Account]:
        """All of them."""
        return list(self._accounts.values())

    def find(self, pipeline: str, place: str) -> Account | None:
        """The account of a place, None if nothing is accounted there."""
        return self._accounts.get((pipeline, place))

    def value(self, pipeline: str = "") -> dict[str, dict[str, Any]]:
        """The figures of a pipeline, as JSON values by the layers' places (see :meth:`Account.value`)."""
        return {account.place: account.value() for account in self.accounts() if account.pipeline == pipeline}

    def look(self) -> None:
        """To be called about once a second, where that is possible: see :meth:`Sampler.look`."""
        for account in self.accounts():
            if account.sampler is not None:
                account.sampler.look()
