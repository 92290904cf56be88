"""Whether an HTTP/2 connection is still of use: idle, too old, stalled, or dead by its PINGs (D-36, D-38)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from meshcore.transport.http2 import Http2Link

__all__ = ["Liveness", "Verdict"]

Verdict = Literal["", "idle", "old", "stalled", "dead"]

KEEPALIVE = b"mesh-ka\x00"


class Liveness:
    """Compares a connection's counters from one sweep to the next; sends the keepalive PINGs.

    All times in seconds, None for no limit: *idle* without a stream, *age* since it was made, *stall* without the
    peer taking any of what waits for the socket, *interval* without a byte from the peer until a PING is sent,
    *timeout* until it has to be answered.
    """

    __slots__ = (
        "_age",
        "_idle",
        "_interval",
        "_link",
        "_opened",
        "_pinged",
        "_read",
        "_read_at",
        "_stall",
        "_started",
        "_timeout",
        "_used_at",
        "_written",
        "_written_at",
    )

    def __init__(
        self,
        link: Http2Link[Any],
        now: float,
        *,
        idle: float | None,
        age: float | None,
        stall: float | None,
        interval: float | None,
        timeout: float,
    ) -> None:
        self._link = link
        self._idle = idle
        self._age = age
        self._stall = stall
        self._interval = interval
        self._timeout = timeout
        self._started = self._used_at = self._read_at = self._written_at = now
        self._read = link.connection.bytes_read
        self._written = link.connection.bytes_written
        self._opened = 0
        self._pinged: float | None = None

    @property
    def limit(self) -> float | None:
        """The smallest limit in force, for the sweeper; None for none."""
        limits = [limit for limit in (self._idle, self._age, self._stall, self._interval) if limit is not None]
        if self._interval is not None:
            limits.append(self._timeout)
        return min(limits, default=None)

    def answered(self, data: bytes) -> None:
        """A PING of ours was answered."""
        if data == KEEPALIVE:
            self._pinged = None

    def check(self, now: float) -> Verdict:
        """What is wrong with the connection, ``""`` for nothing."""
        link = self._link
        connection = link.connection
        if connection.bytes_read != self._read:
            self._read = connection.bytes_read
            self._read_at = now
        if connection.bytes_written != self._written or not link.unsent:
            self._written = connection.bytes_written
            self._written_at = now
        if link.streams or link.opened != self._opened:
            self._opened = link.opened
            self._used_at = now
        if self._stall is not None and now - self._written_at >= self._stall:
            return "stalled"
        if self._interval is not None:
            if self._pinged is not None:
                if now - self._pinged >= self._timeout:
                    return "dead"
            elif now - self._read_at >= self._interval:
                self._pinged = now
                link.codec.ping(KEEPALIVE)
                link.flush_soon()
        if self._idle is not None and now - self._used_at >= self._idle:
            return "idle"
        if self._age is not None and now - self._started >= self._age:
            return "old"
        return ""
