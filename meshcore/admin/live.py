"""What the services of a live stack know of themselves, as a tree."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

import attrs

from meshcore._unwrap import services
from meshcore.abc import HttpService, ServiceLayer
from meshcore.accounting.probe import Probe
from meshcore.stack import role

__all__ = ["Watch", "live_tree"]

_MOST_BRANCHES = 1_000
"""Services shown below one that has many; the rest are counted."""


def live_tree(service: object) -> list[dict[str, Any]]:
    """The stack under *service* in request order: each service that has ``statistics()``, or ``services()`` by
    name under it, with its layer's role.

    Services without either are left out: there is nothing to tell of them.
    """
    found: list[dict[str, Any]] = []
    for each in services(service):
        layer = getattr(each, "__layer__", None)
        value: dict[str, Any] = {"role": role(layer) if layer is not None else type(each).__name__.lstrip("_")}
        statistics = getattr(each, "statistics", None)
        branches: Any = getattr(each, "services", None)
        if callable(statistics):
            told = statistics()
            value["statistics"] = attrs.asdict(told) if attrs.has(type(told)) else told
        if callable(branches):
            below: Any = branches()
            value["services"] = {str(name): live_tree(inner) for name, inner in list(below.items())[:_MOST_BRANCHES]}
            if len(below) > _MOST_BRANCHES:
                value["more"] = len(below) - _MOST_BRANCHES
        if len(value) > 1:
            found.append(value)
    return found


@attrs.frozen(eq=False)
class Watch(ServiceLayer):
    """Remembers, weakly, which services are under its place; costs a request nothing."""

    accounted: ClassVar[bool] = False

    _seen: weakref.WeakSet[Any] = attrs.field(factory=weakref.WeakSet, init=False, repr=False)

    def wrap(self, inner: HttpService, target: object, /) -> HttpService:
        """*inner* itself."""
        seen: Any = inner
        if isinstance(seen, Probe):
            seen = seen.__wrapped__
        try:
            self._seen.add(seen)
        except TypeError:
            # A slotted service without __weakref__: better not seen than kept alive.
            pass
        return inner

    def services(self) -> list[object]:
        """The live services under it."""
        return list(self._seen)

    def trees(self) -> list[list[dict[str, Any]]]:
        """The live stacks under it."""
        return [tree for service in list(self._seen) if (tree := live_tree(service))]
