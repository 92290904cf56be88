"""Where probes go: above each layer of a stack, in each of its branches; the stack looks as before."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from meshcore.accounting.account import Account
from meshcore.accounting.ledger import Ledger
from meshcore.accounting.probe import Entry, Probe
from meshcore.stack import Branching, Stack, role

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

    from meshcore.abc import Layer

__all__ = ["Accounted", "accounted", "places"]

Inner = TypeVar("Inner")
Outer = TypeVar("Outer")

_SERVER = "serve_http"
"""The layer below which there are requests, and above which connections."""
_DIRECTIONS = ("inbound", "outbound")


@attrs.frozen(repr=False)
class Accounted(Stack[Inner, Outer], Generic[Inner, Outer]):
    """A stack whose layers are accounted wherever it is applied.

    Attributes:
        layers: as they were.
        ledger: has the accounts.
        pipeline: the name under which it has them.
    """

    ledger: Ledger = attrs.field(factory=Ledger, kw_only=True, eq=False)
    pipeline: str = attrs.field(default="", kw_only=True, eq=False)

    def layer(self, inner: Inner, /) -> Outer:
        """Applies every layer to *inner*, the last one first, with a probe above each."""
        probed = _Plan(self).stack(self.layers, 0, requests=_SERVER not in self.roles(), top=True)
        return cast("Outer", probed.layer(inner))

    def value(self) -> dict[str, dict[str, Any]]:
        """The figures by place: see :meth:`meshcore.accounting.Account.value`."""
        return self.ledger.value(self.pipeline)


def accounted(
    stack: Stack[Inner, Outer], ledger: Ledger | None = None, *, pipeline: str = ""
) -> Accounted[Inner, Outer]:
    """*stack* with the accounting of its layers: the same layers, roles and text, to be applied as it is.

    Edits are made before: they give stacks without accounting.

    Args:
        stack: the stack.
        ledger: has the accounts; None: a new one, which the result's ``ledger`` is.
        pipeline: the name under which it has them.
    """
    return Accounted(stack.layers, ledger=Ledger() if ledger is None else ledger, pipeline=pipeline)


def places(stack: Stack[Any, Any]) -> Iterator[tuple[Layer[Any, Any], str]]:
    """Each layer that is accounted and its place, in request order, each followed by those in its branches.

    The place is the role; the second layer with the same one has ``-2`` after it, and so on.
    """
    seen: Counter[str] = Counter()
    for layer in _walk(stack):
        name = role(layer)
        seen[name] += 1
        yield layer, name if seen[name] == 1 else f"{name}-{seen[name]}"


def _walk(stack: Stack[Any, Any]) -> Iterator[Layer[Any, Any]]:
    for layer in stack.layers:
        # What a running proxy puts in between for itself is no layer of the pipeline.
        if getattr(layer, "accounted", True):
            yield layer
        if isinstance(layer, Branching):
            for branch in layer.branches().values():
                yield from _walk(branch)


class _Plan:
    """Gives each layer its account, in the order of :func:`places`."""

    def __init__(self, whole: Accounted[Any, Any]) -> None:
        self._ledger = whole.ledger
        self._pipeline = whole.pipeline
        self._places = places(whole)
        told = (getattr(layer, "direction", None) for layer in _walk(whole))
        self._direction = next((each for each in told if each in _DIRECTIONS), "outbound")

    def stack(self, layers: tuple[Layer[Any, Any], ...], level: int, *, requests: bool, top: bool) -> _Probed:
        """The layers with their accounts; *requests* come to the first, or connections, and *top*: from outside."""
        found: list[tuple[Layer[Any, Any], Account | None]] = []
        for layer in layers:
            account = None
            level += 1
            if getattr(layer, "accounted", True):
                _, place = next(self._places)
                protocol = "http" if requests else "tcp"
                account = self._ledger.account(self._pipeline, place, self._direction, protocol)
                account.level = level
                if top:
                    self._ledger.sampler(account)
                    top = False
            below: Any = layer
            if isinstance(layer, Branching):
                for name, branch in layer.branches().items():
                    under = self.stack(branch.layers, level, requests=requests, top=top)
                    below = below.with_branch(name, under)
            if role(layer) == _SERVER:
                requests = top = True
            found.append((below, account))
        return _Probed(tuple(layer for layer, _ in found), accounts=tuple(account for _, account in found))


@attrs.frozen(repr=False)
class _Probed(Stack[Any, Any]):
    """Layers, and the account of each."""

    accounts: tuple[Account | None, ...] = attrs.field(kw_only=True, eq=False)

    def layer(self, inner: Any, /) -> Any:
        """Applies them, with a probe above each that has an account."""
        if hasattr(inner, "new_service"):
            # So that the lowest layer, too, can be told from what it asks.
            inner = _NewProbed(inner, _nobody())
        for layer, account in zip(reversed(self.layers), reversed(self.accounts), strict=True):
            outer = layer.layer(inner)
            if account is None or outer is inner:
                inner = outer
            elif hasattr(outer, "new_service"):
                # Connects, or asks nobody.
                account.bottom = not hasattr(inner, "new_service")
                inner = _NewProbed(outer, account)
            else:
                inner = Probe(outer, account)
        return inner


class _NewProbed:
    """Makes services with a probe above each."""

    __slots__ = ("_account", "_inner")

    def __init__(self, inner: Any, account: Account) -> None:
        self._inner = inner
        self._account = account

    def __repr__(self) -> str:
        return repr(self._inner)

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        """The service for *target*, and a probe, unless the layer is not there for this target: what it would be
        above has one already."""
        service = self._inner.new_service(target, nursery)
        account = self._account
        if account.sampler is not None:
            return Entry(service, account, account.sampler)
        if isinstance(service, Probe) and account.level < _BOTTOM:
            return service
        return Probe(service, account)


_BOTTOM = 1_000_000


def _nobody() -> Account:
    """The account of what is below all layers, which nobody reads."""
    account = Account("", "", "", "")
    account.level = _BOTTOM
    return account
