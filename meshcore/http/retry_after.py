"""How long a server asks to be left alone: ``retry-after`` and ``grpc-retry-pushback-ms``."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LONGEST", "pause_asked", "retry_after"]

LONGEST = 300.0
"""Seconds that are believed at the most (B-07)."""

_HINTING = (429, 503)
_PUSHBACK = b"grpc-retry-pushback-ms"


def pause_asked(
    status: int, headers: Iterable[tuple[bytes, bytes]], trailers: Iterable[tuple[bytes, bytes]] = ()
) -> float:
    """Seconds that a response asks for, at most ``LONGEST``; 0.0 where it does not ask (B-07).

    ``grpc-retry-pushback-ms`` counts with any status (below 0 it says: never, which is for who retries, not for a
    penalty); ``retry-after`` with 429 and 503 alone.
    """
    for fields in (headers, trailers):
        for name, value in fields:
            if name == _PUSHBACK:
                return min(int(value[:16]) / 1000, LONGEST) if value.isdigit() else 0.0
    return min(retry_after(headers), LONGEST) if status in _HINTING else 0.0


def retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The seconds of ``retry-after`` (RFC 9110 §10.2.3); 0.0 where there is none, or it is malformed.

    A date is compared with the answer's own ``date``, so that nobody's clock matters; without that it is no help.
    """
    value = date = b""
    for name, field in headers:
        if name == b"retry-after":
            value = field
        elif name == b"date":
            date = field
    if value.isdigit():
        return float(value[:16])
    until, since = _date(value), _date(date)
    return max(0.0, (until - since).total_seconds()) if until is not None and since is not None else 0.0


def _date(value: bytes) -> datetime | None:
    if not 0 < len(value) < 64:
        return None
    try:
        found = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
