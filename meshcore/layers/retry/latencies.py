"""How long requests took of late.  Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.http.hedge import Hedge

__all__ = ["Latencies"]


class Latencies:
    """The latencies of the last *size* requests, in their order and sorted."""

    __slots__ = ("_recent", "_size", "_sorted")

    _ENOUGH = 20

    def __init__(self, size: int = 128) -> None:
        self._size = size
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """One more."""
        recent = self._recent
        if len(recent) >= self._size:
            oldest = recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        recent.append(seconds)
        insort(self._sorted, seconds)

    def delay(self, hedge: Hedge) -> float:
        """Seconds after which a second try is begun."""
        known = self._sorted
        if not hedge.percentile or len(known) < self._ENOUGH:
            return hedge.delay
        return known[min(int(hedge.percentile * len(known)), len(known) - 1)]
