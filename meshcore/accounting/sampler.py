"""Which requests are measured: all of them while they are few, and a fair choice of them while they are many."""

from __future__ import annotations

import random

__all__ = ["EVERY", "Sampler"]

EVERY = 0.01
"""Seconds between two measured requests, on average, while there are many."""
_SAVED = 50.0
"""Measurements that a quiet time saves up: so many requests in a row are measured, however fast they come."""
_LARGEST = 100_000.0


class Sampler:
    """Chooses requests that stand for others.

    The next one is as many requests away as was drawn when the last one came, and stands for all that were passed
    over on the way: the numbers drawn do not depend on the requests, so that none is more likely than
    another to be chosen, and the weights add up to all of them.  How far away it is on average follows from how
    fast the last ones came.

    Attributes:
        left: requests that are passed over before the next one is measured.
        mean: one request in so many is measured.
    """

    __slots__ = ("_drawn", "_every", "_last", "_looked", "_random", "_saved", "_taken", "left", "mean")

    def __init__(self, seed: int = 0, every: float = EVERY) -> None:
        self.left = 0
        self.mean = 1.0
        self._drawn = 1
        self._every = every
        self._last = 0.0
        self._saved = _SAVED
        self._taken = 0
        self._looked = 0
        self._random = random.Random(seed)

    @property
    def waiting(self) -> int:
        """Requests that were passed over, and that none stands for yet."""
        return self._drawn - 1 - self.left

    def take(self, now: float) -> int:
        """How many requests the one that is measured now stands for; draws the next one."""
        weight = self._drawn
        passed = now - self._last
        self._last = now
        self._taken += 1
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
            self._drawn = 1
            self.left = 0
            return weight
        # No more than twice as far at once: two that come together are no rate yet.
        wanted = 2.0 * mean
        if passed > 0.0 and weight * self._every < wanted * passed:
            wanted = weight * self._every / passed
        mean = min(max(wanted, 1.0), _LARGEST)
        self.mean = mean
        # From 1 to twice the mean, so that no rhythm of the requests is met by one here.
        drawn = 1 + int(self._random.random() * (2.0 * mean - 1.0))
        self._drawn = drawn
        self.left = drawn - 1
        return weight

    def look(self) -> None:
        """To be called about once a second: measures the next request if none was since the last time, since whoever
        comes after a rush is to be seen at once."""
        if self._taken == self._looked and self.left:
            self._drawn -= self.left
            self.left = 0
            self.mean = 1.0
        self._looked = self._taken
