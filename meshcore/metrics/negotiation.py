"""Which format a scraper wants, by its ``Accept`` (RFC 9110 §12.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["wants_openmetrics"]

# What each format answers to, the most precise first.
_OPENMETRICS = ((b"application/openmetrics-text", b"1.0.0"), (b"application/*", None), (b"*/*", None))
_PROMETHEUS = ((b"text/plain", b"0.0.4"), (b"text/*", None), (b"*/*", None))


def wants_openmetrics(accept: Iterable[bytes]) -> bool:
    """Whether OpenMetrics 1.0 is wanted rather than the Prometheus format 0.0.4.

    The format with the greater weight is; with the same weight OpenMetrics where it is named, and else the other one.
    Other versions of either are not wanted; nor is anything by who accepts neither, and gets the Prometheus format.

    Args:
        accept: the field's values.
    """
    ranges = [_range(item) for value in accept for item in value.split(b",")]
    openmetrics, named = _weight(ranges, _OPENMETRICS)
    prometheus, _ = _weight(ranges, _PROMETHEUS)
    return openmetrics > prometheus or (named and openmetrics == prometheus > 0.0)


def _range(item: bytes) -> tuple[bytes, bytes | None, float]:
    """A media range, its version, its weight; one that cannot be read weighs nothing."""
    kind, *parameters = item.split(b";")
    version, weight = None, 1.0
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        name, value = name.strip().lower(), value.strip().strip(b'"')
        if name == b"version":
            version = value
        elif name == b"q":
            try:
                weight = min(1.0, max(0.0, float(value)))
            except ValueError:
                weight = 0.0
            if weight != weight:
                weight = 0.0
    return kind.strip().lower(), version, weight


def _weight(
    ranges: list[tuple[bytes, bytes | None, float]], formats: tuple[tuple[bytes, bytes | None], ...]
) -> tuple[float, bool]:
    """A format's weight, by the most precise range that it is in; and whether that names it."""
    for precise, (kind, own) in enumerate(formats):
        weights = [weight for found, version, weight in ranges if found == kind and version in (None, own)]
        if weights:
            return max(weights), precise == 0
    return 0.0, False
