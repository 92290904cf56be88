"""Which requests are measured: all of them while they are few, and a fair choice of them while they are many."""

from __future__ import annotations

import random

__all__ = ["EVERY", "Sampler"]

EVERY = 0.02
"""Seconds between two measured requests, on average, while there are many."""
_SAVED = 50.0
"""Measurements that a quiet time saves up: so many requests in a row are measured, however fast they come."""
_LARGEST = 100_000.0


class Sampler:
    """Chooses requests that stand for others.

    Requests come in blocks, whose size follows from how fast the last ones came.  One of each block is measured, any of
    them as likely as the others, and stands for the whole block; so each request is worth one on average, whatever the
    sizes and the rhythm of the requests, and the weights add up to the number of requests at the end of each block.

    Attributes:
        left: requests that are passed over before the next one is measured.
        mean: one request in so many is measured.
    """

    __slots__ = (
        "_ahead",
        "_drawn",
        "_every",
        "_last",
        "_looked",
        "_owed",
        "_random",
        "_rest",
        "_saved",
        "_size",
        "_taken",
        "left",
        "mean",
    )

    def __init__(self, seed: int = 0, every: float = EVERY) -> None:
        self.left = 0
        self.mean = 1.0
        self._every = every
        # The block that the next one is of, and what comes after that one in it.
        self._size = 1
        self._rest = 0
        # What *left* was at first, and how many more than had come the weights were then.
        self._drawn = 0
        self._ahead = 0
        # Of blocks that were cut short: requests that nothing stands for, or, below zero, that never came.
        self._owed = 0
        self._last = 0.0
        self._saved = _SAVED
        self._taken = 0
        self._looked = 0
        self._random = random.Random(seed)

    @property
    def waiting(self) -> int:
        """Requests that have come and that nothing stands for yet; below zero: those that are still to come of a block
        whose one has been measured."""
        return self._drawn - self.left - self._ahead + self._owed

    def take(self, now: float) -> int:
        """How many requests the one that is measured now stands for; draws the next one."""
        weight = self._size
        came = self._drawn + 1
        self._ahead += weight - came
        owed = self._owed
        if owed:
            paid = max(owed, 1 - weight)
            self._owed = owed - paid
            weight += paid
        self._taken += 1
        self._pace(came, now)
        mean = self.mean
        rest = self._rest
        if mean == 1.0:
            self._size = 1
            self._rest = 0
            self._drawn = self.left = rest
            return weight
        uniform = self._random.random
        size = int(mean + uniform())
        at = int(uniform() * size)
        self._size = size
        self._rest = size - 1 - at
        self._drawn = self.left = rest + at
        return weight

    def _pace(self, came: int, now: float) -> None:
        """Says how large the next block is, from how many have come since the last one was measured."""
        passed = now - self._last
        self._last = now
        saved = self._saved + passed / self._every
        if saved > _SAVED:
            saved = _SAVED
        saved -= 1.0
        if saved < -_SAVED:
            saved = -_SAVED
        self._saved = saved
        mean = self.mean
        if (mean == 1.0 and saved >= 0.0) or saved >= _SAVED / 2:
            self.mean = 1.0
            return
        # No more than twice as much at once: two that come together are no rate yet.
        wanted = 2.0 * mean
        if passed > 0.0 and came * self._every < wanted * passed:
            wanted = came * self._every / passed
        self.mean = min(max(wanted, 1.0), _LARGEST)

    def look(self) -> None:
        """To be called about once a second: has the next request measured if none was since the last time, since
        whoever comes after a rush is to be seen at once."""
        if self._taken == self._looked and self.left:
            self._owed = self.waiting
            self._ahead = 0
            self._drawn = self.left = 0
            self._size = 1
            self._rest = 0
            self.mean = 1.0
        self._looked = self._taken
