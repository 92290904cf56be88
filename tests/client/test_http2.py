"""The connecting side of HTTP/2, against upstreams driven frame by frame over memory connections."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from meshcore.client.http2 import Http2Client
from meshcore.client.options import ClientOptions
from meshcore.codec import events
from meshcore.codec.limits import H2Limits
from meshcore.errors import (
    CANCEL,
    REFUSED_STREAM,
    ConnectError,
    ConnectionLost,
    GoAway,
    LocalProtocolError,
    MeshError,
    RequestBodyError,
    StreamReset,
    StreamTimeout,
    UpstreamProtocolError,
)
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Timeouts
from meshcore.testing import explore_schedules, memory_connection_pair, memory_stream_pair, request
from meshcore.transport.connection import Connection
from meshcore.transport.stream import StreamConnection
from meshcore.transport.target import Endpoint
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")

ENDPOINT = Endpoint(("10.0.0.2", 80))


class Upstream:
    """Connections as they are made; the test speaks for the other end of each.

    ``hold`` makes connects wait for it; ``errors`` are raised by the next connects.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        options: ClientOptions | None = None,
        *,
        limits: H2Limits | None = None,
        nowait: bool = True,
        acknowledge: bool = True,
    ) -> None:
        self.peers: list[CodecPeer] = []
        self.errors: list[Exception] = []
        self.hold: trio.Event | None = None
        self.tries = 0
        self._limits = limits
        self._nowait = nowait
        self._acknowledge = acknowledge
        self.client = Http2Client(ENDPOINT, self.connect, nursery, options or ClientOptions())

    async def connect(self, endpoint: Endpoint) -> Connection:
        self.tries += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.errors:
            raise self.errors.pop(0)
        here, there = memory_connection_pair(nowait=self._nowait)
        self.peers.append(CodecPeer(there, server=True, limits=self._limits, acknowledge=self._acknowledge))
        return here

    async def peer(self, index: int = 0) -> CodecPeer:
        while len(self.peers) <= index:
            await trio.testing.wait_all_tasks_blocked()
        return self.peers[index]


class Asking:
    """A request in a task of its own, and what became of it."""

    def __init__(self, nursery: trio.Nursery, client: Http2Client, asked: Request | None = None) -> None:
        self.request = asked or request()
        self.scope = trio.CancelScope()
        self.response: Any = None
        self.body = b""
        self.error: Exception | None = None
        self.done = trio.Event()
        nursery.start_soon(self._run, client)

    async def _run(self, client: Http2Client) -> None:
        with self.scope:
            try:
                self.response = await client(self.request)
                self.body = await read_all(self.response.body, 1 << 24)
            except MeshError as error:
                self.error = error
        self.done.set()

    async def failed(self) -> Any:
        with trio.fail_after(60):
            await self.done.wait()
        return self.error


async def serve(peer: CodecPeer, body: bytes = b"hello") -> None:
    """Answers every request until the connection ends."""
    await peer.flush()
    while not peer.eof:
        for event in await peer.read():
            if isinstance(event, events.RequestReceived) and peer.answers[event.stream_id].reset is None:
                peer.codec.send_response(event.stream_id, 200, [(b"x-path", event.path)], end_stream=not body)
                if body:
                    peer.codec.send_data(event.stream_id, body, end_stream=True)
        await peer.flush()


# ----- exchanges -----


@pytest.mark.parametrize("nowait", [True, False])
async def test_a_request_is_sent_and_its_response_received(nursery: trio.Nursery, nowait: bool) -> None:
    upstream = Upstream(nursery, nowait=nowait)
    asking = Asking(nursery, upstream.client, request(b"POST", b"/a?b", b"data", headers=[(b"te", b"trailers")]))
    peer = await upstream.peer()
    event = await peer.wait_for(events.RequestReceived)
    assert (b"POST", b"http", b"a.test", b"/a?b", [(b"te", b"trailers")]) == (
        event.method,
        event.scheme,
        event.authority,
        event.path,
        event.headers,
    )
    data = await peer.wait_for(events.DataReceived)
    assert (b"data", True) == (data.data, data.end_stream)
    peer.codec.send_informational(1, 103, [])
    peer.codec.send_response(1, 200, [(b"x-a", b"1")], end_stream=False)
    peer.codec.send_data(1, b"hel", end_stream=False)
    peer.codec.send_data(1, b"lo", end_stream=False)
    peer.codec.send_trailers(1, [(b"x-t", b"2")])
    await peer.flush()
    await asking.done.wait()
    assert (200, 20, [(b"x-a", b"1")], b"hello") == (
        asking.response.status,
        asking.response.version,
        asking.response.headers.raw,
        asking.body,
    )
    assert [(b"x-t", b"2")] == asking.response.body.end.trailers
    assert 0 == upstream.client.statistics().streams


async def test_informational_responses_go_to_the_request(nursery: trio.Nursery) -> None:
    seen: list[tuple[int, Any]] = []
    asked = request()
    asked.informational = lambda status, fields: seen.append((status, fields))
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.send_informational(1, 103, [(b"link", b"</a>")])
    peer.codec.send_response(1, 204, [], end_stream=True)
    await peer.flush()
    await asking.done.wait()
    assert [(103, [(b"link", b"</a>")])] == seen


async def test_host_is_dropped_and_an_expectation_passed_on(nursery: trio.Nursery) -> None:
    asked = request(b"PUT", body=b"x", headers=[(b"host", b"other"), (b"a", b"b")])
    asked.expect_continue = True
    upstream = Upstream(nursery)
    Asking(nursery, upstream.client, asked)
    event = await (await upstream.peer()).wait_for(events.RequestReceived)
    assert ([(b"a", b"b")], True) == (event.headers, event.expect_continue)


async def test_the_first_requests_share_one_connect(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    upstream.hold = trio.Event()
    asking = [Asking(nursery, upstream.client) for _ in range(10)]
    await trio.testing.wait_all_tasks_blocked()
    upstream.hold.set()
    nursery.start_soon(serve, await upstream.peer())
    for one in asking:
        await one.done.wait()
    assert [b"hello"] * 10 == [one.body for one in asking]
    assert 1 == upstream.tries


async def test_requests_of_one_turn_leave_in_one_write(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    await_ready = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    for _ in range(8):
        Asking(nursery, upstream.client)
    await trio.testing.wait_all_tasks_blocked()
    before = peer.reads
    await peer.wait_for(events.RequestReceived, 9)
    # One with the acknowledgement of the peer's SETTINGS may have been under way.
    assert peer.reads - before <= 2
    await_ready.scope.cancel()


async def test_a_head_request_has_no_body(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client, request(b"HEAD"))
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.send_response(1, 200, [(b"content-length", b"5")], end_stream=True)
    await peer.flush()
    await asking.done.wait()
    assert (200, b"") == (asking.response.status, asking.body)


async def test_a_request_that_cannot_be_sent_harms_no_other(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    bad = Asking(nursery, upstream.client, request(headers=[(b"Bad Name", b"x")]))
    peer = await upstream.peer()
    assert isinstance(await bad.failed(), LocalProtocolError)
    nursery.start_soon(serve, peer)
    good = Asking(nursery, upstream.client)
    await good.done.wait()
    assert b"hello" == good.body


# ----- connections -----


async def test_another_connection_is_opened_when_the_streams_are_used_up(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery, limits=H2Limits(max_concurrent_streams=2))
    await_first = Asking(nursery, upstream.client)
    first = await upstream.peer()
    await first.wait_for(events.RequestReceived)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        Asking(nursery, upstream.client)
    second = await upstream.peer(1)
    await second.wait_for(events.RequestReceived, 2)
    statistics = upstream.client.statistics()
    assert (2, 4) == (statistics.connections, statistics.streams)
    await_first.scope.cancel()


async def test_requests_wait_in_order_when_there_may_be_no_more_connections(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery, ClientOptions(h2_max_connections=1), limits=H2Limits(max_concurrent_streams=1))
    await upstream.client.ready()
    peer = await upstream.peer()
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    asking = []
    for index in range(4):
        asking.append(Asking(nursery, upstream.client, request(path=b"/%d" % index)))
        await trio.testing.wait_all_tasks_blocked()
    assert 3 == upstream.client.statistics().waiting
    asking[2].scope.cancel()
    nursery.start_soon(serve, peer)
    for index in (0, 1, 3):
        await asking[index].done.wait()
    paths = [event.path for event in peer.events if isinstance(event, events.RequestReceived)]
    assert [b"/0", b"/1", b"/3"] == paths
    assert 1 == upstream.tries


@pytest.mark.parity("B-21")
async def test_a_connect_that_fails_fails_everyone_who_waits_and_may_be_tried_again(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    upstream.errors.append(ConnectError("endpoint 10.0.0.2:80: refused"))
    asking = [Asking(nursery, upstream.client) for _ in range(3)]
    found = [await one.failed() for one in asking]
    assert [True] * 3 == [isinstance(error, ConnectError) and error.retryable for error in found]
    assert 3 == len(set(map(id, found)))
    again = Asking(nursery, upstream.client)
    nursery.start_soon(serve, await upstream.peer())
    await again.done.wait()
    assert b"hello" == again.body
    statistics = upstream.client.statistics()
    assert (1, 1, 4) == (statistics.connects, statistics.connect_errors, statistics.requests)


async def test_connecting_is_tried_again_with_a_pause(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = Upstream(nursery, ClientOptions(connect_attempts=3))
    upstream.errors += [ConnectError("no"), ConnectError("no")]
    started = trio.current_time()
    await upstream.client.ready()
    assert 3 == upstream.tries
    assert 0.15 <= trio.current_time() - started <= 0.3


async def test_an_unexpected_exception_of_a_connector_is_a_connect_error(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    upstream.errors.append(ZeroDivisionError("x"))
    error = await Asking(nursery, upstream.client).failed()
    assert isinstance(error, ConnectError)


async def test_a_caller_that_is_cancelled_while_it_waits_harms_nobody(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    upstream.hold = trio.Event()
    gone = Asking(nursery, upstream.client)
    stays = Asking(nursery, upstream.client)
    await trio.testing.wait_all_tasks_blocked()
    gone.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    upstream.hold.set()
    nursery.start_soon(serve, await upstream.peer())
    await stays.done.wait()
    assert b"hello" == stays.body
    assert (0, 0) == (upstream.client.statistics().streams, upstream.client.statistics().waiting)


async def test_a_closed_connection_is_noticed_at_once(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    await upstream.client.ready()
    (await upstream.peer()).connection.close()
    await trio.testing.wait_all_tasks_blocked()
    assert 0 == upstream.client.statistics().connections
    asking = Asking(nursery, upstream.client)
    nursery.start_soon(serve, await upstream.peer(1))
    await asking.done.wait()
    assert b"hello" == asking.body


async def test_cancelling_its_nursery_ends_everything(nursery: trio.Nursery) -> None:
    async with trio.open_nursery() as upstreams:
        upstream = Upstream(upstreams)
        asking = Asking(nursery, upstream.client)
        peer = await upstream.peer()
        await peer.wait_for(events.RequestReceived)
        upstreams.cancel_scope.cancel()
    assert isinstance(await asking.failed(), ConnectionLost)
    await peer.wait_for(events.GoAwayReceived)
    await peer.until_eof()


# ----- resets, GOAWAY and losses -----


@pytest.mark.parity("X-68", "E-02")
async def test_a_reset_carries_its_code(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.reset_stream(1, 11)
    await peer.flush()
    error = await asking.failed()
    assert isinstance(error, StreamReset)
    assert (11, False) == (error.h2_code, error.retryable)


async def test_a_refused_stream_may_be_tried_again(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.reset_stream(1, REFUSED_STREAM)
    await peer.flush()
    assert (await asking.failed()).retryable


async def test_a_reset_after_the_head_breaks_the_body(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.send_response(1, 200, [], end_stream=False)
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert 200 == asking.response.status
    peer.codec.reset_stream(1, 2)
    await peer.flush()
    error = await asking.failed()
    assert isinstance(error, StreamReset)
    assert 2 == error.h2_code


async def test_a_reset_after_a_complete_response_does_not_break_it(nursery: trio.Nursery) -> None:
    """A server that needs no more of the request says so with NO_ERROR (RFC 9113 §8.1)."""
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(b"POST")
    asked.body = body
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.send_response(1, 413, [], end_stream=False)
    peer.codec.send_data(1, b"too much", end_stream=True)
    await peer.flush()
    peer.codec.reset_stream(1, 0)
    await peer.flush()
    await asking.done.wait()
    assert (413, b"too much", None) == (asking.response.status, asking.body, asking.error)
    await trio.testing.wait_all_tasks_blocked()
    assert 0 == upstream.client.statistics().streams
    # The upload has let go of the body: another try may read it.
    body.push(b"x")
    assert b"x" == body.receive_nowait()


async def test_goaway_lets_open_streams_end_and_gives_the_others_back(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    first = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    second = Asking(nursery, upstream.client)
    await trio.testing.wait_all_tasks_blocked()
    peer.codec.goaway(0, last_stream_id=1)
    await peer.flush()
    error = await second.failed()
    assert isinstance(error, GoAway)
    assert error.retryable
    assert (1, 1) == (upstream.client.statistics().connections, upstream.client.statistics().retired)
    third = Asking(nursery, upstream.client)
    nursery.start_soon(serve, await upstream.peer(1))
    await third.done.wait()
    peer.codec.send_response(1, 200, [], end_stream=True)
    await peer.flush()
    await first.done.wait()
    assert 200 == first.response.status
    with trio.fail_after(60):
        await peer.until_eof()
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == upstream.client.statistics().connections


async def test_a_lost_connection_fails_what_was_sent_for_good(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.connection.close()
    error = await asking.failed()
    assert isinstance(error, ConnectionLost)
    assert not error.retryable


async def test_a_request_that_never_left_may_be_tried_again(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    await upstream.client.ready()
    peer = await upstream.peer()
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    # The peer is gone, and the client has not had a turn to notice.
    peer.connection.close()
    asking = Asking(nursery, upstream.client)
    await trio.testing.wait_all_tasks_blocked()
    if asking.done.is_set():
        assert isinstance(asking.error, ConnectionLost)
        assert asking.error.retryable
    else:
        # It noticed first, and made another connection.
        nursery.start_soon(serve, await upstream.peer(1))
        assert await asking.failed() is None
        assert b"hello" == asking.body


async def test_a_malformed_response_is_the_upstreams_fault_and_resets_its_stream(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    # HEADERS with :status 200 and END_STREAM after a declared content-length of 5: indexed 8, then a literal.
    block = b"\x88" + b"\x0f\x0d\x015"
    await peer.connection.send_all(len(block).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big") + block)
    error = await asking.failed()
    assert isinstance(error, UpstreamProtocolError)
    assert 502 == error.status_hint
    await peer.wait_for(events.StreamReset)


async def test_garbage_from_an_upstream_fails_its_requests(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.connection.receive_some()
    await peer.connection.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
    assert isinstance(await asking.failed(), UpstreamProtocolError)
    await trio.testing.wait_all_tasks_blocked()
    assert 0 == upstream.client.statistics().connections


# ----- cancelling -----


async def test_a_cancelled_request_resets_its_stream(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    asking.scope.cancel()
    reset = await peer.wait_for(events.StreamReset)
    assert CANCEL == reset.code
    assert 0 == upstream.client.statistics().streams


async def test_the_code_of_the_clients_reset_goes_on_to_the_upstream(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(b"POST")
    asked.body = body
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    body.push_error(StreamReset("client reset the stream", h2_code=5))
    asking.scope.cancel()
    assert 5 == (await peer.wait_for(events.StreamReset)).code


@pytest.mark.parity("X-35")
async def test_bodies_that_are_given_up_do_not_leak_the_window(nursery: trio.Nursery) -> None:
    """Trap 2."""
    upstream = Upstream(nursery, ClientOptions(http2=H2Limits(connection_window=131_072)))
    for index in range(20):
        asking = nursery.start_soon
        got: list[Any] = []

        async def ask(got: list[Any] = got) -> None:
            response = await upstream.client(request())
            got.append(await response.body.receive_some())
            response.body.abort()

        asking(ask)
        peer = await upstream.peer()
        event = await peer.wait_for(events.RequestReceived, index + 1)
        with trio.fail_after(60):
            while peer.codec.window(event.stream_id) < 60_000:
                await peer.read()
        peer.codec.send_response(event.stream_id, 200, [], end_stream=False)
        peer.codec.send_data(event.stream_id, b"x" * 60_000, end_stream=False)
        await peer.wait_for(events.StreamReset, index + 1)
        assert got


@explore_schedules(20)
async def test_cancelling_at_any_moment_harms_nobody(engine: str) -> None:
    async with trio.open_nursery() as nursery:
        upstream = Upstream(nursery)
        await upstream.client.ready()
        nursery.start_soon(serve, await upstream.peer())
        for pause in range(8):
            doomed = [Asking(nursery, upstream.client, request(b"POST", body=b"x")) for _ in range(3)]
            kept = [Asking(nursery, upstream.client) for _ in range(2)]
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            for one in doomed:
                one.scope.cancel()
            for one in kept:
                await one.done.wait()
                assert (b"hello", None) == (one.body, one.error)
        statistics = upstream.client.statistics()
        assert (1, 0, 0) == (statistics.connections, statistics.streams, statistics.waiting)
        nursery.cancel_scope.cancel()


# ----- uploads -----


async def test_a_body_is_sent_as_it_comes_with_its_trailers(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(b"POST")
    asked.body = body
    body.push(b"one")
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    assert b"one" == (await peer.wait_for(events.DataReceived)).data
    body.push(b"two")
    assert b"two" == (await peer.wait_for(events.DataReceived, 2)).data
    body.push_end([(b"x-t", b"1")])
    assert [(b"x-t", b"1")] == (await peer.wait_for(events.TrailersReceived)).headers
    peer.codec.send_response(1, 200, [], end_stream=True)
    await peer.flush()
    await asking.done.wait()
    assert 0 == upstream.client.statistics().streams


async def test_an_upload_keeps_to_the_windows(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery, acknowledge=False)
    data = bytes(range(256)) * 1000
    asking = Asking(nursery, upstream.client, request(b"POST", body=data))
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    while len(peer.answers[1].body) < 65_535:
        await peer.read()
    await trio.testing.wait_all_tasks_blocked()
    while len(peer.answers[1].body) < len(data):
        peer.codec.acknowledge(1, min(65_535, len(peer.answers[1].body)))
        await peer.flush()
        await peer.read()
    assert data == peer.answers[1].body
    peer.codec.send_response(1, 200, [], end_stream=True)
    await peer.flush()
    await asking.done.wait()


async def test_a_request_body_that_breaks_resets_upstream_and_fails_the_call(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(b"POST")
    asked.body = body
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    body.push_error(RequestBodyError("client hung up"))
    assert isinstance(await asking.failed(), RequestBodyError)
    assert CANCEL == (await peer.wait_for(events.StreamReset)).code


async def test_a_refused_upload_lets_go_of_the_body_for_another_try(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(b"POST")
    asked.body = body
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    await trio.testing.wait_all_tasks_blocked()
    peer.codec.reset_stream(1, REFUSED_STREAM)
    await peer.flush()
    assert (await asking.failed()).retryable
    assert body.end is None
    again = Asking(nursery, upstream.client, asked)
    body.push(b"x")
    body.push_end()
    event = await peer.wait_for(events.DataReceived)
    assert (3, b"x") == (event.stream_id, event.data)
    again.scope.cancel()


# ----- flow control -----


async def test_a_response_that_nobody_takes_is_held_at_the_window(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    got: list[Any] = []

    async def ask() -> None:
        got.append(await upstream.client(request()))

    nursery.start_soon(ask)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    peer.codec.send_response(1, 200, [], end_stream=False)
    peer.codec.send_data(1, b"x" * peer.codec.window(1), end_stream=False)
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (0, 65_535) == (peer.codec.window(1), got[0].body.buffered)
    while got[0].body.buffered:
        got[0].body.receive_nowait()
    await peer.wait_for(events.WindowUpdated, 2)
    assert peer.codec.window(1) > 32_000


# ----- tunnels -----


async def test_an_upgrade_becomes_an_extended_connect(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    body = Chunks()
    asked = request(headers=[(b"sec-websocket-key", b"k"), (b"sec-websocket-version", b"13")])
    asked.body = body
    asked.protocol = b"websocket"
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    event = await peer.wait_for(events.RequestReceived)
    assert (b"CONNECT", b"websocket", [(b"sec-websocket-version", b"13")]) == (
        event.method,
        event.protocol,
        event.headers,
    )
    peer.codec.send_response(1, 200, [], end_stream=False)
    peer.codec.send_data(1, b"welcome", end_stream=False)
    body.push(b"hi")
    await peer.flush()
    assert b"hi" == (await peer.wait_for(events.DataReceived)).data
    await trio.testing.wait_all_tasks_blocked()
    assert (101, b"websocket") == (asking.response.status, asking.response.protocol)
    body.push_end()
    peer.codec.send_data(1, b"", end_stream=True)
    await peer.flush()
    await asking.done.wait()
    assert b"welcome" == asking.body


async def test_an_upgrade_fails_where_the_upstream_knows_no_extended_connect(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery, limits=H2Limits(extended_connect=False))
    asked = request()
    asked.protocol = b"websocket"
    asking = Asking(nursery, upstream.client, asked)
    await (await upstream.peer()).flush()
    assert isinstance(await asking.failed(), UpstreamProtocolError)


async def test_connect_passes(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    asked = Request(b"CONNECT", b"http", b"b.test:443", b"", Headers(), Full(b"to"))
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    event = await peer.wait_for(events.RequestReceived)
    assert (b"CONNECT", b"b.test:443", b"") == (event.method, event.authority, event.path)
    peer.codec.send_response(1, 200, [], end_stream=False)
    peer.codec.send_data(1, b"from", end_stream=True)
    await peer.flush()
    await asking.done.wait()
    assert b"from" == asking.body


# ----- limits -----


@pytest.mark.parametrize(
    "timeouts", [Timeouts(request=0.2), Timeouts(response=0.2), Timeouts(idle=0.2)], ids=["request", "response", "idle"]
)
@pytest.mark.parametrize("with_head", [False, True])
async def test_an_upstream_that_is_silent_for_too_long_times_out(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, timeouts: Timeouts, with_head: bool
) -> None:
    upstream = Upstream(nursery)
    asked = request()
    asked.timeouts = timeouts
    asking = Asking(nursery, upstream.client, asked)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    started = trio.current_time()
    if with_head:
        peer.codec.send_response(1, 200, [], end_stream=False)
        await peer.flush()
    error = await asking.failed()
    assert isinstance(error, StreamTimeout)
    assert 0.2 <= trio.current_time() - started <= 0.3
    assert CANCEL == (await peer.wait_for(events.StreamReset)).code


@pytest.mark.parity("D-38")
async def test_an_idle_connection_is_closed(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    upstream = Upstream(nursery, ClientOptions(h2_idle_timeout=1.0))
    await upstream.client.ready()
    peer = await upstream.peer()
    await peer.flush()
    await peer.wait_for(events.GoAwayReceived)
    await peer.until_eof()
    assert 1.0 <= trio.current_time() <= 1.5
    await trio.testing.wait_all_tasks_blocked()
    assert 0 == upstream.client.statistics().connections


async def test_an_old_connection_takes_no_new_streams(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = Upstream(nursery, ClientOptions(max_age=1.0))
    asking = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.wait_for(events.RequestReceived)
    await trio.sleep(2)
    nursery.start_soon(serve, peer, b"")
    later = Asking(nursery, upstream.client)
    nursery.start_soon(serve, await upstream.peer(1))
    await later.done.wait()
    peer.codec.send_response(1, 200, [], end_stream=True)
    await peer.flush()
    await asking.done.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == upstream.client.statistics().connections


async def test_an_upstream_that_answers_no_ping_is_given_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = Upstream(nursery, ClientOptions(keepalive_interval=1.0, keepalive_timeout=0.5))
    asking = Asking(nursery, upstream.client)
    await (await upstream.peer()).wait_for(events.RequestReceived)
    assert isinstance(await asking.failed(), ConnectionLost)
    assert trio.current_time() <= 2.5


async def test_an_upstream_without_settings_is_given_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = Upstream(nursery, ClientOptions(settings_timeout=0.5))
    asking = Asking(nursery, upstream.client)
    assert isinstance(await asking.failed(), ConnectionLost)
    assert trio.current_time() <= 1.0


@explore_schedules(20)
async def test_goaway_at_any_moment_loses_no_request(engine: str) -> None:
    """Each request is answered, or fails in a way that says it was not processed; none hangs."""
    async with trio.open_nursery() as nursery:
        upstream = Upstream(nursery, limits=H2Limits(max_concurrent_streams=3))
        served: list[bytes] = []

        async def serve_some(peer: CodecPeer, count: int) -> None:
            await peer.flush()
            while not peer.eof:
                for event in await peer.read():
                    if isinstance(event, events.RequestReceived):
                        if count == 0:
                            peer.codec.goaway(0, last_stream_id=event.stream_id - 2)
                            count -= 1
                        elif count > 0:
                            count -= 1
                            served.append(event.path)
                            peer.codec.send_response(event.stream_id, 200, [], end_stream=True)
                with contextlib.suppress(ConnectionLost):
                    await peer.flush()

        async def accept() -> None:
            taken = 0
            while True:
                if taken < len(upstream.peers):
                    nursery.start_soon(serve_some, upstream.peers[taken], taken % 5 + 1)
                    taken += 1
                await trio.sleep(0.01)

        nursery.start_soon(accept)
        asking = [Asking(nursery, upstream.client, request(path=b"/%d" % index)) for index in range(25)]
        for one in asking:
            with trio.fail_after(60):
                await one.done.wait()
            assert (one.error is None) == (one.request.path in served)
            assert one.error is None or one.error.retryable
        await trio.sleep(1)
        assert (0, 0) == (upstream.client.statistics().streams, upstream.client.statistics().waiting)
        nursery.cancel_scope.cancel()


async def test_an_exception_at_any_await_ends_the_connection_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    class Injected(Exception):
        pass

    class Failing(StreamConnection):
        __slots__ = ("left",)

        def count(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise Injected

        async def receive_some(self, max_bytes: int = 65_536) -> bytes:
            self.count()
            return await super().receive_some(max_bytes)

        def send_nowait(self, data: bytes) -> int:
            self.count()
            return super().send_nowait(data)

        async def send_all(self, data: bytes) -> None:
            self.count()
            await super().send_all(data)

    class Owner:
        crashes: ClassVar[list[BaseException]] = []

        def crashed(self, error: BaseException, where: str, /) -> None:
            self.crashes.append(error)

    for place in range(1, 20):
        peers: list[CodecPeer] = []

        async def connect(endpoint: Endpoint, peers: list[CodecPeer] = peers, place: int = place) -> Connection:
            here, there = memory_stream_pair()
            peers.append(CodecPeer(StreamConnection(there), server=True))
            failing = Failing(here)
            failing.left = place if len(peers) == 1 else 1_000_000
            failing.owner = Owner()
            return failing

        async def answer(peers: list[CodecPeer] = peers) -> None:
            taken = 0
            while True:
                if taken < len(peers):
                    nursery.start_soon(serve_quietly, peers[taken])
                    taken += 1
                await trio.sleep(0.01)

        client = Http2Client(ENDPOINT, connect, nursery)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as asking:
                asking.start_soon(answer)
                answered = 0
                for _ in range(12):
                    with trio.fail_after(5):
                        try:
                            assert b"hello" == await read_all((await client(request())).body)
                            answered += 1
                        except ConnectionLost:
                            pass
                assert answered >= 10
                scope.cancel()
    assert all(isinstance(error, Injected) for error in Owner.crashes)
    assert len(Owner.crashes) >= 10


async def serve_quietly(peer: CodecPeer) -> None:
    with contextlib.suppress(ConnectionLost):
        await serve(peer)


async def test_no_request_begins_on_a_connection_that_is_ending(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    warm = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    with trio.fail_after(5):
        while not warm.done.is_set():
            for event in await peer.read():
                if isinstance(event, events.RequestReceived):
                    peer.codec.send_response(event.stream_id, 200, [], end_stream=True)
            await peer.flush()
            await trio.testing.wait_all_tasks_blocked()
    # Some in every turn that the end takes, each with a body that needs a task of its own.
    asking: list[Asking] = []

    async def ask(wait: int) -> None:
        for _ in range(wait):
            await trio.lowlevel.checkpoint()
        post = Request(b"POST", b"http", b"a.test", b"/", body=Chunks(), version=20)
        asking.append(Asking(turns, upstream.client, post))

    async with trio.open_nursery() as turns:
        for number in range(60):
            turns.start_soon(ask, number // 6)
        peer.connection.close()
        await trio.testing.wait_all_tasks_blocked()
        assert 60 == len(asking)
        assert [] == [each.error for each in asking if each.error and not isinstance(each.error, ConnectionLost)]
        turns.cancel_scope.cancel()


async def test_a_request_that_cannot_be_sent_gives_its_place_to_the_next(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery, ClientOptions(h2_max_connections=1), limits=H2Limits(max_concurrent_streams=1))
    first = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    await peer.flush()
    asked = await peer.wait_for(events.RequestReceived)
    await trio.testing.wait_all_tasks_blocked()
    unsendable = Asking(nursery, upstream.client, request(headers=[(b"X bad", b"1")]))
    await trio.testing.wait_all_tasks_blocked()
    last = Asking(nursery, upstream.client)
    await trio.testing.wait_all_tasks_blocked()
    peer.codec.send_response(asked.stream_id, 200, [], end_stream=True)
    await peer.flush()
    assert isinstance(await unsendable.failed(), LocalProtocolError)
    with trio.fail_after(5):
        asked = await peer.wait_for(events.RequestReceived, 2)
    peer.codec.send_response(asked.stream_id, 200, [], end_stream=True)
    await peer.flush()
    assert await last.failed() is None
    assert first.done.is_set()


async def test_every_upload_that_waits_for_the_connections_window_goes_on_once_there_is_room(
    nursery: trio.Nursery,
) -> None:
    """Trap 8."""
    limits = H2Limits(stream_window=1 << 20, connection_window=65_535)
    upstream = Upstream(nursery, limits=limits, acknowledge=False)
    warm = Asking(nursery, upstream.client)
    peer = await upstream.peer()
    asked = await peer.wait_for(events.RequestReceived)
    peer.codec.send_response(asked.stream_id, 200, [], end_stream=True)
    await peer.flush()
    assert await warm.failed() is None
    uploads = [Asking(nursery, upstream.client, request(b"POST", body=b"x" * 40_000)) for _ in range(4)]

    def received() -> int:
        return sum(len(answer.body) for answer in peer.answers.values())

    with trio.fail_after(10):
        while received() < 65_535:
            await peer.read()
        # Every one of them waits by now.
        await trio.testing.wait_all_tasks_blocked()
        peer.codec.acknowledge(0, 65_535)
        await peer.flush()
        peer.acknowledge = True
        while received() < 160_000:
            await peer.read()
    for upload in uploads:
        upload.scope.cancel()


async def test_a_request_that_failed_with_its_connection_waits_for_no_garbage_collector(nursery: trio.Nursery) -> None:
    upstream = Upstream(nursery)
    left: list[weakref.ref[Any]] = []

    async def ask() -> None:
        asked = request()
        # Not all that is compiled can be referred to weakly; this goes with the request.
        asked.informational = lambda status, fields: None
        left.append(weakref.ref(asked.informational))
        with pytest.raises(UpstreamProtocolError):
            await upstream.client(asked)

    gc.collect()
    gc.disable()
    try:
        async with trio.open_nursery() as asking:
            for _ in range(4):
                asking.start_soon(ask)
            peer = await upstream.peer()
            await trio.testing.wait_all_tasks_blocked()
            await peer.connection.send_all(b"\xff" * 100)
        await trio.testing.wait_all_tasks_blocked()
        assert [None] * 4 == [each() for each in left]
    finally:
        gc.enable()
