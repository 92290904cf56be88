"""Idle connections to one endpoint: O(1) to take and to give, the one used last first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import attrs
import trio

if TYPE_CHECKING:
    from meshcore.transport.sweep import Sweeper

__all__ = ["Idle", "Pool", "PoolStatistics"]


class Idle(Protocol):
    """What a pool keeps.

    Attributes:
        idle_since: when it was given (``trio.current_time()``).
        closed: it is over; it may still lie in the pool, and nobody will get it.
    """

    idle_since: float
    closed: bool

    def usable(self) -> bool:
        """Whether a request may be sent: closed by no one, and not a byte or an end to be read."""
        ...

    def close(self) -> None:
        """Frees its descriptor at once."""
        ...


C = TypeVar("C", bound=Idle)


@attrs.frozen
class PoolStatistics:
    """A pool at one moment.

    Attributes:
        idle: connections kept.
        hits: requests that found one.
        misses: requests that did not.
        expired: connections that were idle for too long, or closed by their peer.
    """

    idle: int
    hits: int
    misses: int
    expired: int


class Pool(Generic[C]):
    """Idle connections by key; ``fresh`` ones have not carried a request yet and fit any key.

    Connections are closed by the sweeper before they have been idle for *idle_timeout* seconds, the last
    quarter of it given or taken; it is parked while there are none; no more than *max_idle* are kept (D-33).
    """

    __slots__ = (
        "_by_key",
        "_count",
        "_expired",
        "_fresh",
        "_hits",
        "_idle_timeout",
        "_max_idle",
        "_misses",
        "_sweeper",
        "_swept",
    )

    def __init__(self, sweeper: Sweeper, max_idle: int, idle_timeout: float | None) -> None:
        self._sweeper = sweeper
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._by_key: dict[bytes, deque[C]] = {}
        self._fresh: deque[C] = deque()
        self._count = 0
        self._hits = 0
        self._misses = 0
        self._expired = 0
        self._swept = False

    def take(self, key: bytes, /) -> C | None:
        """A usable connection for *key*, or None."""
        idle = self._by_key.get(key)
        while idle:
            connection = idle.pop()
            self._count -= 1
            if connection.usable():
                self._hits += 1
                return connection
            self._expired += 1
            connection.close()
        if self._fresh:
            return self.take_fresh()
        self._misses += 1
        return None

    def take_fresh(self) -> C | None:
        """A usable connection that has not carried a request, or None."""
        while self._fresh:
            connection = self._fresh.pop()
            self._count -= 1
            if connection.usable():
                self._hits += 1
                return connection
            self._expired += 1
            connection.close()
        self._misses += 1
        return None

    def give(self, key: bytes | None, connection: C, /) -> None:
        """Keeps *connection* for *key* (None: for any); closes it where there are enough."""
        if self._count >= self._max_idle:
            connection.close()
            return
        if not self._swept and self._idle_timeout is not None:
            self._swept = True
            self._sweeper.add(self, self._idle_timeout)
        connection.idle_since = trio.current_time()
        self._count += 1
        if key is None:
            self._fresh.append(connection)
            return
        idle = self._by_key.get(key)
        if idle is None:
            self._by_key[key] = deque((connection,))
        else:
            idle.append(connection)

    def sweep(self, now: float, /) -> None:
        """Closes what has been idle for too long; see :class:`~meshcore.transport.sweep.Swept`."""
        limit = self._idle_timeout
        if limit is None:
            return
        # The next sweep is a quarter of the limit away, so what would be too old by then goes now.
        oldest = now - limit * 0.75
        empty: list[bytes] = []
        for key, idle in self._by_key.items():
            self._prune(idle, oldest)
            if not idle:
                # A key that nobody uses takes no memory: hosts are named by clients.
                empty.append(key)
        for key in empty:
            del self._by_key[key]
        self._prune(self._fresh, oldest)
        if not self._count and not self._by_key:
            self._swept = False
            self._sweeper.discard(self)

    def _prune(self, idle: deque[C], oldest: float) -> None:
        while idle and (idle[0].closed or idle[0].idle_since <= oldest):
            connection = idle.popleft()
            self._count -= 1
            self._expired += 1
            connection.close()

    def close(self) -> None:
        """Closes everything that is idle.  Synchronous, idempotent."""
        for idle in (*self._by_key.values(), self._fresh):
            for connection in idle:
                connection.close()
        self._by_key.clear()
        self._fresh.clear()
        self._count = 0
        if self._swept:
            self._swept = False
            self._sweeper.discard(self)

    def statistics(self) -> PoolStatistics:
        """Counts as of now."""
        return PoolStatistics(self._count, self._hits, self._misses, self._expired)
