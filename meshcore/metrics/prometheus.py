"""The text that a scrape gets: Prometheus format 0.0.4, and OpenMetrics 1.0 where it is asked for."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeAlias

from meshcore.metrics.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CONTENT_TYPE", "OPENMETRICS_CONTENT_TYPE", "Labels", "label_name", "labels_text", "number", "render_family"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels: TypeAlias = tuple[tuple[str, str], ...]

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPED_VALUE = {ord("\\"): r"\\", ord('"'): r"\"", ord("\n"): r"\n"}
_ESCAPED_HELP = {ord("\\"): r"\\", ord("\n"): r"\n"}


def label_name(name: str) -> str:
    """*name* as a label's name: what may not be in one becomes ``_``."""
    cleaned = _NOT_IN_NAME.sub("_", name) or "_"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned


def labels_text(labels: Iterable[tuple[str, str]]) -> str:
    """``{name="value",…}``; labels without a value are left out, and the braces with them (M-02)."""
    inner = ",".join(f'{name}="{value.translate(_ESCAPED_VALUE)}"' for name, value in labels if value)
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


def render_family(
    name: str,
    kind: str,
    description: str,
    series: Sequence[tuple[Labels, float | Histogram]],
    *,
    openmetrics: bool = False,
) -> str:
    """One family with its HELP and TYPE lines; ``""`` for one without series.

    In OpenMetrics the family of a counter is named without its ``_total``.
    """
    if not series:
        return ""
    title = name.removesuffix("_total") if openmetrics and kind == "counter" else name
    escapes = {**_ESCAPED_HELP, ord('"'): r"\""} if openmetrics else _ESCAPED_HELP
    lines = [f"# HELP {title} {description.translate(escapes)}", f"# TYPE {title} {kind}"]
    sample = f"{title}_total" if openmetrics and kind == "counter" else name
    for labels, value in series:
        if isinstance(value, Histogram):
            _histogram_lines(lines, name, labels, value)
        else:
            lines.append(f"{sample}{labels_text(labels)} {number(value)}")
    return "\n".join(lines) + "\n"


def _histogram_lines(lines: list[str], name: str, labels: Labels, cell: Histogram) -> None:
    running = 0
    for bound, count in zip((*cell.bounds, math.inf), cell.counts, strict=True):
        running += count
        lines.append(f"{name}_bucket{labels_text((*labels, ('le', number(bound))))} {running}")
    lines.append(f"{name}_sum{labels_text(labels)} {number(cell.total)}")
    lines.append(f"{name}_count{labels_text(labels)} {running}")
