"""A passage: one measured connection on its way down through layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.accounting.account import Account

__all__ = ["SERVED", "Passage", "Served"]


class Passage:
    """The layers that a measured connection has come to, down to the one that has it.

    They hold it as long as it lives, and each wake-up of its task would go through a frame of each of them.  So there
    is none: layers say when they are come to, and all end when whoever serves the connection says that it has, or
    when a layer above tries another way.

    Attributes:
        weight: how many connections it stands for.
    """

    __slots__ = ("_stays", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self._stays: list[_Stay] = []

    def enter(self, account: Account, now: float) -> None:
        """It has come to a layer."""
        stays = self._stays
        while stays and stays[-1].level >= account.level:
            # Another branch, or another endpoint: the last way did not lead on.
            stays.pop().leave(self.weight, now, None, False)
        if stays:
            stays[-1].hand_on(now)
        account.came(self.weight)
        stays.append(_Stay(account, now))

    def end(self, now: float, error: BaseException | None, cancelled: bool = False) -> None:
        """It is over; *error* is what came of it.  Who had it last has raised that."""
        last = True
        while self._stays:
            self._stays.pop().leave(self.weight, now, error, last, not cancelled)
            last = False


class Served:
    """What a connection has for an account while it is not measured, and is served by one who ends its passage."""

    __slots__ = ()


SERVED: Final = Served()


class _Stay:
    """At one layer."""

    __slots__ = ("_account", "_asked", "_began", "_handed", "level")

    def __init__(self, account: Account, now: float) -> None:
        self.level: int = account.level
        self._account = account
        self._began = now
        self._handed = -1.0
        self._asked = 0

    def hand_on(self, now: float) -> None:
        """It goes to a layer below; what came before that was this one's own time."""
        self._asked += 1
        if self._handed < 0.0:
            self._handed = now

    def leave(self, weight: int, now: float, error: BaseException | None, last: bool, over: bool = False) -> None:
        """It is over, or not even that: it went another way."""
        account = self._account
        own = (now if self._handed < 0.0 else self._handed) - self._began
        if last and isinstance(error, Exception):
            account.raised_here(error, weight)
        account.connection_over(weight, over, error, now - self._began, own)
        if self._asked > 1:
            account.repeated += (self._asked - 1) * weight
