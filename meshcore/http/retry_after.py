"""How long a server asks to be left alone: ``retry-after`` and ``grpc-retry-pushback-ms``."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LONGEST", "retry_after"]

LONGEST = 300.0
"""Seconds that are believed at the most (B-07)."""

_HINTING = (429, 503)
_MOST_DIGITS = 9


def retry_after(
    status: int, headers: Iterable[tuple[bytes, bytes]], trailers: Iterable[tuple[bytes, bytes]] = ()
) -> float:
    """Seconds that a response asks for, at most ``LONGEST``; 0.0 where it does not ask (B-07).

    ``retry-after`` counts with 429 and 503 alone: seconds, or a date, which is compared with the response's own
    ``date``, so that nobody's clock has to be right (RFC 9110 §10.2.3).  ``grpc-retry-pushback-ms`` counts with any.
    """
    value = date = b""
    for name, field in headers:
        if name == b"retry-after":
            value = field
        elif name == b"date":
            date = field
        elif name == b"grpc-retry-pushback-ms":
            return _capped(field, 0.001)
    for name, field in trailers:
        if name == b"grpc-retry-pushback-ms":
            return _capped(field, 0.001)
    if not value or status not in _HINTING:
        return 0.0
    if value.isdigit():
        return _capped(value, 1.0)
    return _between(date, value)


def _capped(digits: bytes, unit: float) -> float:
    """A number of units in seconds; 0.0 for what is no number (a negative pushback says: never, which is for who
    retries, not for a penalty)."""
    if not digits.isdigit():
        return 0.0
    return LONGEST if len(digits) > _MOST_DIGITS else min(int(digits) * unit, LONGEST)


def _between(now: bytes, then: bytes) -> float:
    if not now or len(now) > 64 or len(then) > 64:
        return 0.0
    try:
        seconds = (
            parsedate_to_datetime(then.decode("ascii")) - parsedate_to_datetime(now.decode("ascii"))
        ).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST)
