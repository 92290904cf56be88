"""HTTP/1 to one endpoint: a service over connections that are kept and used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.client.http1_connection import Http1Connection
from meshcore.client.pool import Pool
from meshcore.errors import ConnectError, ConnectionLost, caused

if TYPE_CHECKING:
    import trio

    from meshcore.abc import Connect
    from meshcore.client.options import ClientOptions
    from meshcore.client.pool import PoolStatistics
    from meshcore.http.message import Request, Response
    from meshcore.transport.connection import Connection
    from meshcore.transport.sweep import Sweeper
    from meshcore.transport.target import Endpoint

__all__ = ["Http1Client"]


class Http1Client:
    """A service for one endpoint over HTTP/1.

    Requests for the same host reuse each other's connections, one at a time; HTTP/1.0 requests and
    those without a host have a connection of their own, used once (D-33).  A kept connection that its
    peer has closed meanwhile costs one further try on a new connection, where that cannot do harm.
    """

    def __init__(
        self, endpoint: Endpoint, connect: Connect, nursery: trio.Nursery, options: ClientOptions, sweeper: Sweeper
    ) -> None:
        self.endpoint = endpoint
        self.nursery = nursery
        self.options = options
        self.sweeper = sweeper
        self.pool: Pool[Http1Connection] = Pool(sweeper, options.max_idle, options.idle_timeout)
        self.connections: set[Http1Connection] = set()
        self._connect = connect

    async def __call__(self, request: Request, /) -> Response:
        """One exchange.

        Raises:
            ConnectError: no connection could be made; the request was not touched.
            ConnectionLost: it broke before the response's head was complete.
            UpstreamProtocolError: the answer was no HTTP/1.
            RequestBodyError: the request's body broke first.
            StreamTimeout: one of ``request.timeouts`` fired before the response's head.
        """
        key = _key(request)
        upstream = self.pool.take(key) if key is not None else None
        if upstream is None:
            return await (await self.open()).exchange(request, key)
        try:
            return await upstream.exchange(request, key)
        except ConnectionLost:
            if not upstream.may_try_again(request):
                raise
            stale = upstream
        try:
            upstream = await self.open()
        except ConnectError as error:
            if stale.untouched:
                raise
            # Whoever tries again has to have kept the body.
            raise caused(ConnectionLost(str(error), retryable=not stale.written), error) from error
        return await upstream.exchange(request, key, stale)

    async def open(self) -> Http1Connection:
        """A new connection; raises :class:`ConnectError`."""
        return self.adopt(await self._connect(self.endpoint))

    def adopt(self, connection: Connection) -> Http1Connection:
        """Takes over a connection made elsewhere."""
        connection.poll_with(self.sweeper.poller)
        return Http1Connection(self, connection)

    async def ready(self) -> None:
        """Makes sure that a connection can be made: makes one and keeps it; raises :class:`ConnectError`."""
        self.pool.give(None, await self.open())

    def close(self) -> None:
        """Closes every connection, also those in use.  Synchronous."""
        self.pool.close()
        for connection in list(self.connections):
            connection.close()

    def statistics(self) -> PoolStatistics:
        """The pool's."""
        return self.pool.statistics()


def _key(request: Request) -> bytes | None:
    """What must be equal for two requests to share connections; None: share with nobody."""
    authority = request.authority
    if request.version == 10 or not authority:
        # A request that came by HTTP/2 without an authority is sent with the endpoint's.
        return b"" if request.version == 20 else None
    return b"\0" + authority if request.absolute_form else authority
