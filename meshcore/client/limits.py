"""The limits of one exchange (R-17), enforced where the response is awaited and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshcore.errors import StreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Request
    from meshcore.transport.sweep import Sweeper

__all__ = ["ExchangeLimits"]


class ExchangeLimits:
    """Watches an exchange whose ``request.timeouts`` is set; one object for each such exchange.

    It costs nothing per chunk: at each tick of the sweeper *activity* is asked for a number that grows
    with every byte.  A limit that fires calls *expire* once, synchronously, with the
    :class:`~meshcore.errors.StreamTimeout`; ``stop`` ends the watch.
    """

    __slots__ = ("_activity", "_expire", "_moved", "_request", "_seen", "_sent", "_started", "_sweeper")

    def __init__(
        self,
        sweeper: Sweeper,
        request: Request,
        activity: Callable[[], int],
        expire: Callable[[StreamTimeout], None],
    ) -> None:
        now = trio.current_time()
        started = request.started
        if started is None:
            # The first try starts the clock: further ones share what is left.
            started = request.started = now
        self._sweeper = sweeper
        self._request = request
        self._activity = activity
        self._expire = expire
        self._started = started
        self._sent: float | None = None
        self._seen = activity()
        self._moved = now
        timeouts = request.timeouts
        if timeouts is not None:
            smallest = timeouts.smallest
            if smallest is not None:
                sweeper.add(self, smallest)

    def stop(self) -> None:
        """Watches no more.  Idempotent."""
        self._sweeper.discard(self)

    def response_started(self) -> None:
        """The response's head has come: its own limit counts from now, if it did not before."""
        if self._sent is None:
            self._sent = trio.current_time()

    def sweep(self, now: float, /) -> None:
        """Compares the clock with the limits; see :class:`~meshcore.transport.sweep.Swept`."""
        timeouts = self._request.timeouts
        if timeouts is None:
            self.stop()
            return
        seen = self._activity()
        if seen != self._seen:
            self._seen = seen
            self._moved = now
        if self._sent is None and self._request.body.end is not None:
            self._sent = now
        if timeouts.request is not None and now - self._started >= timeouts.request:
            self._fire("request", timeouts.request)
        elif timeouts.response is not None and self._sent is not None and now - self._sent >= timeouts.response:
            self._fire("response", timeouts.response)
        elif timeouts.idle is not None and now - self._moved >= timeouts.idle:
            self._fire("idle", timeouts.idle)

    def _fire(self, which: str, limit: float) -> None:
        self.stop()
        self._expire(StreamTimeout(f"{which} timeout of {limit:g} s exceeded"))
