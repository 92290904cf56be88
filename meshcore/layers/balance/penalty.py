"""Answers that say "not now", and for how long they say so (B-07)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, cast

from meshcore.layers.balance.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.headers import Headers
    from meshcore.http.message import Response
    from meshcore.layers.balance.load import PenaltyLoad
    from meshcore.layers.balance.member import Member

__all__ = ["PenaltyExchange", "not_now", "retry_after"]

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_GRPC: Final = frozenset({b"2", b"4", b"8", b"13", b"14", b"15"})


def not_now(response: Response) -> float | None:
    """The seconds that an answer which says "not now" asks for, 0.0 if it does not say; None for any other answer."""
    status, headers = response.status, response.headers
    if status == _TOO_MANY or status >= 500:
        if status in (_TOO_MANY, _UNAVAILABLE):
            return retry_after(headers)
        return 0.0
    # Of gRPC's answers only those without a message have their status at once.
    if status == 200 and headers.get(b"grpc-status") in _GRPC:
        pushback = headers.get(b"grpc-retry-pushback-ms") or b""
        return int(pushback) / 1000 if pushback.isdigit() and len(pushback) < 16 else 0.0
    return None


def retry_after(headers: Headers) -> float:
    """The seconds of ``retry-after`` (RFC 9110 §10.2.3); 0.0 where there is none, or it is malformed.

    A date is compared with the answer's own ``date``, so that nobody's clock matters; without that it is no help.
    """
    value = headers.get(b"retry-after") or b""
    if value.isdigit():
        return float(value[:16])
    until, since = _date(value), _date(headers.get(b"date") or b"")
    return max(0.0, (until - since).total_seconds()) if until is not None and since is not None else 0.0


def _date(value: bytes) -> datetime | None:
    if not 0 < len(value) < 64:
        return None
    try:
        found = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class PenaltyExchange(Exchange):
    """An exchange whose answer may count as a slow one."""

    __slots__ = ("_penalty",)

    def __init__(self, member: Member, started: float, now: Callable[[], float], response: Response) -> None:
        super().__init__(member, started, now, response)
        asked = not_now(response)
        self._penalty = 0.0
        if asked is not None:
            options = cast("PenaltyLoad", member.load).options
            self._penalty = max(options.penalty, min(asked, options.max_retry_after))

    def first_data(self) -> None:
        """The sample ends here (B-03)."""
        if self._penalty:
            cast("PenaltyLoad", self._member.load).penalise(self._now(), self._started, self._penalty)
        else:
            super().first_data()
