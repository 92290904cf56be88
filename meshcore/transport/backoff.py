"""Backoff: how long to wait before the next attempt.  Pure: no clock, randomness handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import random

__all__ = ["Backoff"]


@attrs.frozen
class Backoff:
    """Exponential backoff with jitter (B-20): ``minimum`` · 2ⁿ, at most ``maximum``, plus up to ``jitter`` of that.

    Attributes:
        minimum: seconds after the first failure.
        maximum: seconds at the most, before jitter.
        jitter: the part of the delay that is added at most, uniformly.
    """

    minimum: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    maximum: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    jitter: float = attrs.field(default=0.1, validator=attrs.validators.ge(0))

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failures in a row (1 is the first)."""
        # The exponent is bounded: 2.0**1024 is an OverflowError.
        base = min(self.minimum * 2.0 ** min(max(failures - 1, 0), 63), self.maximum)
        return base + base * self.jitter * rng.random()
