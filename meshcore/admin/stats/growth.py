"""How much the series of a family have grown, from one look to the next, whatever becomes of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.metrics.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from meshcore.metrics.prometheus import Labels

__all__ = ["PIECE", "Growth", "grown", "increase", "increases"]

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


@attrs.define(eq=False)
class _Seen(Generic[K]):
    """A series: whose it is, what its cell had at the last look, and what that makes in all."""

    key: K | None
    raw: Any
    total: Any


class Growth(Generic[K]):
    """Follows one family of counters or histograms.

    What its series have in all counts from the first look; a cell that began anew, or vanished and came back, goes on
    where it was.  So what came between two looks is the difference of what they took, in whatever order cells live.

    Args:
        name: the family's.
        key: whose a series is, by its labels; None: it is of no interest.  Asked once for each.

    Attributes:
        name: the family's.
        bounds: of its histograms' buckets; ``()`` of counters.
        series: how many are followed, those that have vanished included.
    """

    __slots__ = ("_key", "_looked", "_seen", "_slots", "bounds", "name")

    def __init__(self, name: str, key: Callable[[dict[str, str]], K | None]) -> None:
        self.name = name
        self.bounds: tuple[float, ...] = ()
        self._key = key
        self._looked = False
        self._slots: dict[Labels, int] = {}
        self._seen: list[_Seen[K]] = []

    @property
    def series(self) -> int:
        return len(self._seen)

    async def look(self, series: Sequence[tuple[Labels, Any]]) -> list[Any]:
        """Looks at all series; what each has in all, for :func:`grown`.  Others have their turn now and then."""
        for start in range(0, len(series), PIECE):
            if start:
                await trio.lowlevel.checkpoint()
            for labels, cell in series[start : start + PIECE]:
                self._look(labels, cell)
        self._looked = True
        return [seen.total for seen in self._seen]

    def _look(self, labels: Labels, cell: Any) -> None:
        slot = self._slots.get(labels)
        if slot is None:
            self._slots[labels] = len(self._seen)
            self._seen.append(self._new(labels, cell))
            return
        seen = self._seen[slot]
        if seen.key is None:
            return
        if isinstance(cell, Histogram):
            # Most have not changed: then no new object is kept.
            if cell.counts != seen.raw:
                more = increases(seen.raw, cell.counts)
                seen.total = tuple(map(sum, zip(seen.total, more, strict=True)))
                seen.raw = list(cell.counts)
        elif cell.value != seen.raw:
            seen.total += increase(seen.raw, cell.value)
            seen.raw = cell.value

    def _new(self, labels: Labels, cell: Any) -> _Seen[K]:
        # What a series has that was not there at the look before has all come since.
        key = self._key(dict(labels))
        if not isinstance(cell, Histogram):
            return _Seen(key, cell.value, cell.value if self._looked else 0)
        if not self.bounds:
            self.bounds = cell.bounds
        if cell.bounds != self.bounds:
            return _Seen(None, (), ())
        counts = tuple(cell.counts)
        return _Seen(key, list(counts), counts if self._looked else (0,) * len(counts))

    def keys(self) -> list[K | None]:
        """Whose each series is, in the order of what :meth:`look` returns."""
        return [seen.key for seen in self._seen]


async def grown(
    keys: Sequence[K | None], before: Sequence[Any], now: Sequence[Any], add: Callable[[K, Any], None]
) -> None:
    """Calls *add* with the key of each series that has grown, and by how much: a number, or one for each bucket.

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
                add(key, total)
            continue
        earlier = before[slot]
        if total is earlier or total == earlier:
            continue
        if isinstance(total, tuple):
            add(key, tuple(after - at for at, after in zip(earlier, total, strict=True)))
        else:
            add(key, total - earlier)
