"""Sums of what came within a window, and the golden metrics that they make.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.admin.stats.figures import Golden
from meshcore.admin.stats.percentile import percentiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Tally", "total"]


class Tally:
    """What came.

    Attributes:
        requests: as they began.
        successes, failures: answers, as they ended.
        latencies: how many fell into each bucket; empty: none was timed.
        bounds: of the buckets, in milliseconds.
    """

    __slots__ = ("bounds", "failures", "latencies", "requests", "successes")

    def __init__(self) -> None:
        self.requests: float = 0
        self.successes: float = 0
        self.failures: float = 0
        self.latencies: list[float] = []
        self.bounds: tuple[float, ...] = ()

    def timed(self, counts: Sequence[float], bounds: tuple[float, ...]) -> None:
        """More observations."""
        if not self.latencies:
            self.latencies, self.bounds = list(counts), bounds
        elif bounds == self.bounds:
            self.latencies = [one + other for one, other in zip(self.latencies, counts, strict=True)]

    def ended(self, failed: bool, number: float) -> None:
        """More answers."""
        if failed:
            self.failures += number
        else:
            self.successes += number

    def add(self, other: Tally, share: float = 1.0) -> None:
        """What another one has, too, or a part of it."""
        self.requests += other.requests * share
        self.successes += other.successes * share
        self.failures += other.failures * share
        if other.latencies:
            counts = other.latencies if share == 1.0 else [count * share for count in other.latencies]
            self.timed(counts, other.bounds)

    def golden(self, window: float) -> Golden:
        """The figures of a window of so many seconds."""
        ended = self.successes + self.failures
        p50, p95, p99 = percentiles((0.5, 0.95, 0.99), self.bounds, self.latencies)
        return Golden(
            requests=round(self.requests),
            rps=self.requests / window if window > 0 else 0.0,
            success=self.successes / ended if ended else None,
            p50=p50,
            p95=p95,
            p99=p99,
        )


def total(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    found = Tally()
    for each in tallies:
        found.add(each)
    return found
