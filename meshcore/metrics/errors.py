"""Errors counted, by linkerd's names (E-08, M-07)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from meshcore.errors import MeshError
from meshcore.metrics.labels import target_labels

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Family, Registry

__all__ = ["ErrorCounts", "error_family", "error_kind"]

_LABELS: Final = ("target_addr", "target_ip", "target_port", "error")
_COMMON: Final = frozenset(("failfast", "loadshed", "i/o"))
_KINDS: Final = {
    "inbound": _COMMON | {"gateway domain invalid", "gateway loop", "tls detection timeout"},
    "outbound": _COMMON | {"identity required", "response timeout"},
}


def error_kind(direction: str, error: BaseException) -> str | None:
    """The ``error`` label of *error*; None for what is no failure of anybody: a request that is refused, or that no
    route takes, has metrics of its own."""
    if not isinstance(error, MeshError):
        return "unexpected"
    if error.kind == "unexpected" and error.status_hint < 500:
        return None
    return error.kind if error.kind in _KINDS[direction] else "unexpected"


def error_family(registry: Registry, direction: str, protocol: Literal["http", "tcp"]) -> Family[Counter]:
    """``inbound_http_errors_total`` and its like.

    Args:
        registry: where it is.
        direction: ``"inbound"`` or ``"outbound"``.
        protocol: ``"http"`` for requests, ``"tcp"`` for connections.
    """
    what = "HTTP requests" if protocol == "http" else "connections"
    return registry.counter(
        f"{direction}_{protocol}_errors_total", f"Total count of {what} that ended with an error", *_LABELS
    )


class ErrorCounts:
    """The errors of what is made for one target.

    Args:
        family: where they are counted.
        direction: ``"inbound"`` or ``"outbound"``.
        target: the target.
    """

    __slots__ = ("_cells", "_direction", "_family", "_target")

    def __init__(self, family: Family[Counter], direction: str, target: object) -> None:
        self._family = family
        self._direction = direction
        self._target = target_labels(direction, target)[1:4]
        self._cells: dict[str, Counter] = {}

    def count(self, error: BaseException) -> None:
        """Counts *error*, if it is one."""
        kind = error_kind(self._direction, error)
        if kind is None:
            return
        cell = self._cells.get(kind)
        if cell is None:
            cell = self._cells[kind] = self._family.labels(*self._target, kind)
        cell.value += 1
