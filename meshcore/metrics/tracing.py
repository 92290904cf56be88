"""Spans sent and lost, counted; with linkerd's names where it counts the same (M-09)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["SpanCounts"]

REASONS = ("queue_full", "refused", "unavailable", "shutdown", "invalid")


class SpanCounts:
    """What became of spans: sent, or dropped because the queue was full, the collector refused them, could not be had
    for too long, the proxy ended, or what they tell cannot be written."""

    __slots__ = ("_dropped", "_exported", "_exports", "_requests")

    def __init__(self, registry: Registry) -> None:
        dropped = registry.counter("otlp_spans_dropped_total", "Spans that no collector has got.", "reason")
        # There from the start, so that the first one is an increase.
        self._dropped: dict[str, Counter] = {reason: dropped.labels(reason) for reason in REASONS}
        self._exported = registry.counter("otlp_spans_exported_total", "Spans that a collector has taken.").labels()
        self._exports = registry.counter(
            "opentelemetry_span_exports_total", "Total count of spans that a collector has taken."
        ).labels()
        self._requests = registry.counter(
            "opentelemetry_span_export_requests_total", "Total count of requests made to a collector."
        ).labels()

    def asked(self) -> None:
        """A request was made."""
        self._requests.value += 1

    def exported(self, count: int) -> None:
        """Spans were taken."""
        self._exported.value += count
        self._exports.value += count

    def dropped(self, reason: str, count: int = 1) -> None:
        """Spans were lost."""
        self._dropped[reason].value += count

    def all_dropped(self) -> int:
        """How many were lost until now."""
        return int(sum(cell.value for cell in self._dropped.values()))
