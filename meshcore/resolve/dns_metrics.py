"""The metrics of DNS resolution."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DnsMetrics"]


class DnsMetrics:
    """How often a name was asked for and what came of it, and how old the answer in use is.

    Args:
        registry: where they are; None: nowhere.
        source: what is asked for, as in the configuration.
        kind: the type of record, as linkerd2-proxy labels it.
    """

    __slots__ = ("_age", "_registry", "failed_total", "found_total", "not_found_total")

    def __init__(self, registry: Registry | None, source: str, kind: str) -> None:
        self._registry = registry
        if registry is None:
            registry = Registry()
        resolutions = registry.counter(
            "control_dns_resolutions_total",
            "Questions to DNS, by what came of them.",
            "client",
            "record_type",
            "result",
        )
        self.found_total = resolutions.labels(source, kind, "ok")
        self.not_found_total = resolutions.labels(source, kind, "not_found")
        self.failed_total = resolutions.labels(source, kind, "error")
        self._age = registry.gauge(
            "dns_answer_age_seconds",
            "Seconds since DNS last told the endpoints that are in use; +Inf: never yet.",
            "source",
        ).labels(source)

    def found(self) -> None:
        """Counts an answer."""
        self.found_total.value += 1

    def not_found(self) -> None:
        """Counts an answer that there is nothing."""
        self.not_found_total.value += 1

    def failed(self) -> None:
        """Counts a question that nobody answered."""
        self.failed_total.value += 1

    @contextmanager
    def watching(self, age: Callable[[], float]) -> Iterator[None]:
        """Until the end of the block, *age* is asked at each scrape."""

        def collect() -> None:
            self._age.value = age()

        forget = self._registry.collect(collect) if self._registry is not None else None
        try:
            yield
        finally:
            if forget is not None:
                forget()
