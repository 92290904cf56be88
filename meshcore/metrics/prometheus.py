"""The text of metrics: what the Prometheus format 0.0.4 and OpenMetrics 1.0 have in common, and what not."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meshcore.metrics.histogram import Histogram

__all__ = [
    "CONTENT_TYPE",
    "MAX_VALUE",
    "OPENMETRICS_CONTENT_TYPE",
    "HistogramText",
    "Labels",
    "family_text",
    "inner_text",
    "label_name",
    "label_value",
    "labels_text",
    "number",
    "title_of",
]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_VALUE: Final = 256
"""Characters that a label's value may have; what is longer is cut."""

Labels: TypeAlias = tuple[tuple[str, str], ...]

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]")
# What ends a line for somebody, is no character, or is a byte that was not UTF-8.
_NOT_IN_VALUE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED_VALUE = {ord("\\"): r"\\", ord('"'): r"\"", ord("\n"): r"\n"}
_ESCAPED_HELP = {ord("\\"): r"\\", ord("\n"): r"\n"}
_ESCAPED_OPENMETRICS_HELP = {**_ESCAPED_HELP, ord('"'): r"\""}
_HOLE = "\0"


@lru_cache(maxsize=1_024)
def label_name(name: str) -> str:
    """*name* as a label's name: what may not be in one becomes ``_``."""
    cleaned = _NOT_IN_NAME.sub("_", name) or "_"
    if cleaned.startswith("__"):
        # Those are Prometheus's own.
        cleaned = f"x{cleaned}"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned


def label_value(value: str) -> str:
    """*value* as a label's value: of ``MAX_VALUE`` characters at the most, control characters replaced."""
    if len(value) > MAX_VALUE:
        value = f"{value[: MAX_VALUE - 1]}…"
    if value.isascii() and value.isprintable():
        return value
    return _NOT_IN_VALUE.sub("\N{REPLACEMENT CHARACTER}", value)


def inner_text(labels: Iterable[tuple[str, str]]) -> str:
    """``name="value",…``; labels without a value are left out (M-02)."""
    labels = [(name, value) for name, value in labels if value]
    # Hardly ever is there something to escape.
    together = "".join([value for _, value in labels])
    if '"' not in together and "\\" not in together and "\n" not in together:
        return ",".join([f'{name}="{value}"' for name, value in labels])
    return ",".join([f'{name}="{value.translate(_ESCAPED_VALUE)}"' for name, value in labels])


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    """The same in braces; ``""`` without any."""
    inner = inner_text(labels)
    return f"{{{inner}}}" if inner else ""


def number(value: float) -> str:
    """A sample's value: whole numbers without a fraction, ``+Inf``, ``-Inf``, ``NaN``."""
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def title_of(name: str, kind: str, openmetrics: bool) -> str:
    """What a family is called: in OpenMetrics a counter's is without its ``_total``."""
    return name.removesuffix("_total") if openmetrics and kind == "counter" else name


def family_text(name: str, kind: str, description: str, *, openmetrics: bool = False) -> str:
    """A family's HELP and TYPE lines."""
    title = title_of(name, kind, openmetrics)
    escapes = _ESCAPED_OPENMETRICS_HELP if openmetrics else _ESCAPED_HELP
    return f"# HELP {title} {description.translate(escapes)}\n# TYPE {title} {kind}\n"


class HistogramText:
    """The lines of a family's histograms, made by one substitution each.

    Args:
        name: the family's.
        bounds: the upper bounds that are shown.
        of: the bounds that the histograms have, *bounds* among them; None: the same.
        scale: what observations are multiplied with to get the unit of *bounds*; those of *of* are in it already.
    """

    __slots__ = ("_bounds", "_name", "_openmetrics", "_picked", "_plain", "_scale", "lines")

    def __init__(
        self, name: str, bounds: Sequence[float], of: Sequence[float] | None = None, scale: float = 1.0
    ) -> None:
        known = tuple(bounds if of is None else of)
        self._name = name
        self._scale = scale
        # Where the bounds that are shown are among those that there are; infinity is always the last.
        self._picked: tuple[int, ...] | None = None
        if known != tuple(bounds):
            self._picked = (*(known.index(bound) for bound in bounds), len(known))
        plain = (*(number(bound) for bound in bounds), "+Inf")
        # OpenMetrics wants bounds as floats, so that everybody writes the same one the same way.
        canonical = self._bounds = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._plain = "".join(f'{_HOLE}{bound}"}} %d\n' for bound in plain)
        self._openmetrics = "".join(f'{_HOLE}{bound}"}} %d\n' for bound in canonical)
        self.lines = len(plain) + 2

    def text(self, inner: str, cell: Histogram, openmetrics: bool) -> str:
        """The lines of one series; *inner* are its labels."""
        running, total = self._read(cell)
        name = self._name
        labels = f"{{{inner}}}" if inner else ""
        template = self._openmetrics if openmetrics else self._plain
        buckets = (template % running).replace(_HOLE, f'{name}_bucket{{{inner}{"," if inner else ""}le="')
        return f"{buckets}{name}_sum{labels} {number(total)}\n{name}_count{labels} {running[-1]}\n"

    def _read(self, cell: Histogram) -> tuple[tuple[int, ...], float]:
        # Once, so that what is counted meanwhile cannot make one of them disagree with another.
        running = tuple(accumulate(cell.counts))
        if self._picked is not None:
            running = tuple([running[index] for index in self._picked])
        return running, cell.total * self._scale

    def buckets(self, cell: Histogram) -> tuple[list[tuple[str, int]], float]:
        """The bounds that are shown, as OpenMetrics writes them, each with what is not above it; and the sum."""
        running, total = self._read(cell)
        return list(zip(self._bounds, running, strict=True)), total
