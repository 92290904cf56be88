"""Consistent hashing with a table, as Maglev does it (Eisenbud and others, NSDI 2016)."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.layers.balance.hashing import HashBy
from meshcore.layers.balance.p2c import P2c, P2cPicker
from meshcore.layers.balance.ready import Candidate, Ready

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

__all__ = ["Maglev", "MaglevPicker", "hashed", "table_of"]

_BURST = 20.0
_RATE = 4.0
_FAR = 64


def _prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def _checked(instance: object, attribute: object, value: int) -> None:
    if not _prime(value):
        raise ValueError(f"the size of a table has to be a prime number: {value}")


@attrs.frozen
class Maglev:
    """Gives requests with the same key to the same endpoint, for as long as it is ready; the shares are equal within a
    per cent or two, or by weight, and when an endpoint comes or goes few keys of the others move.

    Every proxy that sees the same endpoints makes the same choice.  A request without a key goes to the better of two
    (:class:`P2c`).  Load is not looked at, so keys that many requests share make one endpoint busy; slow starts do not
    apply.  A change of the ready endpoints makes the table anew when the next request comes, which takes some
    milliseconds; with many changes in a row it is made four times a second, and in between who has gone is passed over.

    Attributes:
        hash: what is hashed.
        size: entries of the table, a prime number; a hundred times the endpoints keep shares within a per cent.
    """

    hash: HashBy
    size: int = attrs.field(default=16_381, validator=_checked)

    def start(self, rng: random.Random, /) -> MaglevPicker:
        """See :class:`Policy`."""
        return MaglevPicker(self, rng)


class MaglevPicker:
    """The state of :class:`Maglev`.

    Attributes:
        ready: see :class:`Picker`.
        changed: whether somebody has come or gone since the table was made.
    """

    __slots__ = ("_allowed", "_at", "_key", "_made_of", "_otherwise", "_size", "_table", "changed", "ready")

    def __init__(self, options: Maglev, rng: random.Random) -> None:
        self._key = options.hash.key
        self._size = options.size
        self._table: Sequence[Candidate] = ()
        self._made_of: dict[Candidate, float] = {}
        self.changed = False
        # How often the table may be made now, and when that was last looked at.
        self._allowed = _BURST
        self._at = 0.0
        self._otherwise = P2cPicker(P2c(), rng)
        self.ready: Ready = _Changing(rng, self)
        self._otherwise.ready = self.ready

    def pick(self, now: float, request: object = None, /) -> Candidate | None:
        """See :class:`Picker`."""
        key = self._key(request)
        if key is None:
            return self._otherwise.pick(now)
        if not self.ready.members:
            return None
        place = hashed(key) % self._size
        if self.changed and self._may(now):
            self._look()
        chosen = self._from(place)
        if chosen is None:
            self._look()
            chosen = self._table[place]
        self.ready.give(chosen)
        return chosen

    def _may(self, now: float) -> bool:
        self._allowed = min(self._allowed + max(now - self._at, 0.0) * _RATE, _BURST)
        self._at = now
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        return True

    def _from(self, place: int) -> Candidate | None:
        """The first in the table from *place* on that is ready still; None if that is far away."""
        table = self._table
        for step in range(min(len(table), _FAR)):
            member = table[(place + step) % self._size]
            if member.slot >= 0:
                return member
        return None

    def _look(self) -> None:
        """Makes the table anew, if it is of others, or their shares are."""
        self.changed = False
        # Of the endpoint's own weight: a slow start's is another every few seconds.
        made_of = {member: member.endpoint.weight for member in self.ready.members}
        if made_of != self._made_of:
            self._made_of = made_of
            self._table = table_of(list(made_of), self._size)


class _Changing(Ready):
    """The ready endpoints; the table's owner is told of changes."""

    __slots__ = ("_picker",)

    def __init__(self, rng: random.Random, picker: MaglevPicker) -> None:
        self._picker = picker
        super().__init__(rng)

    def add(self, member: Candidate) -> None:
        """See :class:`Ready`."""
        super().add(member)
        self._picker.changed = True

    def remove(self, member: Candidate) -> None:
        """See :class:`Ready`."""
        super().remove(member)
        self._picker.changed = True


def hashed(key: bytes) -> int:
    """64 bits of *key*, the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


def table_of(members: Sequence[Candidate], size: int) -> list[Candidate]:
    """The table: each member in turn takes the next free entry of its own permutation of all, as often as its weight
    says (§3.4 of the paper)."""
    # By name, so that every proxy has the same table.
    members = sorted(members, key=lambda member: str(member.endpoint))
    heaviest = max(member.endpoint.weight for member in members)
    turns: list[list[Any]] = []
    for member in members:
        digest = blake2b(str(member.endpoint).encode(), digest_size=16).digest()
        offset = int.from_bytes(digest[:8], "big") % size
        skip = int.from_bytes(digest[8:], "big") % (size - 1) + 1
        turns.append([offset, skip, member.endpoint.weight / heaviest, 0.0])
    table: list[Any] = [None] * size
    left = size
    while True:
        for member, turn in zip(members, turns, strict=True):
            turn[3] += turn[2]
            if turn[3] < 1.0:
                continue
            turn[3] -= 1.0
            place, skip = turn[0], turn[1]
            while table[place] is not None:
                place = (place + skip) % size
            table[place] = member
            turn[0] = (place + skip) % size
            left -= 1
            if not left:
                return table
