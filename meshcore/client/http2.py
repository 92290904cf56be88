"""The connecting side of HTTP/2 for one endpoint: a few connections, many exchanges on each (RFC 9113)."""

from __future__ import annotations

import copy
import random
from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore._wakeup import Wakeup
from meshcore.client._http2_connection import Http2Connection
from meshcore.client._http2_run import run_http2
from meshcore.client.options import ClientOptions
from meshcore.errors import ConnectError, ConnectionLost, MeshError
from meshcore.transport.sweep import Sweeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import Connect
    from meshcore.http.message import Request, Response
    from meshcore.transport.target import Endpoint

__all__ = ["Http2Client", "Http2Statistics"]

_OPTIONS = ClientOptions()
BACKOFF_FIRST = 0.1
BACKOFF_LAST = 60.0


@attrs.frozen
class Http2Statistics:
    """An endpoint's HTTP/2 connections at one moment.

    Attributes:
        connections: open, those that take no new streams included.
        retired: open, and closing when their last stream has ended.
        streams: open on all of them.
        waiting: requests that wait for a stream.
        connects: connections made so far.
        connect_errors: tries at one that failed.
        requests: requests sent so far.
    """

    connections: int
    retired: int
    streams: int
    waiting: int
    connects: int
    connect_errors: int
    requests: int


class _Waiter:
    """A request that waits for a stream; it is handed a connection on which one is reserved, or an error."""

    __slots__ = ("connection", "error", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.connection: Http2Connection | None = None
        self.error: MeshError | None = None


class Http2Client:
    """Sends requests to one endpoint over HTTP/2.

    A request takes a connection with a free stream; the first ones share one connect.  Where all are full another
    connection is opened, up to ``options.h2_max_connections``; beyond that requests wait in order.  Each connection
    lives in a task of *nursery* (its reader; a writer beside it, and a task for an upload only where the request's
    body has not ended).  How many may wait is for the layers above to bound.

    Args:
        endpoint: who is spoken to.
        connect: makes the connections; it must raise MeshError for what is expected to fail.
        nursery: what they live in.
        options: limits and times.
        sweeper: enforces them; None: one of its own, started in *nursery* with the first connection.
        jitter: a number from 0 up to 1, for the waits between attempts to connect.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        connect: Connect,
        nursery: trio.Nursery,
        options: ClientOptions = _OPTIONS,
        *,
        sweeper: Sweeper | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self._connect = connect
        self._nursery = nursery
        self._options = options
        self._jitter = jitter
        self._sweeper = sweeper
        # Those that may take a stream; a retired one leaves it while its task goes on.
        self._open: list[Http2Connection] = []
        self._all: set[Http2Connection] = set()
        self._connecting = False
        self._waiters: deque[_Waiter] = deque()
        self._connects = 0
        self._connect_errors = 0
        self._requests = 0

    def __repr__(self) -> str:
        return f"<Http2Client {self.endpoint} connections={len(self._all)}>"

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        """Sends *request*; see :meth:`~meshcore.client._http2_connection.Http2Connection.exchange` for its errors.

        Raises:
            ConnectError: no connection could be made; retryable.
        """
        self._requests += 1
        if not self._waiters:
            for connection in self._open:
                if connection.available:
                    return connection.exchange(request)
        return self._exchange_later(request)

    async def ready(self) -> None:
        """Makes sure that there is a connection, opening one and keeping it if there is none.

        Raises:
            ConnectError: none could be made.
        """
        if not self._open:
            self._release(await self._wait())

    @property
    def settled(self) -> bool:
        """Whether a connection is open whose upstream has shown that it speaks HTTP/2."""
        for connection in self._open:  # noqa: SIM110 (asked for each request: no generator)
            if connection.settled:
                return True
        return False

    async def settle(self) -> bool:
        """Waits for the SETTINGS of a connection, opening one if there is none; whether they came.

        Raises:
            ConnectError: none could be made, or the peer refused our certificate.
        """
        connection = await self._wait()
        try:
            return await connection.settles()
        finally:
            self._release(connection)

    def statistics(self) -> Http2Statistics:
        """The counts now."""
        return Http2Statistics(
            connections=len(self._all),
            retired=len(self._all) - len(self._open),
            streams=sum(len(connection.link.streams) for connection in self._all),
            waiting=len(self._waiters),
            connects=self._connects,
            connect_errors=self._connect_errors,
            requests=self._requests,
        )

    def close(self) -> None:
        """Takes no new streams on any connection; each closes when its last one has ended."""
        for connection in list(self._all):
            connection.retire()

    # ----- waiting for a stream -----

    async def _exchange_later(self, request: Request) -> Response:
        while True:
            connection = await self._wait()
            connection.reserved -= 1
            if connection.usable:
                return await connection.exchange(request)
            # It was retired since.
            connection.ended()

    async def _wait(self) -> Http2Connection:
        """A connection on which a stream is reserved for the caller."""
        waiter = _Waiter()
        self._waiters.append(waiter)
        self._hand_out()
        try:
            while waiter.connection is None and waiter.error is None:
                await waiter.wakeup.wait()
        except BaseException:
            if waiter.connection is not None:
                self._release(waiter.connection)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        if waiter.connection is None:
            assert waiter.error is not None
            raise waiter.error
        return waiter.connection

    def _release(self, connection: Http2Connection) -> None:
        """Gives a reserved stream back."""
        connection.reserved -= 1
        connection.ended()

    def _hand_out(self) -> None:
        """Gives free streams to who has waited longest; connects where there are too few."""
        waiters = self._waiters
        while waiters:
            for connection in self._open:
                if connection.available:
                    break
            else:
                break
            waiter = waiters.popleft()
            connection.reserved += 1
            waiter.connection = connection
            waiter.wakeup.wake()
        if waiters and not self._connecting and len(self._open) < self._options.h2_max_connections:
            self._connecting = True
            self._nursery.start_soon(self._keep_connection)

    def _changed(self) -> None:
        """A connection has become usable, has a stream free, takes none any more, or is gone."""
        for connection in self._open:
            if connection.retired:
                self._open = [connection for connection in self._open if not connection.retired]
                break
        if self._waiters:
            self._hand_out()

    def _freed(self) -> None:
        """A stream has ended."""
        if self._waiters:
            self._hand_out()

    # ----- the task of one connection -----

    async def _keep_connection(self) -> None:
        """Connects, and is the connection's reader until it is over."""
        try:
            connection = await self._try_to_connect()
        except MeshError as error:
            self._connecting = False
            self._failed(error)
            return
        except Exception as error:
            self._connecting = False
            failure = ConnectError(f"endpoint {self.endpoint}: {error!r}")
            failure.__cause__ = error
            self._failed(failure)
            return
        except BaseException:
            self._connecting = False
            self._failed(ConnectionLost(f"endpoint {self.endpoint}: gone", retryable=True))
            raise
        sweeper = self._sweeper
        if sweeper is None:
            sweeper = self._sweeper = Sweeper()
            self._nursery.start_soon(sweeper.run)
        self._connects += 1
        self._all.add(connection)
        self._open.append(connection)
        sweeper.add(connection, connection.limit)
        self._connecting = False
        try:
            await run_http2(connection, sweeper)
        finally:
            sweeper.discard(connection)
            self._all.discard(connection)

    async def _try_to_connect(self) -> Http2Connection:
        backoff = BACKOFF_FIRST
        attempts = self._options.connect_attempts
        while True:
            try:
                return Http2Connection(
                    self.endpoint, await self._connect(self.endpoint), self._options, self._changed, self._freed
                )
            except ConnectError:
                self._connect_errors += 1
                attempts -= 1
                if attempts <= 0:
                    raise
            await trio.sleep(backoff * (0.5 + self._jitter() / 2))
            backoff = min(2 * backoff, BACKOFF_LAST)

    def _failed(self, error: MeshError) -> None:
        """No connection: whoever waits hears of it, unless there are others whose streams will end."""
        if self._open:
            return
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            # One each: an exception raised in several tasks would collect all their tracebacks.
            waiter.error = copy.copy(error)
            waiter.error.__cause__ = error
            waiter.wakeup.wake()
