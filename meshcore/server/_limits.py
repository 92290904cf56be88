"""What limits a response that its client does not take (R-17): the rest of an exchange's limits is enforced where the
response is awaited, on the connecting side."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.http.message import Timeouts

__all__ = ["StreamLimits"]


class StreamLimits:
    """Compares a response that is being sent with the exchange's limits, from one sweep to the next.

    *started* is when the exchange began, *idle* the limit where *timeouts* says nothing (seconds).
    """

    __slots__ = ("_idle", "_moved", "_seen", "_started", "_total")

    def __init__(self, timeouts: Timeouts | None, idle: float | None, started: float, now: float) -> None:
        self._total = timeouts.request if timeouts is not None else None
        self._idle = timeouts.idle if timeouts is not None and timeouts.idle is not None else idle
        self._started = started
        self._seen = -1
        self._moved = now

    @property
    def smallest(self) -> float | None:
        """The smallest limit, for the sweeper."""
        return min((limit for limit in (self._total, self._idle) if limit is not None), default=None)

    def check(self, activity: int, now: float) -> str:
        """Which limit is exceeded, in words; ``""`` for none.  *activity* changes with each chunk."""
        if activity != self._seen:
            self._seen = activity
            self._moved = now
        if self._total is not None and now - self._started >= self._total:
            return f"request timeout of {self._total:g} s exceeded"
        if self._idle is not None and now - self._moved >= self._idle:
            return f"idle timeout of {self._idle:g} s exceeded"
        return ""
