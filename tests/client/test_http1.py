"""HTTP/1 to an endpoint: what an upstream sees, and what becomes of its answers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
import trio.testing

from meshcore import Empty, Full, Headers, Request, Response, Timeouts
from meshcore.client.http1 import Http1Client
from meshcore.client.options import ClientOptions
from meshcore.errors import (
    ConnectError,
    ConnectionLost,
    LocalProtocolError,
    RequestBodyError,
    StreamReset,
    StreamTimeout,
    UpstreamProtocolError,
)
from meshcore.http.body import Chunks, read_all
from meshcore.testing import explore_schedules
from meshcore.transport.connection import Connection
from meshcore.transport.socket import SocketConnection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Endpoint
from tests.http1_peers import KINDS, Peer, pair, settle

pytestmark = pytest.mark.usefixtures("engine")

ENDPOINT = Endpoint(("10.0.0.7", 8080))
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(path: bytes = b"/", **others: object) -> Request:
    return Request(b"GET", b"http", b"a.test", path, **others)  # type: ignore[arg-type]


def post(body: object, *fields: tuple[bytes, bytes], method: bytes = b"POST") -> Request:
    return Request(method, b"http", b"a.test", b"/", Headers(fields), body)  # type: ignore[arg-type]


class Upstream:
    """A client of one endpoint, and the upstream's ends of its connections."""

    def __init__(self, nursery: trio.Nursery, kind: str, options: ClientOptions) -> None:
        self.nursery = nursery
        self.kind = kind
        self.peers: list[Peer] = []
        self.ours: list[Connection] = []
        self.refuse = False
        self.sweeper = Sweeper()
        nursery.start_soon(self.sweeper.run)
        self.client = Http1Client(ENDPOINT, self.connect, nursery, options, self.sweeper)

    async def connect(self, _: Endpoint, /) -> Connection:
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise ConnectError("endpoint 10.0.0.7:8080: connection refused")
        ours, theirs = pair(self.kind)
        self.ours.append(ours)
        self.peers.append(Peer(theirs))
        return ours

    async def answer(self, expected: bytes, answer: bytes, connection: int = 0) -> None:
        while len(self.peers) <= connection:
            await settle()
        await self.peers[connection].expect(expected)
        await self.peers[connection].send(answer)

    async def exchange(self, request: Request, expected: bytes, answer: bytes, connection: int = 0) -> Response:
        self.nursery.start_soon(self.answer, expected, answer, connection)
        return await self.client(request)

    @property
    def idle(self) -> int:
        return self.client.statistics().idle


@contextlib.asynccontextmanager
async def upstream(kind: str = "memory", **options: object) -> AsyncIterator[Upstream]:
    async with trio.open_nursery() as nursery:
        made = Upstream(nursery, kind, ClientOptions(**options))  # type: ignore[arg-type]
        try:
            yield made
        finally:
            made.client.close()
            for peer in made.peers:
                peer.close()
        assert all(connection.closed for connection in made.ours)
        assert made.client.connections == set()
        nursery.cancel_scope.cancel()


async def test_an_exchange_and_the_connection_is_kept_for_the_next(kind: str) -> None:
    async with upstream(kind) as up:
        for number in range(3):
            response = await up.exchange(
                get(b"/%d" % number), b"GET /%d HTTP/1.1\r\nhost: a.test\r\n\r\n" % number, HELLO
            )
            assert (response.status, response.headers.raw) == (200, [(b"content-length", b"5")])
            assert await read_all(response.body) == b"hello"
            assert up.idle == 1
        assert len(up.peers) == 1


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(up.client, get(b"/%d" % number))
        await settle()
        assert len(up.peers) == 3
        for peer in up.peers:
            await peer.head()
            await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await settle()
        assert up.idle == 3


async def test_a_body_that_streams_gives_the_connection_back_at_its_end(kind: str) -> None:
    async with upstream(kind) as up:
        response = await up.exchange(get(), GET, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        body = response.body
        with pytest.raises(trio.WouldBlock):
            body.receive_nowait()
        await up.peers[0].send(b"3\r\nabc\r\n")
        assert await body.receive_some() == b"abc"
        assert up.idle == 0
        await up.peers[0].send(b"2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n")
        assert await body.receive_some() == b"de"
        assert await body.receive_some() == b""
        assert body.end is not None
        assert body.end.trailers == [(b"x-sum", b"5")]
        assert up.idle == 1


async def test_a_body_that_came_with_the_head_is_at_hand() -> None:
    async with upstream() as up:
        response = await up.exchange(get(), GET, HELLO)
        assert up.idle == 1
        assert response.body.end is None
        assert response.body.receive_nowait() == b"hello"
        assert response.body.end is not None


async def test_a_body_given_up_closes_the_connection(kind: str) -> None:
    async with upstream(kind) as up:
        response = await up.exchange(get(), GET, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        response.body.abort()
        response.body.abort()
        await up.peers[0].expect_end()
        with pytest.raises(StreamReset):
            await response.body.receive_some()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
async def test_a_truncated_body_is_an_error_and_never_an_end(kind: str, answer: bytes) -> None:
    async with upstream(kind) as up:
        response = await up.exchange(get(), GET, answer)
        up.peers[0].close()
        with pytest.raises(ConnectionLost, match=r"endpoint 10\.0\.0\.7:8080: connection lost in the response's body"):
            await read_all(response.body)
        with pytest.raises(ConnectionLost):
            response.body.receive_nowait()
        assert response.body.end is not None
        assert response.body.end.error is not None


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_malformed_body_is_the_upstreams_fault(kind: str, answer: bytes) -> None:
    async with upstream(kind) as up:
        response = await up.exchange(get(), GET, answer)
        with pytest.raises(UpstreamProtocolError):
            await read_all(response.body)
        await up.peers[0].expect_end()


@pytest.mark.parity("X-82", "D-34")
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_the_connection_is_complete(kind: str, version: bytes) -> None:
    async with upstream(kind) as up:
        response = await up.exchange(get(), GET, b"HTTP/%b 200 OK\r\n\r\nabc" % version)
        up.peers[0].close()
        assert await read_all(response.body) == b"abc"
        assert response.version == (10 if version == b"1.0" else 11)
        assert up.idle == 0


@pytest.mark.parity("X-81")
@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_with_their_head(kind: str, method: bytes, head: bytes) -> None:
    async with upstream(kind) as up:
        request = Request(method, b"http", b"a.test", b"/")
        response = await up.exchange(request, b"%b / HTTP/1.1\r\nhost: a.test\r\n\r\n" % method, head)
        assert response.body.end is not None
        assert up.idle == 1


# ----- reuse -----


@pytest.mark.parity("X-64", "D-33")
async def test_the_same_host_shares_connections_and_another_has_its_own(kind: str) -> None:
    async with upstream(kind) as up:
        await up.exchange(get(), GET, HELLO)
        other = Request(b"GET", b"http", b"b.test", b"/")
        await up.exchange(other, b"GET / HTTP/1.1\r\nhost: b.test\r\n\r\n", HELLO, 1)
        await up.exchange(get(), GET, HELLO, 0)
        other = Request(b"GET", b"http", b"b.test", b"/")
        await up.exchange(other, b"GET / HTTP/1.1\r\nhost: b.test\r\n\r\n", HELLO, 1)
        assert len(up.peers) == 2


@pytest.mark.parity("D-33")
async def test_absolute_form_has_connections_of_its_own() -> None:
    async with upstream() as up:
        await up.exchange(get(), GET, HELLO)
        request = get(absolute_form=True)
        await up.exchange(request, b"GET http://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n", HELLO, 1)


@pytest.mark.parity("X-65", "D-33")
@pytest.mark.parametrize("authority", [b"", b"a.test"])
async def test_http10_requests_have_a_connection_each(authority: bytes) -> None:
    host = b"host: a.test\r\n" if authority else b""
    async with upstream() as up:
        for number in range(2):
            request = Request(b"GET", b"http", authority, b"/", version=10)
            await up.exchange(request, b"GET / HTTP/1.0\r\n%b\r\n" % host, HELLO, number)
        assert len(up.peers) == 2
        assert up.idle == 0


async def test_a_request_without_an_authority_from_http2_is_sent_with_the_endpoints() -> None:
    async with upstream() as up:
        request = Request(b"GET", b"http", b"", b"/", version=20)
        await up.exchange(request, b"GET / HTTP/1.1\r\nhost: 10.0.0.7:8080\r\n\r\n", HELLO)
        assert up.idle == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc",
    ],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(kind: str, answer: bytes) -> None:
    async with upstream(kind) as up:
        await up.exchange(get(), GET, answer)
        assert up.idle == 0
        await up.peers[0].expect_end()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_an_idle_connection_that_was_closed_or_spoken_on_is_not_used(sent: bytes) -> None:
    async with upstream("socket") as up:
        await up.exchange(get(), GET, HELLO)
        # In one step: nobody has had a turn to notice.
        theirs = up.peers[0].connection
        if sent:
            theirs.send_nowait(sent)
        else:
            theirs.close()
        await up.exchange(post(Full(b"x")), b"POST / HTTP/1.1\r\n", HELLO, 1)
        assert up.ours[0].closed


async def test_an_idle_connection_whose_peer_closes_is_freed_at_once() -> None:
    async with upstream("socket") as up:
        await up.exchange(get(), GET, HELLO)
        up.peers[0].close()
        with trio.fail_after(60):
            while not up.ours[0].closed:
                await trio.sleep(0.001)
        assert up.client.connections == set()


async def test_an_upstream_that_closes_right_after_its_answer_is_not_used_again() -> None:
    async with upstream("socket") as up:
        response = await up.exchange(get(), GET, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
        await up.peers[0].send(b"lo")
        up.peers[0].close()
        await settle()
        assert await read_all(response.body) == b"hello"
        assert up.ours[0].closed


async def test_ready_makes_a_connection_and_keeps_it_for_any_host() -> None:
    async with upstream() as up:
        await up.client.ready()
        assert up.idle == 1
        await up.exchange(get(), GET, HELLO)
        assert len(up.peers) == 1
        up.refuse = True
        with pytest.raises(ConnectError):
            await up.client.ready()


# ----- stale connections -----


async def kept(up: Upstream) -> Peer:
    """A connection that has carried a request and is idle now."""
    await up.exchange(get(), GET, HELLO)
    return up.peers[0]


async def _break(peer: Peer, reset: bool) -> None:
    await peer.head()
    if reset:
        peer.connection.reset()
    else:
        peer.close()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "request_", [lambda: get(), lambda: post(Full(b"abc"), (b"content-length", b"3"), method=b"PUT")]
)
async def test_an_idempotent_request_lost_on_a_kept_connection_goes_out_once_more(
    kind: str, reset: bool, request_: object
) -> None:
    async with upstream(kind) as up:
        peer = await kept(up)
        up.nursery.start_soon(_break, peer, reset)
        request: Request = request_()  # type: ignore[operator]
        head = b"%b / HTTP/1.1\r\nhost: a.test\r\n" % request.method
        rest = b"content-length: 3\r\n\r\nabc" if request.method == b"PUT" else b"\r\n"
        response = await up.exchange(request, head + rest, HELLO, 1)
        assert await read_all(response.body) == b"hello"


async def test_a_post_lost_on_a_kept_connection_is_not_sent_again(kind: str) -> None:
    async with upstream(kind) as up:
        peer = await kept(up)
        up.nursery.start_soon(_break, peer, False)
        with pytest.raises(ConnectionLost) as caught:
            await up.client(post(Full(b"abc")))
        assert caught.value.retryable is False
        assert len(up.peers) == 1


async def test_a_post_that_could_not_be_written_is_sent_again() -> None:
    class Refuses(Exception):
        pass

    async with upstream("memory") as up:
        await kept(up)
        ours = up.ours[0]

        def send_nowait(data: bytes) -> int:
            raise ConnectionLost("broken pipe")

        with pytest.MonkeyPatch.context() as patch:
            original = type(ours).send_nowait
            patch.setattr(
                type(ours),
                "send_nowait",
                lambda self, data: send_nowait(data) if self is ours else original(self, data),
            )
            response = await up.exchange(
                post(Full(b"abc"), (b"content-length", b"3")),
                b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc",
                HELLO,
                1,
            )
        assert response.status == 200


async def test_a_request_lost_twice_is_lost() -> None:
    async with upstream() as up:
        peer = await kept(up)

        async def break_both() -> None:
            await _break(peer, False)
            while len(up.peers) < 2:
                await settle()
            await _break(up.peers[1], False)

        up.nursery.start_soon(break_both)
        with pytest.raises(ConnectionLost):
            await up.client(get())
        assert len(up.peers) == 2


async def test_a_request_lost_on_a_new_connection_is_not_sent_again(kind: str) -> None:
    async with upstream(kind) as up:

        async def accept_and_close() -> None:
            while not up.peers:
                await settle()
            await _break(up.peers[0], False)

        up.nursery.start_soon(accept_and_close)
        with pytest.raises(ConnectionLost, match="connection lost before the response"):
            await up.client(get())
        assert len(up.peers) == 1


async def test_a_request_whose_answer_had_begun_is_not_sent_again(kind: str) -> None:
    async with upstream(kind) as up:
        peer = await kept(up)

        async def half_an_answer() -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 200 OK\r\n")
            peer.close()

        up.nursery.start_soon(half_an_answer)
        with pytest.raises((ConnectionLost, UpstreamProtocolError)):
            await up.client(get())
        assert len(up.peers) == 1


async def test_a_body_that_was_taken_is_not_lost_with_a_refused_second_try() -> None:
    async with upstream() as up:
        peer = await kept(up)
        up.nursery.start_soon(_break, peer, False)
        up.refuse = True
        with pytest.raises(ConnectionLost):
            await up.client(post(Full(b"abc"), method=b"PUT"))


async def test_a_request_without_a_body_may_be_tried_elsewhere_when_the_second_try_is_refused() -> None:
    async with upstream() as up:
        peer = await kept(up)
        up.nursery.start_soon(_break, peer, False)
        up.refuse = True
        with pytest.raises(ConnectError):
            await up.client(get())


# ----- uploads -----


async def test_a_body_at_hand_goes_out_with_the_head_and_costs_no_task() -> None:
    async with upstream() as up:
        tasks = len(up.nursery.child_tasks)
        request = post(Full(b"abc"), (b"content-length", b"3"))
        up.nursery.start_soon(
            up.answer, b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc", HELLO
        )
        response = await up.client(request)
        assert response.status == 200
        assert len(up.nursery.child_tasks) == tasks
        assert up.idle == 1


async def test_a_body_without_a_length_is_chunked_with_its_trailers(kind: str) -> None:
    async with upstream(kind) as up:
        body = Chunks()
        body.push(b"abc")
        request = post(body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.client, request)
            while not up.peers:
                await settle()
            peer = up.peers[0]
            await peer.expect(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            body.push(b"de")
            await peer.expect(b"2\r\nde\r\n")
            body.push(b"f")
            body.push_end([(b"x-sum", b"6")])
            await peer.expect(b"1\r\nf\r\n0\r\nx-sum: 6\r\n\r\n")
            await peer.send(HELLO)
        assert up.idle == 1


async def test_trailers_of_a_body_without_bytes_are_sent() -> None:
    async with upstream() as up:
        await up.exchange(
            post(Empty([(b"x-sum", b"0")])),
            b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 0\r\n\r\n",
            HELLO,
        )
        assert up.idle == 1


async def test_request_and_response_flow_at_the_same_time(kind: str) -> None:
    async with upstream(kind) as up:
        body = Chunks()
        head = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"
        response = await up.exchange(post(body), head, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            body.push(b"ping")
            await up.peers[0].expect(b"4\r\nping\r\n")
            await up.peers[0].send(b"4\r\npong\r\n")
            assert await response.body.receive_some() == b"pong"
        body.push_end()
        await up.peers[0].expect(b"0\r\n\r\n")
        await up.peers[0].send(b"0\r\n\r\n")
        assert await response.body.receive_some() == b""
        assert up.idle == 1


async def test_a_body_that_keeps_coming_leaves_others_their_turn(autojump_clock: object) -> None:
    class Endless(Chunks):
        def __init__(self) -> None:
            super().__init__()
            self.taken = 0

        def receive_nowait(self) -> bytes:
            self.taken += 1
            assert self.taken < 10_000, "nobody else had a turn"
            return b"x"

        async def receive_some(self) -> bytes:
            return self.receive_nowait()

    class Swallowing(SocketConnection):
        def send_nowait(self, data: bytes) -> int:
            return len(data)

    theirs, ours = socket.socketpair()
    body = Endless()
    taken: list[int] = []

    async def connect(_: Endpoint, /) -> Connection:
        return Swallowing(ours)

    with theirs:
        async with trio.open_nursery() as nursery:
            client = Http1Client(ENDPOINT, connect, nursery, ClientOptions(), Sweeper())
            nursery.start_soon(client, post(body))
            for _ in range(20):
                await trio.lowlevel.checkpoint()
                taken.append(body.taken)
            nursery.cancel_scope.cancel()
            client.close()
    assert max(later - earlier for earlier, later in pairwise(taken)) <= 32


async def test_an_answer_before_the_end_of_the_upload_stops_it_and_closes(kind: str) -> None:
    async with upstream(kind) as up:
        body = Chunks()
        body.push(b"abc")
        response = await up.exchange(
            post(body, (b"content-length", b"9")),
            b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9\r\n\r\nabc",
            b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno",
        )
        assert (response.status, await read_all(response.body)) == (413, b"no")
        assert up.idle == 0
        await up.peers[0].expect_end()
        await settle()
        # Whoever owns the body decides what becomes of the rest.
        assert body.end is None


async def test_an_answer_is_heard_although_the_upstream_stopped_reading() -> None:
    async with upstream("memory") as up:
        body = Chunks()
        body.push(b"abc")
        request = post(body, (b"content-length", b"9"))

        async def refuse() -> None:
            while not up.peers:
                await settle()
            await up.peers[0].head()
            await up.peers[0].send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno")

        up.nursery.start_soon(refuse)
        response = await up.client(request)
        assert response.status == 413


async def test_a_request_body_that_breaks_closes_the_upstream_and_raises(kind: str) -> None:
    async with upstream(kind) as up, trio.open_nursery() as nursery:
        body = Chunks()
        body.push(b"abc")

        async def call() -> None:
            with pytest.raises(RequestBodyError, match="the client reset the stream"):
                await up.client(post(body))

        nursery.start_soon(call)
        await settle()
        body.push_error(StreamReset("the client reset the stream"))
        await settle()
        await up.peers[0].rest()


async def test_a_request_body_that_was_broken_before_raises_and_sends_nothing() -> None:
    async with upstream() as up:
        body = Chunks()
        body.push_error(RequestBodyError("gone"))
        with pytest.raises(RequestBodyError):
            await up.client(post(body))
        assert await up.peers[0].rest() == b""


async def test_a_request_body_that_breaks_after_the_head_breaks_the_response(kind: str) -> None:
    async with upstream(kind) as up:
        body = Chunks()
        head = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"
        response = await up.exchange(post(body), head, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        body.push_error(RequestBodyError("gone"))
        with pytest.raises(RequestBodyError):
            await response.body.receive_some()


async def test_a_bug_in_a_body_comes_out_of_the_call() -> None:
    class Broken(Chunks):
        async def receive_some(self) -> bytes:
            raise ValueError("a bug")

    async with upstream() as up:
        with pytest.raises(ValueError, match="a bug"):
            await up.client(post(Broken()))


async def test_a_body_longer_than_it_said_breaks_the_exchange() -> None:
    async with upstream() as up:
        body = Chunks()
        body.push(b"abcd")
        with pytest.raises(LocalProtocolError):
            await up.client(post(body, (b"content-length", b"3")))


# ----- 1xx -----


async def test_informational_answers_are_told_and_the_final_one_is_the_answer(kind: str) -> None:
    told: list[tuple[int, object]] = []
    async with upstream(kind) as up:
        request = get(informational=lambda status, fields: told.append((status, fields)))
        response = await up.exchange(
            request, GET, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HELLO
        )
        assert response.status == 200
    assert told == [(103, [(b"link", b"</a>")]), (100, [])]


EXPECT = (
    b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
)


def expecting(body: object) -> Request:
    request = post(body, (b"content-length", b"3"))
    request.expect_continue = True
    return request


async def test_a_body_waits_for_100_continue(kind: str) -> None:
    async with upstream(kind, continue_timeout=1_000.0) as up:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.client, expecting(Full(b"abc")))
            await settle()
            await up.peers[0].expect(EXPECT)
            await settle()
            await up.peers[0].send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await up.peers[0].expect(b"abc")
            await up.peers[0].send(HELLO)
        assert up.idle == 1


async def test_a_body_waits_no_longer_than_the_continue_timeout(autojump_clock: object) -> None:
    async with upstream() as up:
        await up.exchange(expecting(Full(b"abc")), EXPECT + b"abc", HELLO)
        assert 1.0 <= trio.current_time() <= 1.1
        assert up.idle == 1


async def test_a_body_is_not_sent_after_an_answer_instead_of_100(autojump_clock: object) -> None:
    async with upstream() as up:
        body = Full(b"abc")
        response = await up.exchange(
            expecting(body), EXPECT, b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\n"
        )
        await trio.sleep(5)
        await up.peers[0].send(b"no")
        assert (response.status, await read_all(response.body)) == (417, b"no")
        assert body.end is None
        assert await up.peers[0].rest() == b""


# ----- answers that are none -----


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n%s\r\n" % (b"x: y\r\n" * 101),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17,
    ],
)
async def test_what_is_no_answer_is_the_upstreams_fault_and_closes(kind: str, answer: bytes) -> None:
    async with upstream(kind) as up:
        with pytest.raises(UpstreamProtocolError, match=r"endpoint 10\.0\.0\.7:8080: "):
            await up.exchange(get(), GET, answer)
        await up.peers[0].expect_end()


async def test_a_request_that_cannot_be_sent_raises_and_sends_nothing() -> None:
    async with upstream() as up:
        with pytest.raises(LocalProtocolError):
            await up.client(Request(b"GET", b"http", b"a.test", b"/ x"))
        await up.peers[0].expect_end()


# ----- cancellation and limits -----


async def test_cancelling_the_wait_closes_the_connection_at_once(kind: str) -> None:
    async with upstream(kind) as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.client, get())
        await settle()
        nursery.cancel_scope.cancel()
    assert up.ours[0].closed


async def test_cancelling_the_wait_stops_the_upload() -> None:
    async with upstream() as up:
        tasks = len(up.nursery.child_tasks)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.client, post(Chunks()))
            await settle()
            assert len(up.nursery.child_tasks) == tasks + 1
            nursery.cancel_scope.cancel()
        await settle()
        assert len(up.nursery.child_tasks) == tasks


@pytest.mark.parity("R-17", "R-18", "U-09")
@pytest.mark.parametrize("limit", ["request", "response", "idle"])
async def test_a_limit_before_the_head_raises_a_stream_timeout(limit: str, autojump_clock: object) -> None:
    async with upstream() as up:
        request = get(timeouts=Timeouts(**{limit: 2.0}))
        with pytest.raises(StreamTimeout, match=f"{limit} timeout of 2 s exceeded"):
            await up.client(request)
        assert 2.0 <= trio.current_time() <= 3.1
        await up.peers[0].rest()


@pytest.mark.parity("R-17", "R-18", "U-09")
async def test_a_limit_after_the_head_breaks_the_body(autojump_clock: object) -> None:
    async with upstream() as up:
        request = get(timeouts=Timeouts(request=2.0))
        response = await up.exchange(request, GET, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
        assert await response.body.receive_some() == b"hel"
        with pytest.raises(StreamTimeout):
            await response.body.receive_some()
        assert 2.0 <= trio.current_time() <= 2.6


async def test_tries_share_the_request_limit(autojump_clock: object) -> None:
    async with upstream() as up:
        request = get(timeouts=Timeouts(request=2.0))
        request.started = trio.current_time() - 1.5
        with pytest.raises(StreamTimeout):
            await up.client(request)
        assert trio.current_time() <= 1.1


async def test_an_exchange_within_its_limits_leaves_no_watch_behind(autojump_clock: object) -> None:
    async with upstream(idle_timeout=None) as up:
        request = get(timeouts=Timeouts(request=2.0, idle=1.0))
        response = await up.exchange(request, GET, HELLO)
        assert await read_all(response.body) == b"hello"
        ticks = up.sweeper.ticks
        await trio.sleep(1_000)
        assert up.sweeper.ticks <= ticks + 1
        assert up.idle == 1


@pytest.mark.parametrize("number", range(6))
async def test_an_exception_at_any_wait_closes_that_connection_alone(number: int) -> None:
    class Fault(Exception):
        pass

    async with upstream("stream") as up:
        await kept(up)
        left = number
        patch = pytest.MonkeyPatch()
        ours = up.ours[0]
        for name in ("receive_some", "send_all"):
            original = getattr(type(ours), name)

            async def faulty(self: Connection, *args: object, original: object = original) -> object:
                nonlocal left
                if self is ours:
                    left -= 1
                    if left < 0:
                        raise Fault
                return await original(self, *args)  # type: ignore[operator]

            patch.setattr(type(ours), name, faulty)
        with patch.context():
            response: Response | None = None

            async def answer() -> None:
                with contextlib.suppress(ConnectionLost, trio.ClosedResourceError, AssertionError):
                    await up.answer(GET, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
                    await settle()
                    await up.peers[0].send(b"llo")

            up.nursery.start_soon(answer)
            try:
                response = await up.client(get())
                await read_all(response.body)
            except Fault:
                assert left < 0
                if response is not None:
                    response.body.abort()
                assert ours.closed
            else:
                assert up.idle == 1
        patch.undo()
        await settle()


@explore_schedules(25)
async def test_cancellation_against_an_answer_never_leaks_a_connection() -> None:
    async with upstream("memory") as up:
        await up.exchange(get(), GET, HELLO)
        async with trio.open_nursery() as nursery:
            results: list[Response] = []

            async def call() -> None:
                results.append(await up.client(get()))

            async def cancel() -> None:
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

            nursery.start_soon(call)
            nursery.start_soon(up.answer, GET, HELLO)
            nursery.start_soon(cancel)
        await settle()
        # Either it was answered, and the connection is idle again, or it is closed.
        assert up.idle == (0 if up.ours[0].closed else 1)
        assert len(up.client.connections) == up.idle


# ----- what does not fit into a socket at once -----


async def test_a_body_larger_than_the_sockets_buffers_is_sent_by_the_upload() -> None:
    data = bytes(range(256)) * 20_000
    async with upstream("socket") as up:
        response = await up.exchange(
            post(Full(data), (b"content-length", b"%d" % len(data))),
            b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n" % len(data) + data,
            HELLO,
        )
        assert await read_all(response.body) == b"hello"
        await settle()
        assert up.idle == 1


async def test_an_answer_is_heard_while_a_large_body_is_stuck() -> None:
    async with upstream("socket") as up:

        async def refuse() -> None:
            while not up.peers:
                await trio.lowlevel.checkpoint()
            await up.peers[0].send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno")

        up.nursery.start_soon(refuse)
        response = await up.client(post(Full(bytes(5_000_000))))
        assert (response.status, await read_all(response.body)) == (413, b"no")
        assert up.ours[0].closed


async def test_an_answer_sent_before_a_broken_pipe_is_heard() -> None:
    async with upstream("memory") as up:
        body = Chunks()
        body.push(b"abc")
        await kept(up)
        peer = up.peers[0]

        async def answer_and_break() -> None:
            await peer.head()
            await peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno")
            await settle()
            body.push(b"more")

        def broken(data: object) -> object:
            raise ConnectionLost("broken pipe")

        up.nursery.start_soon(answer_and_break)
        response = await up.client(post(body))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(up.ours[0]), "send_all", lambda self, data: broken(data))
            await settle()
        assert (response.status, await read_all(response.body)) == (413, b"no")
        assert up.ours[0].closed


async def test_a_fresh_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with upstream("socket") as up:
        await up.client.ready()
        up.peers[0].close()
        await up.exchange(get(), GET, HELLO, 1)
        assert up.client.statistics().expired == 1


async def test_bodies_can_be_read_without_waiting_and_break_the_same_way() -> None:
    async with upstream("memory") as up:
        response = await up.exchange(get(), GET, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        body = response.body
        assert body.receive_nowait() == b"abc"
        with pytest.raises(trio.WouldBlock):
            body.receive_nowait()
        up.peers[0].close()
        with pytest.raises(ConnectionLost):
            body.receive_nowait()
        with pytest.raises(ConnectionLost):
            await body.receive_some()


async def test_a_tunnel_can_be_read_without_waiting_and_given_up() -> None:
    async with upstream("memory") as up:
        request = Request(b"CONNECT", b"", b"a.test:443", b"", body=Chunks())
        response = await up.exchange(
            request, b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhi"
        )
        assert response.body.receive_nowait() == b"hi"
        with pytest.raises(trio.WouldBlock):
            response.body.receive_nowait()
        response.body.abort()
        with pytest.raises(StreamReset):
            response.body.receive_nowait()
        with pytest.raises(StreamReset):
            await response.body.receive_some()
        await up.peers[0].rest()


async def test_a_tunnel_whose_upload_breaks_is_closed() -> None:
    async with upstream("memory") as up:
        body = Chunks()
        request = Request(b"CONNECT", b"", b"a.test:443", b"", body=body)
        response = await up.exchange(
            request, b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
        )
        body.push_error(RequestBodyError("gone"))
        with pytest.raises(RequestBodyError):
            await response.body.receive_some()
        assert up.ours[0].closed


async def test_a_tunnel_that_ended_on_both_sides_is_closed() -> None:
    async with upstream("memory") as up:
        body = Chunks()
        request = Request(b"CONNECT", b"", b"a.test:443", b"", body=body)
        response = await up.exchange(
            request, b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
        )
        body.push(b"last")
        body.push_end()
        assert await up.peers[0].rest() == b"last"
        assert not up.ours[0].closed
        await up.peers[0].eof()
        assert await response.body.receive_some() == b""
        assert up.ours[0].closed


async def test_a_websocket_request_without_a_key_is_given_one() -> None:
    from meshcore.http.forward import accept_websocket

    async with upstream("memory") as up:
        request = get(protocol=b"websocket", version=20, body=Chunks())

        async def answer() -> None:
            while not up.peers:
                await settle()
            head = await up.peers[0].head()
            key = head.split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
            await up.peers[0].send(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-accept: %b\r\n\r\n" % accept_websocket(key)
            )

        up.nursery.start_soon(answer)
        response = await up.client(request)
        assert (response.status, response.protocol) == (101, b"websocket")


async def test_an_exchange_in_flight_ends_when_its_client_is_closed() -> None:
    async with upstream("memory") as up, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ConnectionLost):
                await up.client(get())

        nursery.start_soon(call)
        await settle()
        up.client.close()
