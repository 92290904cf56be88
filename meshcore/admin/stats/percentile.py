"""Percentiles of what fell into a histogram's buckets.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["percentile", "percentiles"]


def percentile(part: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The value that *part* of the observations did not exceed, as Prometheus's ``histogram_quantile`` has it: evenly
    spread within a bucket, from 0 in the first one; the highest bound for what is above all of them.

    Args:
        part: 0.99 for the 99th percentile.
        bounds: the buckets' upper bounds, ascending, without infinity.
        counts: observations in each bucket alone, the last one for what is above every bound.

    Returns:
        None of nothing.
    """
    return percentiles((part,), bounds, counts)[0]


def percentiles(parts: Sequence[float], bounds: Sequence[float], counts: Sequence[float]) -> list[float | None]:
    """The same for several ascending *parts*, in one go."""
    total = sum(counts)
    if total <= 0:
        return [None] * len(parts)
    found: list[float | None] = []
    below = 0.0
    lower = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count > 0:
            while len(found) < len(parts) and below + count >= parts[len(found)] * total:
                found.append(lower + (bound - lower) * max(parts[len(found)] * total - below, 0.0) / count)
            below += count
        lower = bound
        if len(found) == len(parts):
            return found
    return found + [bounds[-1]] * (len(parts) - len(found))
