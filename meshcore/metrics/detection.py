"""What the detection of protocols and of TLS found, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.metrics.registry import Registry

__all__ = ["detection", "tls_detection"]

_BUCKETS = (0.001, 0.1)
_RESULTS = ("http/1", "http/2", "not_http", "read_timeout", "error")
_TLS_RESULTS = ("terminated", "passthrough", "no_tls", "timeout", "refused", "error")


def detection(registry: Registry, direction: str) -> Callable[[str, float], None]:
    """A function that counts one detection: its result and its seconds (D-07, with linkerd's families).

    Args:
        registry: where it is counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """
    return _observer(registry, direction, "http", "HTTP", _RESULTS)


def tls_detection(registry: Registry, direction: str) -> Callable[[str, float], None]:
    """A function that counts one detection of TLS: its result and its seconds.

    Args:
        registry: where it is counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """
    return _observer(registry, direction, "tls", "TLS", _TLS_RESULTS)


def _observer(
    registry: Registry, direction: str, what: str, title: str, known: tuple[str, ...]
) -> Callable[[str, float], None]:
    results = registry.counter(
        f"{direction}_tcp_detect_{what}_results_total", f"Outcomes of looking for {title} on a connection.", "result"
    )
    cells = {result: results.labels(result) for result in known}
    durations = registry.histogram(
        f"{direction}_tcp_detect_{what}_duration_seconds",
        f"Time that looking for {title} on a connection took.",
        buckets=_BUCKETS,
    ).labels()

    def observe(result: str, seconds: float) -> None:
        cell = cells.get(result)
        if cell is None:
            cell = cells[result] = results.labels(result)
        cell.value += 1
        durations.observe(seconds)

    return observe
