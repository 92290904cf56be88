"""The power of two choices: of two endpoints drawn at random, the less loaded one (B-01)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.layers.balance.ready import Candidate, Ready

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


class P2cPicker:
    """The state of :class:`P2c`."""

    __slots__ = ("_random", "_tolerance", "ready")

    def __init__(self, options: P2c, rng: random.Random) -> None:
        self._tolerance = options.tolerance
        self._random = rng.random
        self.ready = Ready(rng)

    def pick(self, now: float, request: object = None, /) -> Candidate | None:
        """See :class:`Picker`: two loads are compared, whatever the number of endpoints."""
        ready = self.ready
        count = len(ready.members)
        if count < 2:
            if not count:
                return None
            chosen = ready.members[0]
        else:
            if ready.uniform:
                # The same as `two()`, here where every request passes.
                members = ready.members
                first = int(self._random() * count)
                second = int(self._random() * (count - 1))
                chosen, other = members[first], members[second + (second >= first)]
                load, others = chosen.load.load(now, 1.0), other.load.load(now, 1.0)
            else:
                chosen, other = ready.two()
                mean = ready.total / count
                load = chosen.load.load(now, mean / chosen.weight)
                others = other.load.load(now, mean / other.weight)
            tolerance = self._tolerance
            if others * tolerance < load or (load * tolerance >= others and other.served < chosen.served):
                chosen = other
        ready.give(chosen)
        return chosen
