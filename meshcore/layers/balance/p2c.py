"""The power of two choices: of two endpoints drawn at random, the less loaded one (B-01)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.layers.balance.p2c_picker import P2cPicker

if TYPE_CHECKING:
    import random

__all__ = ["P2c", "P2cPicker"]


@attrs.frozen
class P2c:
    """Draws two distinct ready endpoints by weight and takes the one with the lower load.

    Latency is noise up to a factor: a single slow answer of many equal endpoints would send their traffic
    elsewhere for seconds.  Loads that differ by less than *tolerance* are a tie, and the tie goes to the
    one that was given less for its weight, so that equal endpoints get equal shares, exactly.

    Attributes:
        tolerance: the factor, at least 1 (which is no tolerance).
    """

    tolerance: float = attrs.field(default=2.0, validator=attrs.validators.ge(1))

    def start(self, rng: random.Random, /) -> P2cPicker:
        """See :class:`Policy`."""
        return P2cPicker(self, rng)
