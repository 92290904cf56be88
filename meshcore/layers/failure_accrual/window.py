"""The success rate of the last seconds.  Pure: time is handed in."""

from __future__ import annotations

__all__ = ["BUCKETS", "Window"]

BUCKETS = 10
"""Pieces of a window: what is older leaves it one piece at a time (B-15)."""


class Window:
    """Counts results over the last *seconds*, in a ring of ``BUCKETS`` pieces.

    Attributes:
        total: results in the window, as of the last look.
        failed: those of them that were failures.
    """

    __slots__ = ("_current", "_ends", "_failed", "_index", "_total", "_width", "failed", "total")

    def __init__(self, seconds: float) -> None:
        # Pieces of less than a millisecond would be noise (B-15: a window has 10 ms at least).
        self._width = max(seconds / BUCKETS, 0.001)
        self._current: int | None = None
        self.reset()

    def add(self, now: float, failure: bool) -> None:
        """One more result."""
        if now >= self._ends:
            self.advance(now)
        index = self._index
        self._total[index] += 1
        self.total += 1
        if failure:
            self._failed[index] += 1
            self.failed += 1

    def advance(self, now: float) -> None:
        """Lets go of what has become too old."""
        piece = int(now / self._width)
        current = self._current
        if current is not None:
            if piece <= current:
                # The same piece; or a clock that went back, which ages nothing.
                return
            if piece - current >= BUCKETS:
                self.reset()
            else:
                for gone in range(current + 1, piece + 1):
                    index = gone % BUCKETS
                    self.total -= self._total[index]
                    self.failed -= self._failed[index]
                    self._total[index] = self._failed[index] = 0
        self._current = piece
        self._index = piece % BUCKETS
        self._ends = (piece + 1) * self._width

    def reset(self) -> None:
        """Forgets everything."""
        self._total = [0] * BUCKETS
        self._failed = [0] * BUCKETS
        self.total = self.failed = 0
        self._current = None
        self._index = 0
        self._ends = float("-inf")

    @property
    def success_rate(self) -> float:
        """The part of the results that were none; 1.0 of nothing."""
        return 1.0 - self.failed / self.total if self.total else 1.0
