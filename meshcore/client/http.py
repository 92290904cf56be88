"""The client end of a pipeline: speaks HTTP/1 or HTTP/2 to an endpoint, and keeps the connections."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.client.http1 import Http1Client
from meshcore.client.http2 import Http2Client
from meshcore.client.options import ClientOptions
from meshcore.errors import ConnectError, ConnectionLost, UpstreamProtocolError
from meshcore.http.pass_through import Framed
from meshcore.stack import Param, resolve
from meshcore.transport.sweep import Sweeper

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import Connect, HttpService, NewHttp
    from meshcore.http.message import Request, Response
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["EndpointClient", "Http"]

_OPTIONS = ClientOptions()
_HTTP1_FOR = 300.0
"""Seconds until an endpoint that did not speak HTTP/2 is asked again."""


@attrs.frozen
class Http:
    """Sends requests to endpoints over kept connections.

    The version is the endpoint's: ``"http/1"`` or ``"h2"`` (by prior knowledge), or for ``"http"`` that of
    the request on plaintext and on TLS without ALPN, and what the upstream chose by ALPN.  An endpoint that does
    not answer the HTTP/2 preface with HTTP/2 is sent HTTP/1 for the next five minutes, or until that fails.

    A ``mesh_proxy`` is offered no version by ALPN (D-08): requests of version 20 are sent by HTTP/2, or fail, and
    all others by HTTP/1.

    Attributes:
        options: limits, windows and times; or a function of the endpoint, where they differ (D-37).
    """

    options: Param[ClientOptions] = _OPTIONS

    def layer(self, inner: Connect, /) -> NewHttp[Endpoint]:
        """What makes a service for each endpoint, whose connections *inner* makes."""
        return _NewClient(inner, self.options)


class _NewClient:
    """Makes endpoint clients; they share one sweeper, which runs in the nursery of one of them."""

    __slots__ = ("_connect", "_nurseries", "_options", "_sweeper", "_sweeping")

    def __init__(self, connect: Connect, options: Param[ClientOptions]) -> None:
        self._connect = connect
        self._options = options
        self._sweeper = Sweeper()
        self._sweeping = False
        self._nurseries: list[trio.Nursery] = []

    def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> HttpService:
        """The client of *endpoint*; its connections are closed when *nursery* is cancelled."""
        client = EndpointClient(endpoint, self._connect, nursery, resolve(self._options, endpoint), self._sweeper)
        nursery.start_soon(self._keep, client, nursery)
        if not self._sweeping:
            self._sweeping = True
            nursery.start_soon(self._sweep, nursery)
        return client

    async def _keep(self, client: EndpointClient, nursery: trio.Nursery) -> None:
        """Owns an endpoint's connections, idle ones too."""
        self._nurseries.append(nursery)
        try:
            await trio.sleep_forever()
        finally:
            self._nurseries.remove(nursery)
            client.close()

    async def _sweep(self, nursery: trio.Nursery) -> None:
        try:
            await self._sweeper.run()
        finally:
            self._sweeping = False
            for other in self._nurseries:
                if other is not nursery and not other.cancel_scope.cancel_called:
                    # Its nursery ends, others go on: so does the sweeping, in one of theirs.
                    self._sweeping = True
                    other.start_soon(self._sweep, other)
                    break


class EndpointClient(Framed):
    """The service for one endpoint: picks the version, request by request or once for all.

    ``ready()`` is what a balancer probes with; it is found through ``__wrapped__``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        connect: Connect,
        nursery: trio.Nursery,
        options: ClientOptions,
        sweeper: Sweeper,
    ) -> None:
        super().__init__(None)
        mesh = endpoint.mesh_proxy and endpoint.protocol != "http/1"
        if endpoint.mesh_proxy and endpoint.tls is not None:
            alpn = tuple(name for name in endpoint.tls.alpn if name not in ("h2", "http/1.1"))
            endpoint = attrs.evolve(endpoint, tls=attrs.evolve(endpoint.tls, alpn=alpn))
        tls = endpoint.tls
        self.endpoint = endpoint
        self._connect = connect
        self._mesh = mesh
        self._handed: deque[Connection] = deque()
        self._choosing = trio.Lock()
        self._negotiates = tls is not None and bool(tls.alpn) and endpoint.protocol == "http" and not mesh
        # None: by the request, or not known yet where it is by ALPN.
        self._only: str | None = None if mesh or endpoint.protocol == "http" else endpoint.protocol
        # Until then HTTP/2 is not tried, on plaintext.
        self._http1_until = float("-inf")
        connects = (self._connect_http1, self._connect_http2) if self._negotiates else (connect, connect)
        self._http1 = Http1Client(endpoint, connects[0], nursery, options, sweeper)
        self._http2 = Http2Client(endpoint, connects[1], nursery, options, sweeper=sweeper)

    def __repr__(self) -> str:
        return f"<EndpointClient {self.endpoint} {self._only or 'http'}>"

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Sends the request; see :class:`Http1Client` and :class:`Http2Client` for what is raised."""
        return self._send(request)

    def _send(self, request: Request) -> Awaitable[Response]:
        only = self._only
        if only is None:
            if self._negotiates:
                return self._negotiated(request)
            if request.version != 20:
                return self._http1(request)
            if self._mesh or self._http2.settled:
                # What was translated for a proxy may not reach it as HTTP/1, so: no second thought here.
                return self._http2(request)
            return self._settled(request)
        return self._http2(request) if only == "h2" else self._http1(request)

    async def ready(self) -> None:
        """Makes sure that a connection can be made, and keeps it; raises :class:`ConnectError`."""
        if self._negotiates and self._only is None:
            await self._negotiate()
        elif self._mesh:
            if not await self._http2.settle():
                raise ConnectError(f"endpoint {self.endpoint}: does not speak HTTP/2, as a proxy of the mesh has to")
        elif self._only == "h2":
            await self._http2.ready()
        else:
            await self._http1.ready()

    async def probe(self) -> None:
        """Connects anew, and closes the connection: somebody listens there now; raises :class:`ConnectError`."""
        (await self._connect(self.endpoint)).close()

    def close(self) -> None:
        """Closes its HTTP/1 connections and those not used yet (HTTP/2 ones end with their tasks)."""
        self._http1.close()
        while self._handed:
            self._handed.pop().close()

    def statistics(self) -> object:
        """Of the version in use (to a mesh proxy, mostly HTTP/2): the pool's of HTTP/1, the connections' of HTTP/2."""
        return self._http2.statistics() if self._mesh or self._only == "h2" else self._http1.statistics()

    # ----- prior knowledge -----

    async def _settled(self, request: Request) -> Response:
        """By HTTP/2 once the upstream has shown that it speaks it, else by HTTP/1: nothing of the request is
        sent before that is known, so nothing has to be sent twice."""
        async with self._choosing:
            # The first of several requests finds out for all.
            if not self._http2.settled and trio.current_time() >= self._http1_until and not await self._http2.settle():
                self._http1_until = trio.current_time() + _HTTP1_FOR
        if trio.current_time() >= self._http1_until:
            return await self._http2(request)
        try:
            return await self._http1(request)
        except (ConnectError, ConnectionLost, UpstreamProtocolError):
            self._http1_until = float("-inf")
            raise

    # ----- ALPN -----

    async def _negotiated(self, request: Request) -> Response:
        async with self._choosing:
            # The first of several first requests finds out for all.
            if self._only is None:
                await self._negotiate()
        return await self._send(request)

    async def _negotiate(self) -> None:
        connection = await self._connect(self.endpoint)
        if connection.alpn == "h2":
            self._only = "h2"
            self._handed.append(connection)
        else:
            self._only = "http/1"
            self._http1.pool.give(None, self._http1.adopt(connection))

    async def _connect_http1(self, endpoint: Endpoint) -> Connection:
        connection = await self._connect(endpoint)
        if connection.alpn == "h2":
            self._only = "h2"
            self._handed.append(connection)
            raise ConnectError(f"endpoint {endpoint}: speaks HTTP/2 now")
        return connection

    async def _connect_http2(self, endpoint: Endpoint) -> Connection:
        connection = self._handed.popleft() if self._handed else await self._connect(endpoint)
        if connection.alpn != "h2":
            self._only = "http/1"
            self._http1.pool.give(None, self._http1.adopt(connection))
            raise ConnectError(f"endpoint {endpoint}: speaks HTTP/1 now")
        return connection
