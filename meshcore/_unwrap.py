"""Walking a live stack: from a service down through what it wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from meshcore.abc import Gate, Status

__all__ = ["find", "gates", "ready_source", "services", "statistics_sources", "status_source"]

_DEPTH = 256


def services(service: object, /) -> Iterator[object]:
    """*service*, what it wraps (``__wrapped__``), what that wraps, and so on to the innermost."""
    current: object | None = service
    for _ in range(_DEPTH):
        if current is None:
            return
        yield current
        current = getattr(current, "__wrapped__", None)


def find(service: object, name: str, /) -> Any:
    """The attribute *name* of the first service of the stack that has it, None if none has.

    Walked once, when a stack is built; never per request.
    """
    for candidate in services(service):
        # A closure of `update_wrapper` has what was set on it; only `__wrapped__` leads further.
        found = getattr(candidate, name, None)
        if found is not None:
            return found
    return None


def ready_source(service: object, /) -> Callable[[], Awaitable[None]] | None:
    """The ``ready()`` of an endpoint's service: makes sure that a connection can be made, or raises
    the ``ConnectError``.  None where nothing under *service* connects."""
    return cast("Callable[[], Awaitable[None]] | None", find(service, "ready"))


def status_source(service: object, /) -> Callable[[], Status] | None:
    """The ``status()`` of the nearest service that has a readiness, None if all are always open."""
    return cast("Callable[[], Status] | None", find(service, "status"))


def gates(service: object, /) -> list[Gate]:
    """Every service of the stack that may shut it (:class:`meshcore.abc.Gate`), outermost first."""
    return [cast("Gate", each) for each in services(service) if getattr(each, "on_status", None) is not None]


def statistics_sources(service: object, /) -> list[tuple[object, Callable[[], object]]]:
    """Every service of the stack that has ``statistics()``, outermost first, with that function."""
    found = ((each, getattr(each, "statistics", None)) for each in services(service))
    return [(each, statistics) for each, statistics in found if statistics is not None]
