"""What passes through the shipped gateway unchanged, what is changed on purpose, and who is told what.

The IDs are those of ``docs/reference/parity_ids.toml``.  Both ends are peers that speak raw bytes (or frames, by the
reference codec), so that everything is compared as it is on the wire.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import meshcore
from meshcore import ClientOptions, Drain, Endpoint
from meshcore.codec import events
from meshcore.config import TlsFiles, proxy_config
from meshcore.errors import ConnectionLost
from meshcore.metrics.registry import Registry
from meshcore.pipeline import gateway
from meshcore.server.serve import Server
from meshcore.testing import MemoryNetwork
from meshcore.transport.stream import connection_over
from tests.http1_peers import Peer, settle
from tests.peers import frames
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")

FRONT = ("10.0.0.1", 8080)
BACK = ("10.0.0.2", 80)
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class World:
    """The gateway as ``meshcore proxy`` runs it, a client's ends before it and an upstream's behind it.

    Attributes:
        network: None: loopback sockets.
        server: the running server.
        done: it has ended.
    """

    server: Server

    def __init__(self, nursery: trio.Nursery, network: MemoryNetwork | None) -> None:
        self.nursery = nursery
        self.network = network
        self.registry = Registry()
        self.drain = Drain()
        self.done = trio.Event()
        # The upstream's ends: those that something came on, those that are silent, and how many closed without a byte.
        self.spoken: list[Peer] = []
        self.silent: dict[Peer, trio.CancelScope] = {}
        self.probes = 0
        self.peers: list[Peer] = []
        self.sockets: list[Any] = []
        self.backs: list[Any] = []
        self.news = trio.Event()
        self.front: tuple[str, int] = FRONT
        self.back: tuple[str, int] = BACK

    async def start(self, scheme: str = "http", listen: str = "", **changes: Any) -> None:
        if self.network is not None:
            fronts: list[Any] = [self.network.listen(FRONT)]
            self.backs = [self.network.listen(BACK)]
            connect: Any = self.network.connect
        else:
            fronts = list(await trio.open_tcp_listeners(0, host="127.0.0.1"))
            self.backs = list(await trio.open_tcp_listeners(0, host="127.0.0.1"))
            self.front, self.back = (found.socket.getsockname()[:2] for found in (fronts[0], self.backs[0]))
            connect = meshcore.connect_tcp
        config = proxy_config([f"{listen}127.0.0.1:0"], [f"{scheme}://{self.back[0]}:{self.back[1]}"], admin="off")
        pipeline = gateway(attrs.evolve(config, **changes), registry=self.registry)
        self.nursery.start_soon(self._accept, self.backs[0])
        self.server = await self.nursery.start(partial(self._serve, pipeline.layer(connect), fronts))

    async def _serve(self, new_accept: Any, fronts: Any, task_status: Any) -> None:
        serve = partial(meshcore.serve, new_accept, fronts, drain=self.drain, upstreams=self.nursery)
        await serve(task_status=task_status)
        self.done.set()

    async def client(self) -> Peer:
        """A new connection to the gateway."""
        connect: Any = meshcore.connect_tcp if self.network is None else self.network.connect
        self.peers.append(Peer(await connect(Endpoint(self.front))))
        return self.peers[-1]

    async def tls_client(self, pki: Any, *alpn: str) -> trio.SSLStream[trio.SocketStream]:
        """A new connection over TLS, with a library that is not ours."""
        context = ssl.create_default_context(cafile=str(pki.ca_file))
        if alpn:
            context.set_alpn_protocols(alpn)
        plain = await trio.open_tcp_stream(*self.front)
        self.sockets.append(plain.socket)
        stream = trio.SSLStream(plain, context, server_hostname="localhost")
        await stream.do_handshake()
        return stream

    def close(self) -> None:
        """Closes every end that is not the gateway's."""
        for peer in self.peers:
            peer.close()
        for sock in self.sockets:
            sock.close()
        for back in self.backs:
            (back.socket if self.network is None else back).close()

    async def _accept(self, listener: trio.abc.Listener[Any]) -> None:
        while True:
            self.peers.append(Peer(connection_over(await listener.accept())))
            self.nursery.start_soon(self._listen, self.peers[-1])

    async def _listen(self, peer: Peer) -> None:
        with trio.CancelScope() as self.silent[peer]:
            self._tell()
            try:
                data = await peer.connection.receive_some()
            except ConnectionLost:
                data = b""
            del self.silent[peer]
            if data:
                peer.connection.unread(data)
                self.spoken.append(peer)
            else:
                self.probes += 1
            self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def upstream(self) -> Peer:
        """The next connection to the upstream on which something came."""
        with trio.fail_after(60):
            while not self.spoken:
                await self.news.wait()
        return self.spoken.pop(0)

    async def silent_upstream(self) -> Peer:
        """The connection to the upstream on which nothing came, once the balancer's probe has been closed."""
        with trio.fail_after(60):
            while not (self.probes and self.silent):
                await self.news.wait()
        peer, listening = self.silent.popitem()
        listening.cancel()
        return peer

    async def h2_client(self) -> CodecPeer:
        return CodecPeer((await self.client()).connection)

    async def h2_upstream(self) -> CodecPeer:
        return CodecPeer((await self.upstream()).connection, server=True)

    async def pass_through(self, request: bytes, forwarded: bytes, answer: bytes, answered: bytes) -> None:
        """One exchange on new connections, compared on every side."""
        client = await self.client()
        await client.send(request)
        upstream = await self.upstream()
        await upstream.expect(forwarded)
        await upstream.send(answer)
        await client.expect(answered)
        client.close()
        upstream.close()

    def metric(self, text: str) -> float:
        """The sum of the samples whose line contains *text*."""
        lines = self.registry.render().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if text in line and not line.startswith("#"))


@contextlib.asynccontextmanager
async def worlds(network: MemoryNetwork | None, **start: Any) -> AsyncIterator[World]:
    with contextlib.ExitStack() as after:
        async with trio.open_nursery() as nursery:
            world = World(nursery, network)
            after.callback(world.close)
            await world.start(**start)
            yield world
            nursery.cancel_scope.cancel()
    assert world.server.crashes_total == 0


def memory(**start: Any) -> contextlib.AbstractAsyncContextManager[World]:
    return worlds(MemoryNetwork(), **start)


def sockets(**start: Any) -> contextlib.AbstractAsyncContextManager[World]:
    return worlds(None, **start)


NETWORKS = pytest.mark.parametrize("where", [memory, sockets], ids=["memory", "sockets"])
Where = Callable[..., contextlib.AbstractAsyncContextManager[World]]


# ----- detection -----


@pytest.mark.parity("D-01", "D-03", "D-09")
async def test_a_request_that_comes_byte_by_byte_is_served_as_http_and_loses_none() -> None:
    async with memory() as world:
        client = await world.client()
        for index in range(len(GET)):
            await client.send(GET[index : index + 1])
            await settle()
        upstream = await world.upstream()
        await upstream.expect(GET)
        await upstream.send(OK)
        await client.expect(OK)


@pytest.mark.parity("D-02", "D-09")
async def test_a_preface_in_two_pieces_is_served_as_http2() -> None:
    async with memory() as world:
        client = await world.h2_client()
        stream_id = client.send(b"GET", b"/x")
        opening = client.codec.data_to_send()
        await client.connection.send_all(opening[:10])
        await settle()
        await client.connection.send_all(opening[10:])
        upstream = await world.h2_upstream()
        assert (await upstream.wait_for(events.RequestReceived)).path == b"/x"
        upstream.codec.send_response(1, 204, [], end_stream=True)
        await upstream.flush()
        assert (await client.answer(stream_id)).status == 204


@pytest.mark.parity("D-04", "D-09", "X-58")
@NETWORKS
async def test_what_is_not_http_passes_byte_for_byte_both_ways(where: Where) -> None:
    async with where() as world:
        client = await world.client()
        await client.send(b"\x16\x03\x01\x00\x02hi")
        upstream = await world.upstream()
        await upstream.expect(b"\x16\x03\x01\x00\x02hi")
        await upstream.send(b"\x00pong")
        await client.expect(b"\x00pong")
        await client.eof()
        await upstream.expect_end()
        await upstream.send(b"last")
        await upstream.eof()
        assert await client.rest() == b"last"


@pytest.mark.parity("D-04")
async def test_a_client_that_closes_without_a_byte_reaches_nobody() -> None:
    async with memory() as world:
        client = await world.client()
        await client.eof()
        await client.expect_end()
        assert world.metric('result="error"') == 1
        assert world.metric("tcp_open_total{") == 1


@pytest.mark.parity("D-05", "X-60")
async def test_after_a_second_of_silence_the_server_speaks_first(autojump_clock: trio.testing.MockClock) -> None:
    async with memory() as world:
        client = await world.client()
        started = trio.current_time()
        upstream = await world.silent_upstream()
        assert trio.current_time() - started == 1.0
        await upstream.send(b"220 ready\r\n")
        await client.expect(b"220 ready\r\n")
        await client.send(b"EHLO a.test\r\n")
        await upstream.expect(b"EHLO a.test\r\n")


@pytest.mark.parity("D-06")
async def test_http_after_the_silence_is_served_as_http(autojump_clock: trio.testing.MockClock) -> None:
    async with memory() as world:
        client = await world.client()
        opaque = await world.silent_upstream()
        await client.send(GET)
        upstream = await world.upstream()
        await upstream.expect(GET)
        await upstream.send(OK)
        await client.expect(OK)
        # The connection that was made for a server that might speak got nothing.
        with contextlib.suppress(ConnectionLost):
            await opaque.expect_end()
        assert opaque.buffer == b""
        assert world.metric('results_total{result="read_timeout"') == 1


@pytest.mark.parity("D-07")
async def test_what_was_detected_is_in_the_metrics(autojump_clock: trio.testing.MockClock) -> None:
    async with memory() as world:
        for first, result in ((GET, "http/1"), (frames.PREFACE, "http/2"), (b"\x00\x01", "not_http")):
            client = await world.client()
            await client.send(first)
            await settle()
            assert world.metric(f'inbound_tcp_detect_http_results_total{{result="{result}"') == 1
        assert world.metric("inbound_tcp_detect_http_duration_seconds_count") == 3


@pytest.mark.parity("D-08")
@pytest.mark.parametrize("alpn", ["h2", None])
async def test_inside_tls_alpn_decides_and_without_it_the_preface(pki: Any, alpn: str | None) -> None:
    async with sockets(tls=TlsFiles(*pki.issue("localhost"))) as world:
        stream = await world.tls_client(pki, *([alpn] if alpn else []))
        assert stream.selected_alpn_protocol() == alpn
        client = CodecPeer(connection_over(stream))
        stream_id = client.send()
        await client.flush()
        upstream = await world.h2_upstream()
        await upstream.wait_for(events.RequestReceived)
        upstream.codec.send_response(1, 204, [], end_stream=True)
        await upstream.flush()
        assert (await client.answer(stream_id)).status == 204


# ----- who speaks first -----


@pytest.mark.parity("X-60")
@pytest.mark.parametrize("declared", ["listener", "endpoint", "port"])
async def test_a_server_speaks_at_once_where_that_was_declared(
    declared: str, autojump_clock: trio.testing.MockClock
) -> None:
    how: dict[str, dict[str, Any]] = {
        "listener": {"listen": "tcp://"},
        "endpoint": {"scheme": "tcp"},
        "port": {"opaque_ports": frozenset({BACK[1]})},
    }
    async with memory(**how[declared]) as world:
        started = trio.current_time()
        client = await world.client()
        upstream = await world.silent_upstream()
        await upstream.send(b"220 ready\r\n")
        await client.expect(b"220 ready\r\n")
        assert trio.current_time() == started


@pytest.mark.parity("X-60")
async def test_a_server_speaks_first_over_tls(pki: Any) -> None:
    async with sockets(scheme="tcp", tls=TlsFiles(*pki.issue("localhost"))) as world:
        stream = await world.tls_client(pki)
        upstream = await world.silent_upstream()
        await upstream.send(b"220 ready\r\n")
        assert await stream.receive_some() == b"220 ready\r\n"
        await stream.send_all(b"QUIT\r\n")
        await upstream.expect(b"QUIT\r\n")


@pytest.mark.parity("X-61")
@pytest.mark.parametrize("first", [GET, b"\x00opaque"], ids=["http", "opaque"])
async def test_a_client_that_closes_reaches_the_server_and_frees_the_connection(first: bytes) -> None:
    async with sockets() as world:
        client = await world.client()
        await client.send(first)
        upstream = await world.upstream()
        await upstream.expect(first)
        assert world.metric('tcp_open_connections{direction="inbound"') == 1
        client.close()
        with trio.fail_after(60):
            await upstream.expect_end()
            upstream.close()
            while world.server.open_connections:
                await trio.sleep(0.001)
        assert world.metric("tcp_open_connections{") == 0


# ----- HTTP/1 through the whole gateway -----


@pytest.mark.parity("X-58", "X-70")
@NETWORKS
async def test_an_http1_request_and_its_answer_pass(where: Where) -> None:
    async with where() as world:
        await world.pass_through(
            b"POST /a?b=c HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nContent-Length: 5\r\nX-One: 2\r\n\r\nhello",
            b"POST /a?b=c HTTP/1.1\r\nhost: a.test\r\nx-one: 1\r\ncontent-length: 5\r\nx-one: 2\r\n\r\nhello",
            b"HTTP/1.1 201 Created\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 201 Created\r\nserver: x\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 2\r\n\r\nok",
        )


@pytest.mark.parity("D-29", "X-71", "X-76")
async def test_what_belongs_to_a_connection_stays_on_it() -> None:
    async with memory() as world:
        await world.pass_through(
            b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\n"
            b"proxy-connection: keep-alive\r\nupgrade: foo\r\nx-kept: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a.test\r\nx-kept: 1\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nconnection: x-theirs\r\nx-theirs: 1\r\nkeep-alive: 5\r\nx-kept: 1\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nx-kept: 1\r\n\r\n",
        )
        await world.pass_through(
            b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
            b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            GET,
            OK,
            OK,
        )


@pytest.mark.parity("D-30", "X-74")
async def test_an_upgraded_connection_is_a_tunnel_that_holds_the_drain() -> None:
    async with memory() as world:
        client = await world.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n")
        upstream = await world.upstream()
        await upstream.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n")
        switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n"
        await upstream.send(switch + b"hello")
        await client.expect(switch + b"hello")
        world.drain.start("test")
        await settle()
        assert not world.done.is_set()
        await client.send(b"ping")
        await upstream.expect(b"ping")
        await client.eof()
        await upstream.expect_end()
        await upstream.send(b"bye")
        await upstream.eof()
        assert await client.rest() == b"bye"
        with trio.fail_after(60):
            await world.done.wait()


@pytest.mark.parity("D-30", "X-77")
async def test_connect_makes_a_tunnel_whose_answer_has_no_framing() -> None:
    async with memory() as world:
        client = await world.client()
        await client.send(b"CONNECT b.test:443 HTTP/1.1\r\nhost: b.test:443\r\n\r\n")
        upstream = await world.upstream()
        await upstream.expect(b"CONNECT b.test:443 HTTP/1.1\r\nhost: b.test:443\r\n\r\n")
        await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nx-kept: 1\r\n\r\nhello")
        await client.expect(b"HTTP/1.1 200 OK\r\nx-kept: 1\r\n\r\nhello")
        await client.send(b"ping")
        await upstream.expect(b"ping")


@pytest.mark.parity("D-31", "X-77")
@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT http://a.test/path HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"CONNECT /path HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.0\r\nhost: a.test\r\n\r\n",
        b"GET a.test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ],
)
async def test_a_connect_that_is_none_is_answered_400_and_counted_as_no_request(request_: bytes) -> None:
    async with memory() as world:
        client = await world.client()
        await client.send(request_)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert world.metric("request_total{") == 0
        # The balancer's connection is there, and nothing has come on it.
        await settle()
        assert world.spoken == []


@pytest.mark.parity("D-32", "X-73")
async def test_absolute_form_and_a_host_that_differs_are_kept_as_sent() -> None:
    async with memory() as world:
        request = b"GET http://a.test/path HTTP/1.1\r\nhost: b.test\r\n\r\n"
        await world.pass_through(request, request, OK, OK)


@pytest.mark.parity("X-63", "X-72", "D-32")
@pytest.mark.parametrize("host", [b"", b"host: a.test\r\n"])
async def test_http10_is_forwarded_and_answered_as_http10(host: bytes) -> None:
    async with memory() as world:
        request = b"GET / HTTP/1.0\r\n" + host + b"\r\n"
        answered = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        await world.pass_through(request, request, OK, answered)


@pytest.mark.parity("D-33", "X-64", "X-65")
async def test_a_host_has_its_connections_and_requests_without_one_share_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory() as world:
        client = await world.client()
        made: dict[bytes, Peer] = {}
        for host in (b"a.test", b"b.test", b"a.test", b"b.test"):
            await client.send(b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % host)
            if host not in made:
                made[host] = await world.upstream()
            await made[host].head()
            await made[host].send(OK)
            await client.expect(OK)
        for _ in range(2):
            client = await world.client()
            await client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            upstream = await world.upstream()
            await upstream.head()
            await upstream.send(OK)
            await client.head()
            await upstream.expect_end()
        # Idle ones are closed after three seconds, within a sweep.
        started = trio.current_time()
        await made[b"a.test"].expect_end()
        assert 0 < trio.current_time() - started <= 3.5
        assert ClientOptions().max_idle == 10_000


@pytest.mark.parity("D-34", "X-78", "X-79")
@pytest.mark.parametrize(
    "rest",
    [
        b"content-length: 5\r\n\r\nhello",
        b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"content-length: 0\r\n\r\n",
        b"\r\n",
    ],
    ids=["length", "chunked", "zero", "none"],
)
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"POST", b"PUT"])
async def test_a_requests_framing_is_kept(method: bytes, rest: bytes) -> None:
    request = b"%b / HTTP/1.1\r\nhost: a.test\r\n%b" % (method, rest)
    async with memory() as world:
        await world.pass_through(request, request, NO_CONTENT, NO_CONTENT)


@pytest.mark.parity("D-34", "X-80", "X-81")
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"GET", NO_CONTENT),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 55\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 55\r\n\r\n"),
        (b"GET", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_an_answers_framing_is_kept(method: bytes, answer: bytes) -> None:
    request = b"%b / HTTP/1.1\r\nhost: a.test\r\n\r\n" % method
    async with memory() as world:
        await world.pass_through(request, request, answer, answer)


@pytest.mark.parity("D-34", "X-82")
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_its_connection_passes_whole(version: bytes) -> None:
    async with memory() as world:
        client = await world.client()
        await client.send(b"GET / HTTP/%b\r\nhost: a.test\r\n\r\n" % version)
        upstream = await world.upstream()
        await upstream.head()
        await upstream.send(b"HTTP/%b 200 OK\r\n\r\nhello" % version)
        upstream.close()
        if version == b"1.0":
            assert await client.rest() == b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello"
        else:
            await client.expect(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parity("D-35")
async def test_a_head_that_does_not_end_within_ten_seconds_is_answered_408(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory() as world:
        client = await world.client()
        started = trio.current_time()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nx-slow: ")
        assert (await client.head()).startswith(b"HTTP/1.1 408 ")
        assert 10.0 <= trio.current_time() - started <= 11.0


# ----- upstreams that do not answer, or not at once -----


@pytest.mark.parity("X-62")
async def test_an_upstream_that_never_answers_is_a_504_after_the_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory(timeout=2.0, retries=0) as world:
        client = await world.client()
        await client.send(GET)
        upstream = await world.upstream()
        await upstream.expect(GET)
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"x-meshcore-error: response-timeout\r\n" in head
        await upstream.expect_end()


@pytest.mark.parity("X-62", "B-19")
async def test_an_upstream_that_never_accepts_is_a_504_after_the_fail_fast_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory() as world:
        assert world.network is not None
        world.network.faults(BACK).connect = "black-hole"
        client = await world.client()
        started = trio.current_time()
        await client.send(GET)
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"x-meshcore-error: fail-fast\r\n" in head
        assert b"connect timed out" in head
        assert trio.current_time() - started <= 4.0


@pytest.mark.parity("X-66")
async def test_a_request_waits_while_its_only_endpoint_refuses_and_is_answered_when_it_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory() as world:
        assert world.network is not None
        world.network.faults(BACK).connect = "refuse"
        client = await world.client()
        await client.send(GET)
        await trio.sleep(0.5)
        assert world.network.connects[BACK] > 1
        world.network.heal()
        upstream = await world.upstream()
        await upstream.expect(GET)
        await upstream.send(OK)
        await client.expect(OK)


# ----- HTTP/2, and one version into the other -----


async def answer(upstream: CodecPeer, count: int) -> None:
    """Answers the request number *count* of a connection."""
    request = await upstream.wait_for(events.RequestReceived, count)
    upstream.codec.send_response(request.stream_id, 204, [], end_stream=True)
    await upstream.flush()


async def request_received(upstream: CodecPeer) -> events.RequestReceived:
    return await upstream.wait_for(events.RequestReceived)


@pytest.mark.parity("X-67")
async def test_an_http2_request_without_authority_is_forwarded() -> None:
    async with memory() as world:
        client = await world.h2_client()
        stream_id = client.send(authority=b"")
        await client.flush()
        upstream = await world.h2_upstream()
        assert (await request_received(upstream)).authority == b""
        upstream.codec.send_response(1, 204, [], end_stream=True)
        await upstream.flush()
        assert (await client.answer(stream_id)).status == 204


@pytest.mark.parity("X-68", "D-28")
async def test_a_reset_reaches_the_other_side() -> None:
    async with memory() as world:
        client = await world.h2_client()
        first, second = client.send(b"POST", b"/first", end=False), client.send(b"POST", b"/second")
        await client.flush()
        upstream = await world.h2_upstream()
        await upstream.wait_for(events.RequestReceived, 2)
        numbers = {
            event.path: event.stream_id for event in upstream.events if isinstance(event, events.RequestReceived)
        }
        client.codec.reset_stream(first, 8)
        await client.flush()
        reset = await upstream.wait_for(events.StreamReset)
        assert (reset.stream_id, reset.code) == (numbers[b"/first"], 8)
        upstream.codec.reset_stream(numbers[b"/second"], 11)
        await upstream.flush()
        answer = await client.answer(second)
        assert answer.reset is not None
        assert answer.reset.code == 11


@pytest.mark.parity("X-69", "D-28")
async def test_an_http1_client_is_answered_502_where_the_upstream_resets() -> None:
    async with memory(scheme="h2c") as world:
        client = await world.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n")
        upstream = await world.h2_upstream()
        await request_received(upstream)
        upstream.codec.reset_stream(1, 2)
        await upstream.flush()
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 502 ")
        assert b"x-meshcore-error: stream-reset\r\n" in head


@pytest.mark.parity("X-75")
async def test_a_translated_request_says_nowhere_that_it_was_translated() -> None:
    async with memory(scheme="h2c") as world:
        client = await world.client()
        await client.send(GET)
        upstream = await world.h2_upstream()
        request = await request_received(upstream)
        assert (request.authority, request.headers) == (b"a.test", [])
        upstream.codec.send_response(1, 204, [(b"x-kept", b"1")], end_stream=True)
        await upstream.flush()
        await client.expect(b"HTTP/1.1 204 No Content\r\nx-kept: 1\r\n\r\n")


@pytest.mark.parity("D-36")
async def test_http2_announces_its_windows_and_streams_and_sends_no_ping(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory() as world:
        client = await world.client()
        await client.send(frames.PREFACE + frames.settings())
        await trio.sleep(600)
        data = bytes(await client.connection.receive_some())
        settings: dict[int, int] = {}
        window = 65_535
        kinds = []
        while data:
            size, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
            payload, data = data[9 : 9 + size], data[9 + size :]
            kinds.append(kind)
            if kind == frames.SETTINGS and not flags & frames.ACK:
                for start in range(0, size, 6):
                    number = int.from_bytes(payload[start : start + 2], "big")
                    settings[number] = int.from_bytes(payload[start + 2 : start + 6], "big")
            elif kind == frames.WINDOW_UPDATE:
                window += int.from_bytes(payload, "big")
        assert settings.get(3) == 100
        assert settings.get(4, 65_535) == 65_535
        assert window == 100 * 65_535
        assert frames.PING not in kinds


@pytest.mark.parity("D-38")
async def test_an_http2_connection_to_an_upstream_is_closed_after_a_minute_without_a_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory(scheme="h2c") as world:
        client = await world.client()
        await client.send(GET)
        upstream = await world.h2_upstream()
        await answer(upstream, 1)
        await client.expect(NO_CONTENT)
        started = trio.current_time()
        await upstream.until_eof()
        assert 60.0 <= trio.current_time() - started <= 66.0


@pytest.mark.parity("D-38")
async def test_an_old_http2_connection_to_an_upstream_takes_no_more_requests(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with memory(scheme="h2c", client=ClientOptions(max_age=90.0)) as world:
        client = await world.client()
        await client.send(GET)
        first = await world.h2_upstream()
        await answer(first, 1)
        await client.expect(NO_CONTENT)
        for asked in (2, 3):
            await trio.sleep(50)
            await client.send(GET)
            if asked == 2:
                await answer(first, 2)
            else:
                await answer(await world.h2_upstream(), 1)
            await client.expect(NO_CONTENT)
        await first.until_eof()
