"""The registry: every family of a proxy, and the text of a scrape in pieces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from meshcore.metrics.family import Counter, Family, Gauge
from meshcore.metrics.histogram import LATENCY_MS, Histogram
from meshcore.metrics.prometheus import HistogramText, Labels, title_of
from meshcore.metrics.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from meshcore.metrics.family import Series
    from meshcore.metrics.view import Rename

__all__ = ["Counter", "Exposed", "Family", "Gauge", "Registry"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = frozenset(("le", "overflow"))
_PIECE = 100
"""Lines of a piece of a scrape, or a few more: a small part of a millisecond, for a request takes several turns of the
scheduler, and waits for a piece in each."""

S = TypeVar("S")


class Exposed(Protocol):
    """What a scrape asks of a family, or of a view."""

    name: str
    kind: str
    description: str
    histograms: HistogramText | None

    @property
    def lines(self) -> int: ...
    def series(self) -> list[tuple[Labels, Any]]: ...
    def snapshot(self) -> Sequence[Series[Any]]: ...
    def head(self, openmetrics: bool) -> str: ...
    def text(self, series: Series[Any], openmetrics: bool) -> str: ...


class Registry:
    """Every metric of one proxy; passed to what counts, never global.

    Args:
        max_series: bound on the series of each family; see :class:`Family`.
    """

    def __init__(self, *, max_series: int = 2_000) -> None:
        self.max_series = max_series
        self._families: dict[str, Family[Any]] = {}
        self._views: dict[str, View] = {}
        self._titles: dict[str, str] = {}
        self._collectors: dict[int, Callable[[], Iterable[None] | None]] = {}
        self._shared: dict[object, Any] = {}
        self._dropped: dict[tuple[str, str], Counter] = {}

    def __repr__(self) -> str:
        return f"<Registry families={len(self._families)}>"

    def counter(self, name: str, description: str, *labels: str) -> Family[Counter]:
        """A family of counters; the same one again for the same name.

        Raises:
            ValueError: the name or a label is not a valid one (a counter's ends in ``_total``), or the name is taken
                by a family of another kind or with other labels (for all kinds).
        """
        return self._family(name, "counter", description, labels, Counter)

    def gauge(self, name: str, description: str, *labels: str) -> Family[Gauge]:
        """A family of gauges."""
        return self._family(name, "gauge", description, labels, Gauge)

    def histogram(
        self,
        name: str,
        description: str,
        *labels: str,
        buckets: Sequence[float] = LATENCY_MS,
        shown: Sequence[float] | None = None,
    ) -> Family[Histogram]:
        """A family of histograms with these upper bounds (inclusive, ascending).

        Args:
            shown: those of them that a scrape sees; the others are for views.  None: all.
        """
        if name in self._families:
            # Asked for again with each series that is made.
            return self._family(name, "histogram", description, labels, Histogram)
        bounds = tuple(buckets)
        Histogram(bounds)
        text = HistogramText(name, bounds if shown is None else shown, bounds)
        return self._family(name, "histogram", description, labels, lambda: Histogram(bounds), text)

    def _family(
        self,
        name: str,
        kind: str,
        description: str,
        labels: tuple[str, ...],
        make: Callable[[], Any],
        histograms: HistogramText | None = None,
    ) -> Family[Any]:
        known = self._families.get(name)
        if known is not None:
            if (known.kind, known.label_names) != (kind, labels):
                raise ValueError(f"metric {name} is a {known.kind} with the labels {known.label_names} already")
            return known
        self._check(name, kind, labels)
        family = self._families[name] = Family(name, kind, description, labels, make, self.max_series, histograms)
        return family

    def _check(self, name: str, kind: str, labels: Iterable[str]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a metric's name")
        if name in self._families or name in self._views:
            raise ValueError(f"metric {name} is there already, and one of the two is a view")
        if kind == "counter" and not name.endswith("_total"):
            raise ValueError(f"{name!r} is not a counter's name, which ends in _total")
        for label in labels:
            if not _LABEL.fullmatch(label) or label in _RESERVED:
                raise ValueError(f"{label!r} is not a label's name")
        taken = self._titles.setdefault(title_of(name, kind, True), name)
        if taken != name:
            raise ValueError(f"metric {name} would have the name of {taken} in OpenMetrics")

    def view(
        self,
        name: str,
        description: str,
        sources: Mapping[str, Rename],
        *,
        buckets: Sequence[float] | None = None,
        of: Sequence[float] = (),
        scale: float = 1.0,
    ) -> View:
        """A family of sums over others, which costs nothing but at a scrape; the same one again for the same name.

        Args:
            sources: the others' names, and for each what makes this one's labels of a series' own.
            buckets: the upper bounds shown; None: these are counters.
            of: the sources' bounds, in this one's unit.
            scale: what turns the sources' unit into this one's.

        Raises:
            ValueError: see :meth:`counter`.
        """
        known = self._views.get(name)
        if known is not None:
            return known
        kind = "counter" if buckets is None else "histogram"
        self._check(name, kind, ())
        text = None if buckets is None else HistogramText(name, buckets, of, scale)
        view = self._views[name] = View(name, kind, description, self._families, sources, text)
        return view

    def collect(self, collector: Callable[[], Iterable[None] | None]) -> Callable[[], None]:
        """Calls *collector* before every scrape, to set what is only worth knowing then; returns a
        function that takes it back.  One that has much to do gives way at each ``yield``."""
        key = id(collector)
        while key in self._collectors:
            key += 1
        self._collectors[key] = collector
        return lambda: self._forget_collector(key)

    def _forget_collector(self, key: int) -> None:
        self._collectors.pop(key, None)

    def shared(self, key: object, make: Callable[[], S]) -> S:
        """What *make* made for this key when it was first asked for: the one that everybody counts with."""
        if key not in self._shared:
            self._shared[key] = make()
        found: S = self._shared[key]
        return found

    def families(self) -> list[Exposed]:
        """All families and views, by name."""
        found: dict[str, Exposed] = {**self._families, **self._views}
        return [found[name] for name in sorted(found)]

    def collected(self) -> Iterator[None]:
        """Runs the collectors; between the steps somebody else may run."""
        for collector in list(self._collectors.values()):
            yield from collector() or ()
            yield
        self._count_dropped()

    def pieces(self, openmetrics: bool = False) -> Generator[str, None, None]:
        """The text of a scrape, in pieces that take a part of a millisecond each: ``""`` where only time has passed.

        Each series is as it was at one moment; between the pieces somebody else may run.

        Args:
            openmetrics: OpenMetrics 1.0 instead of Prometheus 0.0.4.
        """
        for _ in self.collected():
            yield ""
        parts: list[str] = []
        lines = 0
        for family in self.families():
            found = (yield from family.gathered()) if isinstance(family, View) else family.snapshot()
            if not found:
                continue
            parts.append(family.head(openmetrics))
            each, text = family.lines, family.text
            for series in found:
                parts.append(text(series, openmetrics))
                lines += each
                if lines >= _PIECE:
                    yield "".join(parts)
                    parts.clear()
                    lines = 0
        if openmetrics:
            parts.append("# EOF\n")
        yield "".join(parts)

    def render(self, openmetrics: bool = False) -> str:
        """The text of a scrape at once: each family with HELP and TYPE, families by name."""
        return "".join(self.pieces(openmetrics))

    def _count_dropped(self) -> None:
        for family in list(self._families.values()):
            for reason, count in (("idle", family.folded), ("full", family.shared)):
                if not count:
                    continue
                cell = self._dropped.get((family.name, reason))
                if cell is None:
                    cell = self._dropped[family.name, reason] = self.counter(
                        "metrics_series_dropped_total",
                        'Series counted as overflow="true" since their family was full: idle ones that made room, '
                        "and those for which there was none.",
                        "family",
                        "reason",
                    ).labels(family.name, reason)
                cell.value = count
