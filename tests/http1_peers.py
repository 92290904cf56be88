"""Raw peers of HTTP/1 connections, and a proxy of nothing but its two ends between them."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

import meshcore
from meshcore.abc import HttpService
from meshcore.errors import ConnectionLost
from meshcore.server.http1 import serve_http1
from meshcore.server.options import ServerOptions
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.drain import Drain
from meshcore.transport.socket import SocketConnection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Accepted, Endpoint

KINDS = ("socket", "memory", "stream")
"""Plain sockets, memory that can do without waiting, and streams that cannot."""


def pair(kind: str) -> tuple[Connection, Connection]:
    """Two ends of a connection of one of the KINDS."""
    if kind == "socket":
        a, b = socket.socketpair()
        return SocketConnection(a), SocketConnection(b)
    return memory_connection_pair(nowait=kind == "memory")


class Peer:
    """A raw end of a connection: what came is compared byte by byte."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.connection.send_all(data)

    async def more(self) -> bytes:
        with trio.fail_after(200):
            return bytes(await self.connection.receive_some())

    async def expect(self, expected: bytes) -> None:
        """Reads as many bytes as *expected* has and compares."""
        while len(self.buffer) < len(expected):
            data = await self.more()
            if not data:
                break
            self.buffer += data
        got, self.buffer = self.buffer[: len(expected)], self.buffer[len(expected) :]
        assert got == expected

    async def head(self) -> bytes:
        """Reads up to the end of a head."""
        while b"\r\n\r\n" not in self.buffer:
            data = await self.more()
            assert data, f"end of stream after {self.buffer!r}"
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    async def rest(self) -> bytes:
        """Reads to the end of the stream."""
        while data := await self.more():
            self.buffer += data
        got, self.buffer = self.buffer, b""
        return got

    async def expect_end(self) -> None:
        """The stream ends, in order, with nothing before."""
        assert await self.rest() == b""

    async def expect_reset(self) -> bytes:
        """The stream breaks; what came before."""
        try:
            while data := await self.more():
                self.buffer += data
        except ConnectionLost:
            return self.buffer
        raise AssertionError(f"an orderly end after {self.buffer!r}")

    async def eof(self) -> None:
        await self.connection.send_eof()

    def close(self) -> None:
        self.connection.close()


class Owner:
    """Counts what a connection's boundary would."""

    def __init__(self) -> None:
        self.crashes: list[tuple[BaseException, str]] = []

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append((error, where))


class Served:
    """One accepted connection that is being served."""

    def __init__(self, client: Peer, connection: Connection, owner: Owner, drain: Drain) -> None:
        self.client = client
        self.connection = connection
        self.owner = owner
        self.drain = drain
        self.over = trio.Event()


@contextlib.asynccontextmanager
async def serving(
    service: HttpService, kind: str = "memory", options: ServerOptions | None = None, *, crashes: bool = False
) -> AsyncIterator[Served]:
    """Serves one HTTP/1 connection with *service*; ends with the block, and has not crashed then."""
    ours, theirs = pair(kind)
    owner, drain, sweeper = Owner(), Drain(), Sweeper()
    ours.owner, ours.drain, ours.sweeper = owner, drain, sweeper
    served = Served(Peer(theirs), ours, owner, drain)

    async def run() -> None:
        await serve_http1(ours, service, options or ServerOptions())
        served.over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        nursery.start_soon(run)
        try:
            yield served
        finally:
            theirs.close()
        nursery.cancel_scope.cancel()
    assert ours.closed
    if not crashes:
        assert owner.crashes == []


class OneEndpoint:
    """A NewService for accepted connections over one for endpoints: always the same endpoint."""

    def __init__(self, inner: meshcore.NewHttp[Endpoint], endpoint: Endpoint) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self.service: HttpService | None = None

    def new_service(self, _: object, nursery: trio.Nursery, /) -> HttpService:
        if self.service is None:
            self.service = self._inner.new_service(self._endpoint, nursery)
        return self.service


class Proxy:
    """ServeHttp over Http over connections that a test holds the other ends of.

    Attributes:
        upstreams: the upstream's ends of all connections made, in order.
        owner, drain, sweeper: of the accepted connections.
    """

    def __init__(self, nursery: trio.Nursery, kind: str, layer: Callable[[HttpService], HttpService] | None) -> None:
        self._nursery = nursery
        self._kind = kind
        self._layer = layer
        self.upstreams: list[Peer] = []
        self.clients: list[Peer] = []
        self._waiting: deque[trio.Event] = deque()
        self.owner, self.drain, self.sweeper = Owner(), Drain(), Sweeper()
        self.connected = 0
        self.refuse: Exception | None = None

    async def connect(self, _: Endpoint, /) -> Connection:
        await trio.lowlevel.checkpoint()
        if self.refuse is not None:
            raise self.refuse
        ours, theirs = pair(self._kind)
        self.upstreams.append(Peer(theirs))
        for event in self._waiting:
            event.set()
        return ours

    async def upstream(self, index: int = 0) -> Peer:
        """The upstream's end of the connection number *index*, once it has been made."""
        with trio.fail_after(200):
            while len(self.upstreams) <= index:
                event = trio.Event()
                self._waiting.append(event)
                await event.wait()
                self._waiting.remove(event)
        return self.upstreams[index]

    def client(self, protocol: str | None = None) -> Peer:
        """A new accepted connection: the client's end."""
        ours, theirs = pair(self._kind)
        ours.owner, ours.drain, ours.sweeper = self.owner, self.drain, self.sweeper
        ours.protocol = protocol
        self._nursery.start_soon(self.accept.new_service(Accepted(), self._nursery), ours)
        self.clients.append(Peer(theirs))
        return self.clients[-1]

    accept: meshcore.NewAccept[Accepted]

    async def round_trip(self, client: Peer, request: bytes, forwarded: bytes, answer: bytes, answered: bytes) -> None:
        """One exchange over the last upstream connection, compared on every side."""
        await client.send(request)
        await (await self.upstream(self.connected)).expect(forwarded)
        await self.upstreams[-1].send(answer)
        await client.expect(answered)


@contextlib.asynccontextmanager
async def proxying(
    kind: str = "memory",
    server: ServerOptions | None = None,
    client: meshcore.ClientOptions | None = None,
    endpoint: Endpoint = Endpoint(("10.0.0.7", 8080)),  # noqa: B008
    layer: Callable[[HttpService], HttpService] | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy of its two ends; has not crashed when the block ends."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, kind, layer)
        nursery.start_soon(proxy.sweeper.run)
        inner: meshcore.NewHttp[Accepted] = OneEndpoint(
            meshcore.Http(client or meshcore.ClientOptions()).layer(proxy.connect), endpoint
        )
        if layer is not None:
            inner = _Layered(inner, layer)
        proxy.accept = meshcore.ServeHttp(server or ServerOptions()).layer(inner)
        try:
            yield proxy
        finally:
            for peer in (*proxy.upstreams, *proxy.clients):
                peer.close()
        nursery.cancel_scope.cancel()
    assert proxy.owner.crashes == []


class _Layered:
    def __init__(self, inner: meshcore.NewHttp[Accepted], layer: Callable[[HttpService], HttpService]) -> None:
        self._inner = inner
        self._layer = layer

    def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> HttpService:
        return self._layer(self._inner.new_service(target, nursery))


Handler = Callable[[meshcore.Request], Awaitable[meshcore.Response]]


async def settle() -> None:
    """Lets every other task run until all of them wait."""
    await trio.testing.wait_all_tasks_blocked()
