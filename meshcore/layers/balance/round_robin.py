"""Everyone in turn, by weight."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

import attrs

from meshcore.layers.balance.ready import Candidate, Ready

if TYPE_CHECKING:
    import random

__all__ = ["RoundRobin", "RoundRobinPicker"]


@attrs.frozen
class RoundRobin:
    """Gives each request to the endpoint whose turn it is, whatever the load; one of weight 2 has two turns
    while the others have one, spread evenly (earliest deadline first)."""

    def start(self, rng: random.Random, /) -> RoundRobinPicker:
        """See :class:`Policy`."""
        return RoundRobinPicker(rng)


class _Turns(Ready):
    """The ready endpoints, with a queue of their turns."""

    __slots__ = ("_order", "queue")

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._order = count()
        self.queue: list[tuple[float, int, Candidate]] = []

    def add(self, member: Candidate) -> None:
        """See :class:`Ready`."""
        super().add(member)
        self.enqueue(member)

    def remove(self, member: Candidate) -> None:
        """See :class:`Ready`.  Takes its turn out of the queue, which costs as much as there are endpoints."""
        if member.slot >= 0:
            self.queue = [turn for turn in self.queue if turn[2] is not member]
            heapq.heapify(self.queue)
        super().remove(member)

    def enqueue(self, member: Candidate) -> None:
        """Its next turn."""
        heapq.heappush(self.queue, (member.served + 1.0 / member.weight, next(self._order), member))


class RoundRobinPicker:
    """The state of :class:`RoundRobin`."""

    __slots__ = ("ready",)

    def __init__(self, rng: random.Random) -> None:
        self.ready = _Turns(rng)

    def pick(self, now: float, request: object = None, /) -> Candidate | None:
        """See :class:`Picker`."""
        ready = self.ready
        if not ready.queue:
            return None
        member = heapq.heappop(ready.queue)[2]
        ready.give(member)
        ready.enqueue(member)
        return member
