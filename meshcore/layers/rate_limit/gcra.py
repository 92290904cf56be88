"""GCRA, the generic cell rate algorithm (ITU-T I.371): a leaky bucket that is one number.  Pure: time is handed in.

What is remembered of a bucket is when it would be full again, had nothing more come.  A request is let in if that
moment, one interval later, is no more than a burst's intervals from now.  In any span of *w* seconds a bucket lets in
``burst + w * rps`` at the most.  Times are whole nanoseconds, so that nothing is lost by rounding, and an interval is
rounded up, so that the rate never is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["MAX_KEYS", "Bucket", "Buckets", "Rate", "nanoseconds"]

MAX_KEYS = 10_000
"""Buckets kept by key, where nobody says otherwise."""

_SECOND = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """A reading of a clock as buckets take it."""
    return int(seconds * _SECOND)


def _burst(rate: Rate) -> int:
    return max(1, math.floor(rate.rps))


@attrs.frozen
class Rate:
    """How much is let in.

    Attributes:
        rps: requests a second, on average; 0.1 is one in ten seconds.
        burst: how many may come at once; by default as many as in a second, at least one.
    """

    rps: float = attrs.field(validator=[attrs.validators.ge(0.001), attrs.validators.le(1e6)])
    burst: int = attrs.field(default=attrs.Factory(_burst, takes_self=True), validator=attrs.validators.ge(1))

    def __str__(self) -> str:
        return f"{self.rps:g}rps"

    @property
    def interval(self) -> int:
        """Nanoseconds between requests that come evenly."""
        return math.ceil(_SECOND / self.rps)

    @property
    def depth(self) -> int:
        """Nanoseconds in which an empty bucket fills."""
        return self.interval * self.burst


class Bucket:
    """One bucket, full at first."""

    __slots__ = ("_depth", "_full", "_interval")

    def __init__(self, rate: Rate) -> None:
        self._interval = rate.interval
        self._depth = rate.depth
        # When it is full again; in the past, it is.
        self._full = -1

    def take(self, now: int) -> int:
        """Takes one token: 0; or, if there is none, the nanoseconds until there will be one."""
        full = self._full
        later = (full if full > now else now) + self._interval
        wait = later - self._depth - now
        if wait > 0:
            return wait
        self._full = later
        return 0


class Buckets:
    """A bucket for each key, at most *most* of them.

    A bucket that is full again is like one that never was, and goes first.  Beyond *most* the key that was not asked
    for the longest is forgotten: should it come back, it has a whole burst again.

    Attributes:
        forgotten: buckets that were forgotten before they were full.
    """

    __slots__ = ("_depth", "_full", "_interval", "_most", "forgotten")

    def __init__(self, rate: Rate, most: int = MAX_KEYS) -> None:
        self._interval = rate.interval
        self._depth = rate.depth
        self._most = most
        # By key, the one that was asked for last at the end.
        self._full: OrderedDict[Hashable, int] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._full)

    def take(self, key: Hashable, now: int) -> int:
        """Takes one token of *key*: 0; or, if there is none, the nanoseconds until there will be one."""
        known = self._full
        full = known.get(key)
        if full is None:
            self._make_room(now)
            known[key] = now + self._interval
            return 0
        known.move_to_end(key)
        later = (full if full > now else now) + self._interval
        wait = later - self._depth - now
        if wait > 0:
            return wait
        known[key] = later
        return 0

    def _make_room(self, now: int) -> None:
        known = self._full
        # Two go for one that comes, so that what is not needed any more is gone in time, at a constant cost.
        for _ in range(2):
            if not known or known[next(iter(known))] > now:
                break
            known.popitem(last=False)
        if len(known) >= self._most:
            known.popitem(last=False)
            self.forgotten += 1
