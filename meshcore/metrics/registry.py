"""The registry: families of counters, gauges and histograms, and the text of a scrape."""

from __future__ import annotations

import contextlib
import re
import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio

from meshcore.metrics.histogram import LATENCY_MS, Histogram
from meshcore.metrics.prometheus import Labels, label_name, render_family

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Counter", "Family", "Gauge", "Registry"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
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
S = TypeVar("S")


class Family(Generic[C]):
    """All series of one name.

    Series are kept while somebody holds their cell, and for the registry's ``retain`` seconds after they
    last changed (M-01).  There are never more than the registry's ``max_series``: what would be one more
    shares a single series with the label ``overflow="true"``.
    """

    def __init__(
        self, name: str, kind: str, description: str, labels: tuple[str, ...], make: Callable[[], C], max_series: int
    ) -> None:
        self.name = name
        self.kind = kind
        self.description = description
        self.label_names = labels
        self._make = make
        self.max_series = max_series
        self._cells: dict[Labels, C] = {}
        self._placeholder = make()
        self._seen: dict[Labels, tuple[float, float]] = {}

    def __repr__(self) -> str:
        return f"<Family {self.kind} {self.name} series={len(self._cells)}>"

    def labels(self, *values: str, extra: Labels = ()) -> C:
        """The cell of the series with these values, in the order of the family's labels; bound once and
        kept by whoever counts.  ``""`` is a label that is not there.

        Args:
            extra: further ``(name, value)`` pairs, for labels known only at run time (discovery's).

        Raises:
            ValueError: too few values, or too many.
        """
        key: Labels = tuple(zip(self.label_names, values, strict=True))
        if extra:
            key += tuple((label_name(name), value) for name, value in extra)
        return self._cell(key)

    def _cell(self, key: Labels) -> C:
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= self.max_series and key != _OVERFLOW:
                return self._cell(_OVERFLOW)
            cell = self._cells[key] = self._make()
        return cell

    def series(self) -> list[tuple[Labels, C]]:
        """The series that there are, in the order in which they were first bound."""
        return list(self._cells.items())

    def forget(self, now: float, retain: float) -> None:
        """Forgets series that nobody holds and that have not changed for *retain* seconds."""
        cells, seen = self._cells, self._seen
        for key in list(cells):
            version = cells[key].version
            known = seen.get(key)
            if known is None or known[0] != version:
                seen[key] = (version, now)
            elif now - known[1] >= retain:
                # Whoever still holds the cell goes on counting in it: only without them it is gone.
                reference = weakref.ref(cells[key])
                cells[key] = self._placeholder
                held = reference()
                if held is None:
                    del cells[key], seen[key]
                else:
                    cells[key] = held


class Registry:
    """Every metric of one proxy; passed to what counts, never global.

    Args:
        max_series: bound on the series of each family.
        retain: seconds after which an idle series that nobody holds is forgotten at a scrape (M-01).
    """

    def __init__(self, *, max_series: int = 2_000, retain: float = 600.0) -> None:
        self.max_series = max_series
        self.retain = retain
        self._families: dict[str, Family[Any]] = {}
        self._collectors: dict[int, Callable[[], None]] = {}
        self._shared: dict[object, Any] = {}

    def __repr__(self) -> str:
        return f"<Registry families={len(self._families)}>"

    def counter(self, name: str, description: str, *labels: str) -> Family[Counter]:
        """A family of counters; the same one again for the same name.

        Raises:
            ValueError: the name or a label is not a valid one, or the name is taken by a family of
                another kind or with other labels (for all kinds).
        """
        return self._family(name, "counter", description, labels, Counter)

    def gauge(self, name: str, description: str, *labels: str) -> Family[Gauge]:
        """A family of gauges."""
        return self._family(name, "gauge", description, labels, Gauge)

    def histogram(
        self, name: str, description: str, *labels: str, buckets: Sequence[float] = LATENCY_MS
    ) -> Family[Histogram]:
        """A family of histograms with these upper bounds (inclusive, ascending)."""
        bounds = tuple(buckets)
        Histogram(bounds)
        return self._family(name, "histogram", description, labels, lambda: Histogram(bounds))

    def _family(
        self, name: str, kind: str, description: str, labels: tuple[str, ...], make: Callable[[], C]
    ) -> Family[C]:
        known = self._families.get(name)
        if known is not None:
            if (known.kind, known.label_names) != (kind, labels):
                raise ValueError(f"metric {name} is a {known.kind} with the labels {known.label_names} already")
            return known
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a metric's name")
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"{label!r} is not a label's name")
        family = Family(name, kind, description, labels, make, self.max_series)
        self._families[name] = family
        return family

    def collect(self, collector: Callable[[], None]) -> Callable[[], None]:
        """Calls *collector* before every scrape, to set what is only worth knowing then; returns a
        function that takes it back."""
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

    def families(self) -> list[Family[Any]]:
        """All families, by name."""
        return [self._families[name] for name in sorted(self._families)]

    def render(self, openmetrics: bool = False, *, now: float | None = None) -> str:
        """The text of a scrape: each family with HELP and TYPE, families by name.

        Args:
            openmetrics: OpenMetrics 1.0 instead of Prometheus 0.0.4.
            now: for forgetting idle series; by default Trio's clock, where there is one.
        """
        for collector in list(self._collectors.values()):
            collector()
        if now is None:
            with contextlib.suppress(RuntimeError):
                now = trio.current_time()
        parts = []
        for family in self.families():
            if now is not None:
                family.forget(now, self.retain)
            series = [
                (labels, cell if isinstance(cell, Histogram) else cell.value) for labels, cell in family.series()
            ]
            parts.append(
                render_family(family.name, family.kind, family.description, series, openmetrics=openmetrics)
            )
        if openmetrics:
            parts.append("# EOF\n")
        return "".join(parts)
