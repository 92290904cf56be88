"""Families: all series of one name, never more than a bound, whatever is counted."""

from __future__ import annotations

import logging
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from meshcore.metrics.histogram import Histogram
from meshcore.metrics.prometheus import (
    MAX_VALUE,
    HistogramText,
    Labels,
    family_text,
    inner_text,
    label_name,
    label_value,
    labels_text,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Counter", "Family", "Gauge", "Series"]

log = logging.getLogger(__name__)

_OVERFLOW: Labels = (("overflow", "true"),)


class Counter:
    """One series of a counter: ``cell.value += 1`` is the whole operation."""

    __slots__ = ("__weakref__", "value")

    def __init__(self) -> None:
        self.value: float = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.value}>"

    @property
    def version(self) -> float:
        """A number that changes whenever the series does."""
        return self.value


class Gauge(Counter):
    """One series of a gauge: ``value`` is set, or goes up and down."""

    __slots__ = ()


class _Cell(Protocol):
    @property
    def version(self) -> float: ...


C = TypeVar("C", bound=_Cell)


class Series(Generic[C]):
    """One series, as its family and a scrape have it.

    Attributes:
        labels: names and values, without those that have none.
        cell: what is counted in.
        version: the cell's, when it was last looked at.
        changed: the look at which it was last found changed; counts up.
        inner: the labels' text, once a scrape has needed it.
    """

    __slots__ = ("__weakref__", "cell", "changed", "inner", "labels", "version")

    def __init__(self, labels: Labels, cell: C) -> None:
        self.labels = labels
        self.cell = cell
        self.version = cell.version
        self.changed = 0
        self.inner: str | None = None


def _references(series: Series[Any]) -> int:
    return sys.getrefcount(series.cell)


# What it is for a cell that nobody else has; counted, for Pythons differ in it.
_ALONE = _references(Series((), Counter()))


class Family(Generic[C]):
    """All series of one name.

    A series is kept, for a counter that begins anew is one that lies, until there are *max_series* of them.  Then
    what would be one more takes the place of the one that has been idle for longest among those whose cell nobody
    holds: its counts go to the series with the label ``overflow="true"``, so that no sum over the family ever goes
    down.  Where all are held, what would be one more counts in that series from the start.

    Attributes:
        name: the metric's.
        kind: ``"counter"``, ``"gauge"`` or ``"histogram"``.
        description: what it counts.
        label_names: of the labels that all of its series may have.
        max_series: the bound, the one for overflow apart.
        histograms: how they are written; None where the series are no histograms.
        folded: series that have made room so far.
        shared: how often there was no room.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        description: str,
        labels: tuple[str, ...],
        make: Callable[[], C],
        max_series: int,
        histograms: HistogramText | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.description = description
        self.label_names = labels
        self.max_series = max_series
        self.folded = 0
        self.shared = 0
        self._make = make
        self.histograms = histograms
        self._series: dict[Labels, Series[C]] = {}
        self._overflow: Series[C] | None = None
        # Gauges for which there is no room, for as long as somebody sets them.
        self._hidden: weakref.WeakValueDictionary[Labels, Any] = weakref.WeakValueDictionary()
        self._look = 0
        self._idle: deque[Series[C]] = deque()
        self._look_after = 0

    def __repr__(self) -> str:
        return f"<Family {self.kind} {self.name} series={len(self._series) + (self._overflow is not None)}>"

    def labels(self, *values: str, extra: Labels = ()) -> C:
        """The cell of the series with these values, in the order of the family's labels; bound once and
        kept by whoever counts.  ``""`` is a label that is not there; long values are cut.

        Args:
            extra: further ``(name, value)`` pairs, for labels known only at run time (discovery's).

        Raises:
            ValueError: too few values, or too many.
        """
        key: Labels = tuple(
            [
                (name, value)
                if value.isascii() and value.isprintable() and len(value) <= MAX_VALUE
                else (name, label_value(value))
                for name, value in zip(self.label_names, values, strict=True)
                if value
            ]
        )
        if extra:
            key += self._further(extra)
        series = self._series.get(key)
        return self._bind(key) if series is None else series.cell

    def _further(self, extra: Labels) -> Labels:
        """Each name once, whatever discovery says: a series with a label twice makes a whole scrape worthless."""
        found: dict[str, str] = {}
        for name, value in extra:
            cleaned = label_name(name)
            if value and cleaned not in self.label_names and cleaned not in ("le", "overflow"):
                found.setdefault(cleaned, label_value(value))
        return tuple(found.items())

    def _bind(self, key: Labels) -> C:
        if len(self._series) >= self.max_series and not self._make_room():
            self.shared += 1
            if self.kind == "gauge":
                return self._hide(key)
            return self._overflowing().cell
        series = self._series[key] = Series(key, self._make())
        series.changed = self._look
        return series.cell

    def _overflowing(self) -> Series[C]:
        if self._overflow is None:
            self._overflow = Series(_OVERFLOW, self._make())
            log.warning(
                'metric %s has %d series, which is its limit: some are counted together, as overflow="true"',
                self.name,
                self.max_series,
            )
        return self._overflow

    def _hide(self, key: Labels) -> C:
        """A gauge that is only part of a sum: it is nobody's but its holder's, so two must not set the same one."""
        self._overflowing()
        cell: C | None = self._hidden.get(key)
        if cell is None:
            cell = self._hidden[key] = self._make()
        return cell

    def _make_room(self) -> bool:
        while True:
            while self._idle:
                series = self._idle.popleft()
                if series.cell.version == series.version and _references(series) <= _ALONE:
                    del self._series[series.labels]
                    self._fold(series)
                    return True
            if self._look_after > 0:
                # The last look has found nothing, and one for each that comes would be dear.
                self._look_after -= 1
                return False
            self._find_idle()
            # However few there are: the next look is only after as many as pay for it.
            self._look_after = max(0, self.max_series // 8 - len(self._idle))
            if not self._idle:
                return False

    def _find_idle(self) -> None:
        """Looks at all of them at once, for the next eighth that makes room: less than a microsecond for each."""
        self._look += 1
        found = []
        for series in self._series.values():
            self.look_at(series)
            if series.changed != self._look and _references(series) <= _ALONE:
                found.append(series)
        if not found:
            # Everything has changed since the last look; who is held by nobody may go nevertheless.
            found = [series for series in self._series.values() if _references(series) <= _ALONE]
        found.sort(key=_changed)
        self._idle.extend(found[: max(1, self.max_series // 8)])

    def look_at(self, series: Series[C]) -> None:
        """Notes whether it has changed since the last look."""
        version = series.cell.version
        if version != series.version:
            series.version = version
            series.changed = self._look

    def _fold(self, series: Series[C]) -> None:
        self.folded += 1
        into, cell = self._overflowing().cell, series.cell
        if isinstance(cell, Histogram) and isinstance(into, Histogram):
            into.add(cell)
        elif self.kind == "counter" and isinstance(cell, Counter) and isinstance(into, Counter):
            into.value += cell.value
        # What nobody sets any more is no part of a sum of gauges.

    def series(self) -> list[tuple[Labels, C]]:
        """The series that there are, in the order in which they were first bound."""
        return [(series.labels, series.cell) for series in self.snapshot()]

    # ----- what a scrape asks -----

    @property
    def lines(self) -> int:
        """Of each series."""
        return 1 if self.histograms is None else self.histograms.lines

    def head(self, openmetrics: bool) -> str:
        """What goes before the series."""
        return family_text(self.name, self.kind, self.description, openmetrics=openmetrics)

    def snapshot(self) -> Sequence[Series[C]]:
        """The series that there are now.

        The one for overflow is the first: what is folded into it while the others are read is not counted twice.
        """
        self._look += 1
        if self._overflow is None:
            return list(self._series.values())
        cell = self._overflow.cell
        if self.kind == "gauge" and isinstance(cell, Gauge):
            cell.value = sum(hidden.value for hidden in self._hidden.values())
        return [self._overflow, *self._series.values()]

    def text(self, series: Series[C], openmetrics: bool) -> str:
        """The lines of one of them."""
        cell = series.cell
        inner = series.inner
        if isinstance(cell, Histogram):
            if inner is None:
                inner = series.inner = inner_text(series.labels)
            assert self.histograms is not None
            text = self.histograms.text(inner, cell, openmetrics)
        else:
            if inner is None:
                # A counter's name ends in _total in both formats, so that all before the number stays the same.
                inner = series.inner = f"{self.name}{labels_text(series.labels)} "
            assert isinstance(cell, Counter)
            text = f"{inner}{number(cell.value)}\n"
        version = cell.version
        if version != series.version:
            series.version = version
            series.changed = self._look
        return text


def _changed(series: Series[Any]) -> int:
    return series.changed
