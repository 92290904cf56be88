"""The endpoints that may be picked, and the fairness among those that are equally good."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from meshcore._native import mypyc_attr

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Container, Sequence

    from meshcore.layers.balance.load import EndpointLoad
    from meshcore.transport.target import Endpoint

__all__ = ["Candidate", "Pickable", "Picker", "Policy", "Ready"]

_SLACK = 16.0


class Candidate(Protocol):
    """What a policy knows of an endpoint.

    Attributes:
        endpoint: who it is.
        weight: its share, above 0.
        load: how loaded it is.
        slot: its place in the list of the ready ones; -1: not among them.
        served: how much it was given, in requests by weight: a virtual time.
    """

    endpoint: Endpoint
    weight: float
    load: EndpointLoad
    slot: int
    served: float


class Pickable(Protocol):
    """The endpoints that may be picked; see :class:`Ready`, which most policies have."""

    @property
    def members(self) -> Sequence[Candidate]:
        """Them, in no order."""
        ...

    def __len__(self) -> int: ...

    def add(self, member: Candidate) -> None:
        """*member* may be picked from now on."""

    def remove(self, member: Candidate) -> None:
        """*member* is not picked any more, if it was."""

    def give(self, member: Candidate) -> None:
        """*member* was picked."""

    def take_back(self, member: Candidate) -> None:
        """*member* did not take what it was given."""

    def outside(self, avoid: Container[Endpoint]) -> Candidate | None:
        """Some member whose endpoint is not in *avoid*; None if all are."""
        ...

    def some(self, count: int) -> Sequence[Candidate]:
        """A few of them, at most *count*."""
        ...


class Picker(Protocol):
    """The state of a policy for one balancer.

    A picker that wants to know all endpoints, not only those that may be picked, has a method ``known(endpoints)``,
    which is called with those of a weight above 0 whenever discovery has named them.
    """

    @property
    def ready(self) -> Pickable:
        """The endpoints that may be picked."""
        ...

    def pick(self, now: float, request: object = None, /) -> Candidate | None:
        """Who gets *request* (or connection), which is the next; None if nobody is ready."""
        ...


class Policy(Protocol):
    """A way to choose: a frozen value that makes one picker for each balancer."""

    def start(self, rng: random.Random, /) -> Picker:
        """The picker of a new balancer."""
        ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Ready:
    """The ready endpoints: added, removed and sampled in constant time, whatever their number.

    Attributes:
        members: them, in no order.
        total: the sum of their weights.
        uniform: whether all weights are equal.
    """

    __slots__ = ("_cumulative", "_random", "_weights", "clock", "members", "total", "uniform")

    def __init__(self, rng: random.Random) -> None:
        self._random: Callable[[], float] = rng.random
        self.members: list[Candidate] = []
        self.total = 0.0
        self.uniform = True
        # What everyone would have been given by now, were all shares exact.
        self.clock = 0.0
        self._weights: dict[float, int] = {}
        self._cumulative: list[float] | None = None

    def __len__(self) -> int:
        return len(self.members)

    def add(self, member: Candidate) -> None:
        """*member* may be picked from now on; what it was not given before it does not get later."""
        member.slot = len(self.members)
        self.members.append(member)
        member.served = max(member.served, self.clock)
        self._weights[member.weight] = self._weights.get(member.weight, 0) + 1
        self._changed()

    def remove(self, member: Candidate) -> None:
        """*member* is not picked any more."""
        slot = member.slot
        if slot < 0:
            return
        member.slot = -1
        last = self.members.pop()
        if last is not member:
            self.members[slot] = last
            last.slot = slot
        count = self._weights[member.weight] - 1
        if count:
            self._weights[member.weight] = count
        else:
            del self._weights[member.weight]
        self._changed()

    def _changed(self) -> None:
        self.total = sum(weight * count for weight, count in self._weights.items())
        self.uniform = len(self._weights) <= 1
        self._cumulative = None

    def two(self) -> tuple[Candidate, Candidate]:
        """Two distinct members, drawn by weight; there have to be two."""
        members = self.members
        count = len(members)
        if self.uniform:
            first = int(self._random() * count)
            second = int(self._random() * (count - 1))
            return members[first], members[second + (second >= first)]
        cumulative = self._cumulative
        if cumulative is None:
            cumulative = self._cumulative = list(accumulate(member.weight for member in members))
        first = min(bisect_right(cumulative, self._random() * cumulative[-1]), count - 1)
        # The second one is drawn from what is left when the first one's piece has been cut out.
        before = cumulative[first - 1] if first else 0.0
        weight = members[first].weight
        place = self._random() * (cumulative[-1] - weight)
        second = min(bisect_right(cumulative, place if place < before else place + weight), count - 1)
        if second == first:
            second = first - 1 if first else 1
        return members[first], members[second]

    def give(self, member: Candidate) -> None:
        """*member* was picked.  Whoever was left out, or preferred, for long is a few requests behind, or
        ahead, at the most: there is no catching up with all that it missed."""
        share = 1.0 / member.weight
        clock = self.clock
        ahead = member.served - clock
        if ahead > _SLACK * share:
            ahead = _SLACK * share
        elif ahead < -_SLACK * share:
            ahead = -_SLACK * share
        member.served = clock + ahead + share
        self.clock = clock + 1.0 / self.total

    def take_back(self, member: Candidate) -> None:
        """*member* could not serve what it was given: nobody is behind, or ahead, for that."""
        total = self.total if member.slot >= 0 else self.total + member.weight
        self.clock -= 1.0 / total
        member.served -= 1.0 / member.weight

    def some(self, count: int) -> Sequence[Candidate]:
        """A few of them, at most *count*."""
        return self.members[:count]

    def outside(self, avoid: Container[Endpoint]) -> Candidate | None:
        """Some member whose endpoint is not in *avoid*, from a random place on; None if all are."""
        members = self.members
        count = len(members)
        start = int(self._random() * count)
        for offset in range(count):
            member = members[(start + offset) % count]
            if member.endpoint not in avoid:
                return member
        return None
