"""The sweeper: one task that enforces every idle, header and total limit of many connections.

A deadline or a scope per read would cost more than the read.  Connections bump a counter instead, and
once in a while the sweeper asks each of them whether its limits still hold.  Beside it runs the poller that
tells which of their sockets can be read, and whose peer has hung up while its request is being answered.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Protocol

import trio

from meshcore._wakeup import Wakeup, checkpoint
from meshcore.transport.readiness import Poller

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Sweeper", "Swept"]

log = logging.getLogger(__name__)

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
        poller: tells which sockets can be read, while the sweeper runs.
        ticks: how often it woke up to sweep.
    """

    __slots__ = ("_buckets", "_crashed", "_due", "_limits", "_wakeup", "poller", "ticks")

    def __init__(self, crashed: Callable[[BaseException, str], None] | None = None) -> None:
        """*crashed* hears of an item that raises, which is swept no more; default: it is logged."""
        self._crashed = crashed
        self._limits: dict[Swept, float] = {}
        self._buckets: dict[float, _Bucket] = {}
        self._due = math.inf
        self._wakeup = Wakeup()
        self.poller = Poller()
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
        where the platform cannot tell, or *fd* is -1.  Again for the same *fd*: replaces it."""
        record = self.poller.find(fd)
        if record is None or not record.reader:
            record = self.poller.add(fd, reader=False)
            if record is not None:
                record.hangup = callback
        else:
            record.hangup = callback
            # It may have happened before anybody wanted to know.
            self.poller.again(record)

    def unwatch_hangup(self, fd: int) -> None:
        """Watches it no more: to be called before the descriptor is closed."""
        record = self.poller.find(fd)
        if record is not None:
            record.hangup = None
            if not record.reader:
                record.close()

    async def run(self) -> None:
        """Sweeps until cancelled; started once, in the nursery of whoever owns the connections."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.poller.run, self._report)
            while True:
                self._due = min([bucket.due for bucket in self._buckets.values()], default=math.inf)
                if self._due == math.inf:
                    await self._wakeup.wait()
                    continue
                with trio.move_on_at(self._due) as scope:
                    await self._wakeup.wait()
                if scope.cancelled_caught:
                    self.ticks += 1
                    await self._sweep(trio.current_time())

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
