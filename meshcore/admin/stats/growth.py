"""How much the series of a family have grown, from one look to the next, whatever becomes of their cells."""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.metrics.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from meshcore.metrics.prometheus import Labels

__all__ = ["PIECE", "Growth", "grown", "increase", "increases"]

OVERFLOW = ("overflow", "true")
"""The label of the series that counts what has no room of its own."""
PIECE = 200
"""Series that are looked at in one go; then others have their turn."""

K = TypeVar("K", bound="Hashable")


def increase(before: float, now: float) -> float:
    """How much a counter has grown.  One that has less than before has begun anew, from 0."""
    return now - before if now >= before else now


def increases(before: Sequence[int], now: Sequence[int]) -> tuple[int, ...]:
    """The same of a histogram's buckets: they begin anew all at once."""
    if len(before) != len(now) or any(after < earlier for earlier, after in zip(before, now, strict=True)):
        return tuple(now)
    return tuple(after - earlier for earlier, after in zip(before, now, strict=True))


def _plus(one: Any, other: Any) -> Any:
    return tuple(map(add, one, other)) if isinstance(one, tuple) else one + other


@attrs.define(eq=False)
class _Seen(Generic[K]):
    """A series: whose it is, what its cell had at the last look, what that makes in all, at which look it was last
    there, and whether it is the one for overflow."""

    key: K | None
    raw: Any
    total: Any
    look: int
    overflow: bool


class Growth(Generic[K]):
    """Follows one family of counters or histograms.

    What its series have in all counts from the first look; a cell that began anew, or vanished and came back, goes on
    where it was.  So what came between two looks is the difference of what they took, in whatever order cells live.
    What a series that has vanished had is taken to be in the one for overflow from then on, which is no growth of that
    one.

    Args:
        name: the family's.
        key: whose a series is, by its labels; None: it is of no interest.  Asked once for each.

    Attributes:
        name: the family's.
        bounds: of its histograms' buckets; ``()`` of counters.
        series: how many are followed, those that have vanished included.
    """

    __slots__ = ("_key", "_look", "_seen", "_slots", "bounds", "name")

    def __init__(self, name: str, key: Callable[[dict[str, str]], K | None]) -> None:
        self.name = name
        self.bounds: tuple[float, ...] = ()
        self._key = key
        self._look = 0
        self._slots: dict[Labels, int] = {}
        self._seen: list[_Seen[K]] = []

    @property
    def series(self) -> int:
        return len(self._seen)

    async def look(self, series: Sequence[tuple[Labels, Any]]) -> list[Any]:
        """Looks at all series; what each has in all, for :func:`grown`.  Others have their turn now and then."""
        self._look += 1
        overflow = None
        for start in range(0, len(series), PIECE):
            if start:
                await trio.lowlevel.checkpoint()
            for labels, cell in series[start : start + PIECE]:
                if OVERFLOW in labels:
                    overflow = labels, cell
                else:
                    self._see(labels, cell)
        folded = self._vanished()
        if overflow is not None:
            self._see(*overflow, folded)
        return [seen.total for seen in self._seen]

    def _vanished(self) -> Any:
        """What those had at the last look that are not there any more; 0: nothing."""
        found: Any = 0
        for seen in self._seen:
            # Where it was there at the last look, and is not now.
            if seen.look == self._look - 1 and not seen.overflow:
                found = seen.raw if found == 0 else _plus(found, seen.raw)
                # Should it come back, it begins anew.
                seen.raw = tuple(0 for _ in seen.raw) if isinstance(seen.raw, tuple) else 0
        return found

    def _see(self, labels: Labels, cell: Any, folded: Any = 0) -> None:
        slot = self._slots.get(labels)
        histogram = isinstance(cell, Histogram)
        if histogram and not self.bounds:
            self.bounds = cell.bounds
        if histogram and cell.bounds != self.bounds:
            return
        if slot is None:
            nothing: Any = (0,) * len(cell.counts) if histogram else 0
            raw = (tuple(cell.counts) if histogram else cell.value) if self._look == 1 else nothing
            self._slots[labels] = len(self._seen)
            seen = _Seen(self._key(dict(labels)), raw, nothing, self._look, OVERFLOW in labels)
            self._seen.append(seen)
            if self._look == 1:
                return
        else:
            seen = self._seen[slot]
            seen.look = self._look
        # Most have not changed: then no new object is kept.
        if histogram:
            counts = tuple(cell.counts)
            if counts != seen.raw:
                more = increases(seen.raw, counts)
                if folded:
                    more = tuple(max(one - other, 0) for one, other in zip(more, folded, strict=True))
                seen.total, seen.raw = _plus(seen.total, more), counts
        elif cell.value != seen.raw:
            seen.total += max(increase(seen.raw, cell.value) - folded, 0)
            seen.raw = cell.value

    def keys(self) -> list[K | None]:
        """Whose each series is, in the order of what :meth:`look` returns."""
        return [seen.key for seen in self._seen]


async def grown(
    keys: Sequence[K | None], before: Sequence[Any], now: Sequence[Any], tell: Callable[[K, Any], None]
) -> None:
    """Calls *tell* with the key of each series that has grown, and by how much: a number, or one for each bucket.

    Args:
        keys: of the series.
        before, now: what :meth:`Growth.look` returned, then and now.
    """
    known = len(before)
    for slot, total in enumerate(now):
        if slot % (PIECE * 2) == PIECE * 2 - 1:
            await trio.lowlevel.checkpoint()
        key = keys[slot]
        if key is None:
            continue
        if slot >= known:
            if any(total) if isinstance(total, tuple) else total:
                tell(key, total)
            continue
        earlier = before[slot]
        if total is earlier or total == earlier:
            continue
        if isinstance(total, tuple):
            tell(key, tuple(after - at for at, after in zip(earlier, total, strict=True)))
        else:
            tell(key, total - earlier)
