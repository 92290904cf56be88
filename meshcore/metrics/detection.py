"""What protocol detection found, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.metrics.registry import Registry

__all__ = ["detection"]

_BUCKETS = (0.001, 0.1)
_RESULTS = ("http/1", "http/2", "not_http", "read_timeout", "error")


def detection(registry: Registry, direction: str) -> Callable[[str, float], None]:
    """A function that counts one detection: its result and its seconds (D-07, with linkerd's families).

    Args:
        registry: where it is counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """
    results = registry.counter(
        f"{direction}_tcp_detect_http_results_total", "Outcomes of looking for HTTP on a connection.", "result"
    )
    cells = {result: results.labels(result) for result in _RESULTS}
    durations = registry.histogram(
        f"{direction}_tcp_detect_http_duration_seconds",
        "Time that looking for HTTP on a connection took.",
        buckets=_BUCKETS,
    ).labels()

    def observe(result: str, seconds: float) -> None:
        cell = cells.get(result)
        if cell is None:
            cell = cells[result] = results.labels(result)
        cell.value += 1
        durations.observe(seconds)

    return observe
