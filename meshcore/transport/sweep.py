"""The sweeper: one task that enforces every idle, header and total limit of many connections.

A deadline or a scope per read would cost more than the read.  Connections bump a counter instead, and
once in a while the sweeper asks each of them whether its limits still hold.  Beside it one descriptor
watches all accepted sockets for a peer that hangs up while its request is being answered: an epoll of
edge-triggered EPOLLRDHUP, registered once a connection and free of cost per request.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

import trio

from meshcore._wakeup import Wakeup
from meshcore.transport.socket import wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Sweeper", "Swept"]

_EPOLLRDHUP: int | None = getattr(select, "EPOLLRDHUP", None)


class Swept(Protocol):
    """Something with limits."""

    def sweep(self, now: float, /) -> None:
        """Compares its counters with those of the last call and ends what is over a limit.
        Synchronous; must not raise.  It may remove itself from the sweeper."""


class Sweeper:
    """Calls ``sweep`` of everything added, every quarter of the smallest limit in force (at least 10 ms
    apart); sleeps for ever while nothing is limited, so that it costs a virtual clock nothing."""

    __slots__ = ("_crashed", "_epoll", "_hangups", "_intervals", "_items", "_wakeup", "ticks")

    def __init__(self, crashed: Callable[[BaseException, str], None] | None = None) -> None:
        self._crashed = crashed
        self._items: dict[Swept, float] = {}
        self._intervals: dict[float, int] = {}
        self._wakeup = Wakeup()
        self._hangups: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None
        self.ticks = 0

    def add(self, item: Swept, limit: float) -> None:
        """Sweeps *item* from now on; *limit* (seconds) is its smallest limit.  Again: changes it."""
        old = self._items.get(item)
        if old == limit:
            return
        if old is not None:
            self._drop_interval(old)
        before = min(self._intervals) if self._intervals else None
        self._items[item] = limit
        self._intervals[limit] = self._intervals.get(limit, 0) + 1
        if before is None or limit < before:
            self._wakeup.wake()

    def discard(self, item: Swept) -> None:
        """Sweeps it no more."""
        limit = self._items.pop(item, None)
        if limit is not None:
            self._drop_interval(limit)

    def _drop_interval(self, limit: float) -> None:
        count = self._intervals[limit] - 1
        if count:
            self._intervals[limit] = count
        else:
            del self._intervals[limit]

    def watch_hangup(self, fd: int, callback: Callable[[], None]) -> None:
        """Calls *callback* once, when the peer of socket *fd* closes or half-closes.  Nothing happens
        where the platform has no EPOLLRDHUP, or *fd* is -1."""
        if fd < 0 or _EPOLLRDHUP is None:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._wakeup.wake()
        self._hangups[fd] = callback
        self._epoll.register(fd, _EPOLLRDHUP | select.EPOLLET)

    def unwatch_hangup(self, fd: int) -> None:
        """Watches it no more: to be called before the descriptor is closed."""
        if self._hangups.pop(fd, None) is not None and self._epoll is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
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
                    if not self._intervals:
                        await self._wakeup.wait()
                        continue
                    pause = max(min(self._intervals) / 4, 0.01)
                    with trio.move_on_after(pause) as scope:
                        await self._wakeup.wait()
                    if not scope.cancelled_caught:
                        continue
                    self.ticks += 1
                    now = trio.current_time()
                    for item in list(self._items):
                        if item in self._items:
                            item.sweep(now)
        finally:
            if self._epoll is not None:
                self._epoll.close()
                self._epoll = None
                self._hangups.clear()

    async def _watch(self, epoll: select.epoll) -> None:
        while True:
            await wait_readable(epoll.fileno())
            for fd, _ in epoll.poll(0):
                callback = self._hangups.get(fd)
                if callback is not None:
                    self.unwatch_hangup(fd)
                    callback()
