"""Views: families that are counted under other names already, so that what counts pays once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.metrics.family import Counter, Family, Series
from meshcore.metrics.histogram import Histogram
from meshcore.metrics.prometheus import HistogramText, Labels, family_text, inner_text, labels_text, number

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from typing import Any, TypeAlias

    Rename: TypeAlias = Callable[[Labels], Labels]

__all__ = ["View"]

_PIECE = 50
"""Series that are added up in one go: half a millisecond of histograms."""


class View:
    """A family of counters or histograms whose series are sums over those of others, made when they are read.

    Args:
        name: the metric's.
        kind: ``"counter"`` or ``"histogram"``.
        description: what it counts.
        families: the registry's, by name.
        sources: for the name of each family that is summed, its labels' new form; those that there are not yet
            count nothing.
        histograms: how histograms are written; None: these are counters.

    Attributes:
        name, kind, description, histograms: as they were given.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        description: str,
        families: Mapping[str, Any],
        sources: Mapping[str, Rename],
        histograms: HistogramText | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.description = description
        self._families = families
        self._sources = dict(sources)
        self.histograms = histograms
        self._renamed: dict[tuple[str, Labels], Labels] = {}
        self._inner: dict[Labels, str] = {}

    def __repr__(self) -> str:
        return f"<View {self.kind} {self.name} of {', '.join(self._sources)}>"

    @property
    def lines(self) -> int:
        """Of each series."""
        return 1 if self.histograms is None else self.histograms.lines

    def head(self, openmetrics: bool) -> str:
        """What goes before the series."""
        return family_text(self.name, self.kind, self.description, openmetrics=openmetrics)

    def series(self) -> list[tuple[Labels, Any]]:
        """As :meth:`~meshcore.metrics.family.Family.series`."""
        return [(series.labels, series.cell) for series in self.snapshot()]

    def snapshot(self) -> Sequence[Series[Any]]:
        """The sums, now."""
        gathered = self.gathered()
        while True:
            try:
                next(gathered)
            except StopIteration as end:
                found: Sequence[Series[Any]] = end.value
                return found

    def gathered(self) -> Generator[str, None, Sequence[Series[Any]]]:
        """The same; at each ``yield`` somebody else may run."""
        sums: dict[Labels, Series[Any]] = {}
        renamed: dict[tuple[str, Labels], Labels] = {}
        number = 0
        for name, rename in self._sources.items():
            family: Family[Any] | None = self._families.get(name)
            for series in () if family is None else family.snapshot():
                number += 1
                if number % _PIECE == 0:
                    yield ""
                key = (name, series.labels)
                labels = self._renamed.get(key)
                if labels is None:
                    labels = rename(series.labels)
                renamed[key] = labels
                found = sums.get(labels)
                if found is None:
                    sums[labels] = Series(labels, _copy(series.cell))
                elif isinstance(found.cell, Histogram):
                    found.cell.add(series.cell)
                else:
                    found.cell.value += series.cell.value
        # No more is remembered than there is.
        self._renamed = renamed
        self._inner = {labels: text for labels, text in self._inner.items() if labels in sums}
        return list(sums.values())

    def text(self, series: Series[Any], openmetrics: bool) -> str:
        """The lines of one of them."""
        inner = self._inner.get(series.labels)
        if self.histograms is not None:
            if inner is None:
                inner = self._inner[series.labels] = inner_text(series.labels)
            return self.histograms.text(inner, series.cell, openmetrics)
        if inner is None:
            inner = self._inner[series.labels] = f"{self.name}{labels_text(series.labels)} "
        return f"{inner}{number(series.cell.value)}\n"


def _copy(cell: Counter | Histogram) -> Counter | Histogram:
    if isinstance(cell, Histogram):
        histogram = Histogram(cell.bounds)
        histogram.add(cell)
        return histogram
    counter = Counter()
    counter.value = cell.value
    return counter
