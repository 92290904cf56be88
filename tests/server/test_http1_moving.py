"""Large bodies over HTTP/1: moved from socket to socket in the kernel where they can be, the rest as ever."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from meshcore import Request, Response, Timeouts
from meshcore.client.http1 import Http1Client
from meshcore.client.options import ClientOptions
from meshcore.errors import MeshError
from meshcore.http.body import EndOfStream
from meshcore.server.http1 import serve_http1
from meshcore.server.options import ServerOptions
from meshcore.transport import raw_body, splice
from meshcore.transport.connection import Connection
from meshcore.transport.socket import SocketConnection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Endpoint

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(not hasattr(os, "splice"), reason="the system has no splice"),
]

SIZE = 1 << 20
CONTENT = os.urandom(SIZE)
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 30)

_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


def tcp_pair() -> tuple[SocketConnection, SocketConnection]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    _sockets.extend((a, b))
    return SocketConnection(a), SocketConnection(b)


class Proxy:
    """A client's socket, a proxy, and the origin's sockets; ``moved`` is what went by the kernel."""

    def __init__(self, nursery: trio.Nursery, timeouts: Timeouts | None) -> None:
        self.origins: list[Connection] = []
        self.ends: list[EndOfStream] = []
        self.moved: list[int] = []
        self._timeouts = timeouts
        sweeper = Sweeper()
        nursery.start_soon(sweeper.run)
        self._upstream = Http1Client(Endpoint(("10.0.0.7", 80)), self._connect, nursery, ClientOptions(), sweeper)
        self.client, accepted = tcp_pair()
        accepted.sweeper = sweeper
        self.accepted = accepted
        self.done = trio.Event()
        nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        await serve_http1(self.accepted, self._service, ServerOptions(linger_timeout=0.05))
        self.done.set()

    async def _service(self, request: Request) -> Response:
        request.timeouts = self._timeouts
        response = await self._upstream(request)
        response.body.on_end(self.ends.append)
        return response

    async def _connect(self, _: Endpoint, /) -> Connection:
        ours, theirs = tcp_pair()
        self.origins.append(theirs)
        return ours

    async def origin(self) -> Connection:
        """The origin's socket, once a request has come to it."""
        while not self.origins:
            await trio.sleep(0.001)
        assert (await self.origins[0].receive_some()).endswith(b"\r\n\r\n")
        return self.origins[0]

    async def read(self, size: int) -> bytes:
        got = b""
        while len(got) < size and (data := await self.client.receive_some(size - len(got))):
            got += data
        return got

    def close(self) -> None:
        self._upstream.close()
        self.client.close()


@asynccontextmanager
async def proxying(monkeypatch: pytest.MonkeyPatch, timeouts: Timeouts | None = None) -> AsyncIterator[Proxy]:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, timeouts)
        spliced: Callable[..., Awaitable[bool]] = splice.splice_sockets

        async def noted(source: object, sink: object, moved: Callable[[int], None], most: int) -> bool:
            def count(size: int) -> None:
                proxy.moved.append(size)
                moved(size)

            return await spliced(source, sink, count, most)

        monkeypatch.setattr(raw_body, "splice_sockets", noted)
        with trio.fail_after(30):
            yield proxy
        proxy.close()
        nursery.cancel_scope.cancel()


async def test_a_large_body_is_moved_whole_and_both_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(monkeypatch) as proxy:
        for turn in range(1, 4):
            await proxy.client.send_all(GET)
            origin = await proxy.origin()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(origin.send_all, HEAD + CONTENT)
                assert HEAD + CONTENT == await proxy.read(len(HEAD) + SIZE)
            assert turn * (SIZE // 2) < sum(proxy.moved) < turn * SIZE
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == len(proxy.origins)
        assert [None] * 3 == [end.error for end in proxy.ends]


async def test_without_a_pipe_the_body_is_read_and_written_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice.Pipes, "take", lambda self: None)
    async with proxying(monkeypatch) as proxy:
        await proxy.client.send_all(GET)
        origin = await proxy.origin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(origin.send_all, HEAD + CONTENT)
            assert HEAD + CONTENT == await proxy.read(len(HEAD) + SIZE)
        assert [] == proxy.moved


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked", b"connection: close"])
async def test_a_body_without_a_length_is_not_moved(monkeypatch: pytest.MonkeyPatch, framing: bytes) -> None:
    async with proxying(monkeypatch) as proxy:
        await proxy.client.send_all(GET)
        origin = await proxy.origin()
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, CONTENT) if b"chunked" in framing else CONTENT

        async def answer() -> None:
            await origin.send_all(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (framing, body))
            origin.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            got = b""
            while not got.endswith(b"\r\n0\r\n\r\n"):
                got += await proxy.client.receive_some()
        assert [] == proxy.moved


async def test_an_origin_that_breaks_while_its_body_is_moved_is_told_by_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(monkeypatch) as proxy:
        await proxy.client.send_all(GET)
        origin = await proxy.origin()

        async def answer() -> None:
            await origin.send_all(HEAD + CONTENT[: SIZE // 2])
            while not proxy.moved:
                await trio.sleep(0.001)
            origin.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert HEAD + CONTENT[: SIZE // 2] == await proxy.read(len(HEAD) + SIZE)
        await proxy.done.wait()
        assert [True] == [isinstance(end.error, MeshError) for end in proxy.ends]


async def test_a_client_that_goes_away_while_a_body_is_moved_takes_the_origin_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with proxying(monkeypatch) as proxy:
        await proxy.client.send_all(GET)
        origin = await proxy.origin()

        async def answer() -> None:
            with pytest.raises(MeshError):
                await origin.send_all(ENDLESS)
                while True:
                    await origin.send_all(CONTENT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            await proxy.read(SIZE // 4)
            proxy.client.reset()
        await proxy.done.wait()
        assert [True] == [end.error is not None for end in proxy.ends]


@pytest.mark.parametrize("stalls", ["origin", "client"])
async def test_an_idle_limit_ends_a_body_that_stands_still_while_it_is_moved(
    monkeypatch: pytest.MonkeyPatch, stalls: str
) -> None:
    async with proxying(monkeypatch, Timeouts(idle=0.2)) as proxy:
        await proxy.client.send_all(GET)
        origin = await proxy.origin()

        async def answer() -> None:
            try:
                await origin.send_all(ENDLESS + CONTENT * (1 if stalls == "origin" else 64))
            except MeshError:
                assert stalls == "client"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            if stalls == "origin":
                await proxy.read(len(ENDLESS) + SIZE)
            await proxy.done.wait()
            origin.close()
        assert proxy.moved
        assert [True] == [end.error is not None for end in proxy.ends]
