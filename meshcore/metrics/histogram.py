"""Histograms: how many observations fell into each bucket, and their sum."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from meshcore._native import mypyc_attr

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LATENCY_MS", "Buckets", "Histogram"]

LATENCY_MS: tuple[float, ...] = tuple(step * scale for scale in (1, 10, 100, 1_000, 10_000) for step in (1, 2, 3, 4, 5))
"""The upper bounds of ``response_latency_ms`` (M-03): 1 to 5, 10 to 50 … 10000 to 50000."""


class Buckets:
    """What a histogram has counted: for those who count in it, and hold it; a compiler knows where all this is.

    Attributes:
        bounds: the buckets' upper bounds, inclusive, ascending, without infinity.
        counts: observations in each bucket alone, the last one for what is above every bound.
        total: the sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts *value* in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@mypyc_attr(native_class=False)
class Histogram:
    """One series of a histogram: a cell.

    Attributes:
        buckets: what it has counted.
    """

    __slots__ = ("__weakref__", "buckets")

    def __init__(self, bounds: Sequence[float] = LATENCY_MS) -> None:
        bounds = tuple(bounds)
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"bounds have to ascend: {bounds}")
        self.buckets = Buckets(bounds)

    def __repr__(self) -> str:
        return f"<Histogram count={self.count} total={self.total}>"

    def observe(self, value: float) -> None:
        """Counts *value* in the first bucket whose bound is not below it."""
        self.buckets.observe(value)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The buckets' upper bounds, inclusive, ascending, without infinity."""
        return self.buckets.bounds

    @property
    def counts(self) -> list[int]:
        """Observations in each bucket alone, the last one for what is above every bound."""
        return self.buckets.counts

    @property
    def total(self) -> float:
        """The sum of all observations."""
        return self.buckets.total

    def add(self, other: Histogram) -> None:
        """Counts what *other* has counted, too; its bounds are the same."""
        counts = self.counts
        for index, count in enumerate(other.counts):
            counts[index] += count
        self.buckets.total += other.total

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    @property
    def version(self) -> float:
        """A number that changes with every observation."""
        return sum(self.counts)
