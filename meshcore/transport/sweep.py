"""The sweeper: one task that enforces every idle, header and total limit of many connections.

A deadline or a scope per read would cost more than the read.  Connections bump a counter instead, and
once in a while the sweeper asks each of them whether its limits still hold.  Beside it one descriptor
watches all accepted sockets for a peer that hangs up while its request is being answered: an epoll of
edge-triggered EPOLLRDHUP, registered once a connection and free of cost per request.
"""

from __future__ import annotations

import logging
import math
import select
from typing import TYPE_CHECKING, Protocol

import trio

from meshcore._wakeup import Wakeup, checkpoint
from meshcore.transport.socket import wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Sweeper", "Swept"]

log = logging.getLogger(__name__)

_EPOLLRDHUP: int | None = getattr(select, "EPOLLRDHUP", None)
_TURN = 1000
"""Items swept before others get a turn."""


class Swept(Protocol):
    """Something with limits."""

    def sweep(self, now: float, /) -> None:
        """Compares its counters with those of the last call and ends what is over a limit.
        Synchronous; must not raise.  It may remove itself from the sweeper, or change its limit."""


class _Bucket:
    """Everything with one limit, swept together."""

    __slots__ = ("due", "interval", "items")

    def __init__(self, limit: float, now: float) -> None:
        # Short limits to a quarter of themselves; long ones to half a second or a sixteenth, so that one
        # of 10 s is kept to within a second and one of an hour costs next to nothing.
        self.interval = max(limit / 4, 0.01) if limit <= 2.0 else max(limit / 16, 0.5)
        self.due = now + self.interval
        self.items: dict[Swept, None] = {}


class Sweeper:
    """Calls ``sweep`` of everything added, several times within the item's limit; sleeps for ever while
    nothing is limited, so that it costs a virtual clock nothing.

    Attributes:
        ticks: how often it woke up to sweep.
    """

    __slots__ = ("_buckets", "_crashed", "_due", "_epoll", "_hangups", "_limits", "_wakeup", "ticks")

    def __init__(self, crashed: Callable[[BaseException, str], None] | None = None) -> None:
        """*crashed* hears of an item that raises, which is swept no more; default: it is logged."""
        self._crashed = crashed
        self._limits: dict[Swept, float] = {}
        self._buckets: dict[float, _Bucket] = {}
        self._due = math.inf
        self._wakeup = Wakeup()
        self._hangups: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        self.ticks = 0

    def __len__(self) -> int:
        return len(self._limits)

    def add(self, item: Swept, limit: float) -> None:
        """Sweeps *item* from now on; *limit* (seconds) is its smallest limit.  Again: changes it."""
        old = self._limits.get(item)
        if old == limit:
            return
        if old is not None:
            del self._buckets[old].items[item]
        self._limits[item] = limit
        bucket = self._buckets.get(limit)
        if bucket is None:
            bucket = self._buckets[limit] = _Bucket(limit, trio.current_time())
            if bucket.due < self._due:
                self._wakeup.wake()
        bucket.items[item] = None

    def discard(self, item: Swept) -> None:
        """Sweeps it no more."""
        limit = self._limits.pop(item, None)
        if limit is not None:
            del self._buckets[limit].items[item]

    def watch_hangup(self, fd: int, callback: Callable[[], None]) -> None:
        """Calls *callback* once, when the peer of socket *fd* closes or half-closes.  Nothing happens
        where the platform has no EPOLLRDHUP, or *fd* is -1.  Again for the same *fd*: replaces it."""
        if fd < 0 or _EPOLLRDHUP is None:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._wakeup.wake()
        self.unwatch_hangup(fd)
        self._hangups[fd] = callback
        self._epoll.register(fd, _EPOLLRDHUP | select.EPOLLET)

    def unwatch_hangup(self, fd: int) -> None:
        """Watches it no more: to be called before the descriptor is closed."""
        if self._hangups.pop(fd, None) is not None and self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                # Closed before, which took it out of the epoll.
                pass

    async def run(self) -> None:
        """Sweeps until cancelled; started once, in the nursery of whoever owns the connections."""
        try:
            async with trio.open_nursery() as nursery:
                watching = False
                while True:
                    if self._epoll is not None and not watching:
                        watching = True
                        nursery.start_soon(self._watch, self._epoll)
                    self._due = min([bucket.due for bucket in self._buckets.values()], default=math.inf)
                    if self._due == math.inf:
                        await self._wakeup.wait()
                        continue
                    with trio.move_on_at(self._due) as scope:
                        await self._wakeup.wait()
                    if scope.cancelled_caught:
                        self.ticks += 1
                        await self._sweep(trio.current_time())
        finally:
            if self._epoll is not None:
                self._epoll.close()
                self._epoll = None
                self._hangups.clear()

    async def _sweep(self, now: float) -> None:
        swept = 0
        for limit, bucket in list(self._buckets.items()):
            if bucket.due > now:
                continue
            if not bucket.items:
                del self._buckets[limit]
                continue
            bucket.due = now + bucket.interval
            for item in list(bucket.items):
                if item in bucket.items:
                    try:
                        item.sweep(now)
                    except Exception as error:
                        self.discard(item)
                        self._report(error)
                swept += 1
                if swept % _TURN == 0:
                    await checkpoint()

    def _report(self, error: Exception) -> None:
        if self._crashed is not None:
            self._crashed(error, "sweeper")
        else:
            log.warning("crash in sweeper: %s: %s", type(error).__name__, error, exc_info=error)

    async def _watch(self, epoll: select.epoll) -> None:
        while True:
            await wait_readable(epoll.fileno())
            for fd, _ in epoll.poll(0):
                callback = self._hangups.get(fd)
                if callback is not None:
                    self.unwatch_hangup(fd)
                    try:
                        callback()
                    except Exception as error:
                        self._report(error)
