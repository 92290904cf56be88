"""Answers that say "not now", and for how long they say so (B-07)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from meshcore.http.retry_after import retry_after
from meshcore.layers.balance.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Response
    from meshcore.layers.balance.load import PenaltyLoad
    from meshcore.layers.balance.standing import Standing

__all__ = ["PenaltyExchange", "not_now"]

_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
_GRPC: Final = frozenset({b"2", b"4", b"8", b"13", b"14", b"15"})


def not_now(response: Response) -> float | None:
    """The seconds that an answer which says "not now" asks for, 0.0 if it does not say; None for any other answer."""
    status, headers = response.status, response.headers
    if status == _TOO_MANY or status >= 500:
        if status in (_TOO_MANY, _UNAVAILABLE):
            return retry_after(headers.raw)
        return 0.0
    # Of gRPC's answers only those without a message have their status at once.
    if status == 200 and headers.get(b"grpc-status") in _GRPC:
        pushback = headers.get(b"grpc-retry-pushback-ms") or b""
        return int(pushback) / 1000 if pushback.isdigit() and len(pushback) < 16 else 0.0
    return None


class PenaltyExchange(Exchange):
    """An exchange whose answer may count as a slow one."""

    __slots__ = ("_penalty",)

    def __init__(self, member: Standing, started: float, now: Callable[[], float], response: Response) -> None:
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
