"""Counters of what costs a connection more than it costs its peer: each passes a limit or ends the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.errors import ENHANCE_YOUR_CALM

if TYPE_CHECKING:
    from meshcore.codec.limits import H2Limits

__all__ = ["ConnectionFailure", "Watch"]

_FRAME_COST: Final = 256


class ConnectionFailure(Exception):
    """A connection error (RFC 9113 §5.4.1), on its way to becoming GOAWAY.

    Attributes:
        code: for the GOAWAY.
        abuse: the limit that was passed, or "".
        fed: whether the frames before it have reached the engine.
    """

    def __init__(self, code: int, reason: str, abuse: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.abuse = abuse
        self.fed = False


class Watch:
    """The counters of one connection; every method raises :class:`ConnectionFailure` beyond its limit."""

    __slots__ = (
        "_budget",
        "_control",
        "_control_at",
        "_limits",
        "_resets",
        "_resets_at",
        "_tiny",
        "data_sent",
        "empty",
        "errors",
        "pending",
        "priorities",
        "window_updates",
    )

    def __init__(self, limits: H2Limits, connection_window: int) -> None:
        self._limits = limits
        self._control: float = limits.control_rate
        self._control_at = 0.0
        self._resets: float = float(limits.resets_burst)
        self._resets_at = 0.0
        self._budget = max(limits.tiny_data_budget, connection_window // 2)
        self._tiny = self._budget
        self.data_sent = 0
        self.empty = 0
        self.errors = 0
        self.pending = 0
        self.priorities = 0
        self.window_updates = 0

    def control(self, now: float, kind: str) -> None:
        """A frame that changes nothing: PING, SETTINGS, PRIORITY, unknown, or on a stream that is over."""
        rate = self._limits.control_rate
        tokens = min(rate, self._control + (now - self._control_at) * rate) - 1
        if tokens < 0:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "control frames", kind)
        self._control = tokens
        self._control_at = now

    def reset(self, now: float) -> None:
        """A stream that ended before our response headers: reset, or refused above the limit."""
        limits = self._limits
        tokens: float = min(float(limits.resets_burst), self._resets + (now - self._resets_at) * limits.resets_rate) - 1
        if tokens < 0:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "resets", "rapid_reset")
        self._resets = tokens
        self._resets_at = now

    def error_reset(self) -> None:
        """A stream that we reset for what the peer did."""
        self.errors += 1
        if self.errors >= self._limits.local_error_resets:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "stream errors", "error_resets")

    def priority(self, streams: int) -> None:
        """A PRIORITY frame, after *streams* have been opened."""
        self.priorities += 1
        if self.priorities > self._limits.priority_frames * (1 + streams):
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "PRIORITY frames", "priority")

    def window_update(self, streams: int) -> None:
        """A WINDOW_UPDATE frame, after *streams* have been opened."""
        self.window_updates += 1
        if self.window_updates > self._limits.window_update_frames + 2 * (streams + 10 * self.data_sent):
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "WINDOW_UPDATE frames", "window_update")

    def acknowledgement(self, kind: str) -> None:
        """A PING or SETTINGS acknowledgement that has been queued."""
        self.pending += 1
        if self.pending > self._limits.pending_acks:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "acknowledgements not read", kind)

    def small_data(self, size: int, bulk: int) -> None:
        """A DATA frame of less than 64 bytes that does not end its stream, after *bulk* bytes of larger ones.

        An unread frame costs some 256 bytes whatever it holds: each takes what it lacks of that from a
        budget that larger frames, and consumption, fill up again.
        """
        if bulk:
            self.empty = 0
        if not size:
            self.empty += 1
            if self.empty > self._limits.empty_data_frames:
                raise ConnectionFailure(ENHANCE_YOUR_CALM, "empty DATA frames", "empty_data")
            return
        self.empty = 0
        self._tiny = min(self._budget, self._tiny + bulk) - (_FRAME_COST - size)
        if self._tiny < 0:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "small DATA frames", "tiny_data")

    def consumed(self, amount: int, unread: int) -> None:
        """A small frame has been consumed; *unread* bytes have not."""
        self._tiny = self._budget if not unread else min(self._budget, self._tiny + _FRAME_COST - amount)
