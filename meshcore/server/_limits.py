"""What limits a response that its client does not take (R-17): the rest of an exchange's limits is enforced where the
response is awaited, on the connecting side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshcore.http.message import Timeouts

__all__ = ["RATE_WINDOW", "StreamLimits"]

RATE_WINDOW: Final = 10.0
"""Seconds over which the rate of a request's body is looked at."""


class StreamLimits:
    """Compares a response that is being sent with the exchange's limits, from one sweep to the next.

    *started* is when the exchange began, *idle* the limit where *timeouts* says nothing, *write* that of a client
    which does not open its window for what is ready (seconds).
    """

    __slots__ = ("_idle", "_moved", "_seen", "_started", "_taken", "_taken_at", "_total", "_write")

    def __init__(
        self, timeouts: Timeouts | None, idle: float | None, write: float | None, started: float, now: float
    ) -> None:
        self._total = timeouts.request if timeouts is not None else None
        self._idle = timeouts.idle if timeouts is not None and timeouts.idle is not None else idle
        self._write = write
        self._started = started
        self._seen = -1
        self._moved = now
        self._taken = -1
        self._taken_at = now

    @property
    def smallest(self) -> float | None:
        """The smallest limit, for the sweeper."""
        limits = (self._total, self._idle, self._write)
        return min((limit for limit in limits if limit is not None), default=None)

    def check(self, activity: int, taken: int, blocked: bool, now: float) -> str:
        """Which limit is exceeded, in words; ``""`` for none.

        *activity* changes with each chunk in either direction, *taken* with each of the response; *blocked* says
        whether one waits for the client's window.
        """
        if taken != self._taken or not blocked:
            self._taken = taken
            self._taken_at = now
        if activity != self._seen:
            self._seen = activity
            self._moved = now
        if self._total is not None and now - self._started >= self._total:
            return f"request timeout of {self._total:g} s exceeded"
        if self._write is not None and now - self._taken_at >= self._write:
            return f"write timeout of {self._write:g} s exceeded"
        if self._idle is not None and now - self._moved >= self._idle:
            return f"idle timeout of {self._idle:g} s exceeded"
        return ""
