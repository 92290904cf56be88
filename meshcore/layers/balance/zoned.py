"""The own zone first, and the others where that is not enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.layers.balance.ready import Candidate, Pickable, Picker, Policy

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Container, Sequence

    from meshcore.transport.target import Endpoint

__all__ = ["Zoned", "ZonedPicker"]


@attrs.frozen
class Zoned:
    """Picks by another policy among the endpoints of one zone, for as long as there are enough and they are not too
    busy, and among the rest otherwise.

    Attributes:
        policy: who gets a request within a zone.
        zone: the own one.
        enough: the part of the zone's endpoints that has to be ready for them to get everything; of fewer each gets no
            more than it would then, and the rest goes elsewhere.
        spill_over: requests under way at an endpoint of the zone (without a first byte of an answer) from which on one
            of another zone with fewer is preferred; None: none.
    """

    policy: Policy
    zone: str
    enough: float = attrs.field(default=0.7, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    spill_over: int | None = 100

    def start(self, rng: random.Random, /) -> ZonedPicker:
        """See :class:`Policy`."""
        return ZonedPicker(self, rng)


class ZonedPicker:
    """The state of :class:`Zoned`.

    Attributes:
        ready: see :class:`Picker`.
    """

    __slots__ = ("_enough", "_near", "_of_zone", "_others", "_random", "_spill_over", "_zone", "ready")

    def __init__(self, options: Zoned, rng: random.Random) -> None:
        self._zone = options.zone
        self._near: Picker = options.policy.start(rng)
        self._others: Picker = options.policy.start(rng)
        self._enough = options.enough
        self._spill_over = options.spill_over
        self._random: Callable[[], float] = rng.random
        self._of_zone = 0
        self.ready = _Zones(options.zone, self._near.ready, self._others.ready)

    def known(self, endpoints: Sequence[Endpoint]) -> None:
        """See :class:`Picker`: how many the zone has, ready or not."""
        self._of_zone = sum(endpoint.zone == self._zone for endpoint in endpoints)
        for picker in (self._near, self._others):
            known = getattr(picker, "known", None)
            if known is not None:
                known(endpoints)

    def pick(self, now: float, request: object = None, /) -> Candidate | None:
        """See :class:`Picker`."""
        near, others = self._near, self._others
        count = len(near.ready)
        if not count:
            return others.pick(now, request)
        if not len(others.ready):
            return near.pick(now, request)
        wanted = self._of_zone * self._enough
        if count < wanted and self._random() * wanted >= count:
            return others.pick(now, request)
        chosen = near.pick(now, request)
        if self._spill_over is not None and chosen is not None and chosen.load.pending >= self._spill_over:
            other = others.pick(now, request)
            if other is not None:
                if other.load.pending < chosen.load.pending:
                    near.ready.take_back(chosen)
                    return other
                others.ready.take_back(other)
        return chosen


class _Zones:
    """The ready endpoints of the own zone, and those of the others: see :class:`Pickable`."""

    __slots__ = ("_near", "_others", "_zone")

    def __init__(self, zone: str, near: Pickable, others: Pickable) -> None:
        self._zone = zone
        self._near = near
        self._others = others

    def _of(self, member: Candidate) -> Pickable:
        return self._near if member.endpoint.zone == self._zone else self._others

    def __len__(self) -> int:
        return len(self._near) + len(self._others)

    @property
    def members(self) -> Sequence[Candidate]:
        """Those of the own zone first."""
        return [*self._near.members, *self._others.members]

    def add(self, member: Candidate) -> None:
        """See :class:`Pickable`."""
        self._of(member).add(member)

    def remove(self, member: Candidate) -> None:
        """See :class:`Pickable`."""
        self._of(member).remove(member)

    def give(self, member: Candidate) -> None:
        """See :class:`Pickable`."""
        self._of(member).give(member)

    def take_back(self, member: Candidate) -> None:
        """See :class:`Pickable`."""
        self._of(member).take_back(member)

    def some(self, count: int) -> Sequence[Candidate]:
        """See :class:`Pickable`: those of the own zone, if there are any."""
        return self._near.some(count) or self._others.some(count)

    def outside(self, avoid: Container[Endpoint]) -> Candidate | None:
        """See :class:`Pickable`: one of the own zone, if there is one."""
        found = self._near.outside(avoid) if len(self._near) else None
        return found or (self._others.outside(avoid) if len(self._others) else None)
