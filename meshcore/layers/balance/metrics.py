"""What balancers count, under linkerd2-proxy's names."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BalanceMetrics"]

_SECONDS = (0.0005, 0.005, 0.05, 0.5, 1.0, 3.0)


class BalanceMetrics:
    """The cells of one balancer.  A request that does not wait costs nothing.

    Args:
        registry: where they are; None: nowhere.
        scope: what the families' names begin with: ``"outbound_http"``.
        backend: the label.

    Attributes:
        added_total, removed_total, reset_total: endpoints that discovery has added and removed, and how often it has
            named them.
        waited_total: requests that had to wait for an endpoint.
        waits: how long.
        shut_total, opened_total: how often waiting was given up for everyone, and how often it began again.
    """

    __slots__ = (
        "_known",
        "_length",
        "_pending",
        "_ready",
        "_registry",
        "added_total",
        "opened_total",
        "removed_total",
        "reset_total",
        "shut_total",
        "waited_total",
        "waits",
    )

    def __init__(self, registry: Registry | None, scope: str, backend: str) -> None:
        self._registry = registry
        if registry is None:
            registry = Registry()
        name, label = f"{scope}_balancer", "backend_name"
        endpoints = registry.gauge(
            f"{name}_endpoints", "Endpoints that may be picked (ready), and the others.", label, "endpoint_state"
        )
        self._ready = endpoints.labels(backend, "ready")
        self._pending = endpoints.labels(backend, "pending")
        self._known = registry.gauge(f"{name}_p2c_endpoints", "Endpoints that discovery names.", label).labels(backend)
        updates = registry.counter(
            f"{name}_p2c_updates_total",
            "Updates from discovery (Reset), and the endpoints that they added or removed.",
            label,
            "op",
        )
        self.reset_total, self.added_total, self.removed_total = (
            updates.labels(backend, op) for op in ("Reset", "Add", "Remove")
        )
        self._length = registry.gauge(f"{name}_queue_length", "Requests that wait for an endpoint.", label).labels(
            backend
        )
        self.waited_total = registry.counter(
            f"{name}_queue_requests_total", "Requests that had to wait for an endpoint.", label
        ).labels(backend)
        self.waits = registry.histogram(
            f"{name}_queue_latency_seconds",
            "How long requests waited that had to wait for an endpoint.",
            label,
            buckets=_SECONDS,
        ).labels(backend)
        self.opened_total = registry.counter(
            f"{name}_queue_gate_open_total", "How often an endpoint became ready after failing fast.", label
        ).labels(backend)
        self.shut_total = registry.counter(
            f"{name}_queue_gate_shut_total", "How often all who waited failed, and failing fast began.", label
        ).labels(backend)

    @contextmanager
    def watching(self, counts: Callable[[], tuple[int, int, int]]) -> Iterator[None]:
        """Until the end of the block, *counts* is asked at each scrape: endpoints that may be picked, all of them, and
        requests that wait."""

        def collect() -> None:
            ready, known, waiting = counts()
            self._ready.value, self._pending.value = ready, known - ready
            self._known.value, self._length.value = known, waiting

        forget = self._registry.collect(collect) if self._registry is not None else None
        try:
            yield
        finally:
            if forget is not None:
                collect()
                forget()
