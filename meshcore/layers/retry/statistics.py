"""What is counted of retries, and the metrics of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.metrics.labels import extra_labels

if TYPE_CHECKING:
    from meshcore.metrics.prometheus import Labels
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["RetryCounts", "RetryStatistics"]


@attrs.frozen
class RetryStatistics:
    """What was retried.

    Attributes:
        requests: all that came.
        retries: further tries made.
        recovered: requests that failed first and got a response that is no failure from a further try.
        no_budget: retries that the budget did not allow.
        not_replayable: retries that the request's body did not allow: it is too long, or had not ended (R-11).
        balance: tokens that the budget had when it was last asked.
        limit_exceeded: requests whose tries were used up.
        overflow: retries given up since no endpoint was ready (R-12).
        hedges: second tries beside the first.
        hedges_won: those that were answered first.
        left: the part of the budget that is left, 0 to 1.
    """

    requests: int
    retries: int
    recovered: int
    no_budget: int
    not_replayable: int
    balance: float
    limit_exceeded: int = 0
    overflow: int = 0
    hedges: int = 0
    hedges_won: int = 0
    left: float = 1.0


_FAMILIES = {
    "requests": "Further tries that were made.",
    "successes": "Requests that failed first and succeeded at a further try.",
    "limit_exceeded": "Requests whose tries were used up.",
    "overflow": "Further tries given up since no endpoint was ready.",
}


class RetryCounts:
    """The counters of one target: those of ``/stack``, and linkerd's series where there is a registry."""

    __slots__ = (
        "_cells",
        "_labels",
        "_registry",
        "hedges",
        "hedges_won",
        "limit_exceeded",
        "no_budget",
        "not_replayable",
        "overflow",
        "recovered",
        "retries",
    )

    def __init__(self, registry: Registry | None, target: object) -> None:
        self._registry = registry
        self._labels = extra_labels(target)
        self._cells: dict[tuple[str, bool], Counter] = {}
        self.retries = 0
        self.recovered = 0
        self.no_budget = 0
        self.not_replayable = 0
        self.limit_exceeded = 0
        self.overflow = 0
        self.hedges = 0
        self.hedges_won = 0

    def tried(self, grpc: bool) -> None:
        """A further try."""
        self.retries += 1
        self._count("requests", grpc)

    def won(self, grpc: bool) -> None:
        """A further try has succeeded."""
        self.recovered += 1
        self._count("successes", grpc)

    def exceeded(self, grpc: bool) -> None:
        """The last try has failed, too."""
        self.limit_exceeded += 1
        self._count("limit_exceeded", grpc)

    def overflowed(self, grpc: bool) -> None:
        """There was nobody to try again with."""
        self.overflow += 1
        self._count("overflow", grpc)

    def skipped(self, reason: str) -> None:
        """A further try that was not allowed: ``"no_budget"`` or ``"body"``."""
        if reason == "no_budget":
            self.no_budget += 1
        else:
            self.not_replayable += 1
        if self._registry is not None:
            cell = self._cells.get((reason, False))
            if cell is None:
                family = self._registry.counter("route_retryable_total", "Further tries that were not made.", "skipped")
                cell = self._cells[reason, False] = family.labels(reason, extra=self._legacy())
            cell.value += 1

    def _legacy(self) -> Labels:
        """The labels as the ``route_*`` families have them."""
        names = {"parent_name": "dst", "route_name": "rt_route"}
        return (("direction", "outbound"), *((names.get(name, name), value) for name, value in self._labels))

    def _count(self, what: str, grpc: bool) -> None:
        if self._registry is None:
            return
        cell = self._cells.get((what, grpc))
        if cell is None:
            name = f"outbound_{'grpc' if grpc else 'http'}_route_retry_{what}_total"
            family = self._registry.counter(name, _FAMILIES[what])
            cell = self._cells[what, grpc] = family.labels(extra=self._labels)
        cell.value += 1
