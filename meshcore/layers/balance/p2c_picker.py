"""Who is picked by the power of two choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.layers.balance.ready import Candidate, Ready

if TYPE_CHECKING:
    import random

    from meshcore.layers.balance.p2c import P2c

__all__ = ["P2cPicker"]


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
