"""The accepted side of HTTP/2, against a peer driven frame by frame over memory connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.codec import events
from meshcore.codec.limits import H2Limits
from meshcore.errors import NO_ERROR, REFUSED_STREAM, MeshError, StreamReset
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response, Timeouts
from meshcore.server.http2 import serve_http2
from meshcore.server.options import ServerOptions
from meshcore.testing import Wire, explore_schedules, memory_connection_pair, mock_service, response
from meshcore.transport.connection import READ_SIZE
from meshcore.transport.drain import Drain
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")


class Owner:
    """Counts crashes."""

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append(error)


class Serving:
    """A server on one end, a peer on the other."""

    def __init__(
        self,
        nursery: trio.Nursery,
        service: Any,
        options: ServerOptions | None = None,
        *,
        nowait: bool = True,
        limits: H2Limits | None = None,
        acknowledge: bool = True,
        drain: Drain | None = None,
        wire: Wire | None = None,
    ) -> None:
        client, server = memory_connection_pair(back=wire, nowait=nowait)
        self.owner = server.owner = Owner()
        server.drain = drain
        self.connection = server
        self.ended = False
        self.peer = CodecPeer(client, limits=limits, acknowledge=acknowledge)
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run, service, options or ServerOptions())

    async def _run(self, service: Any, options: ServerOptions) -> None:
        with self.scope:
            await serve_http2(self.connection, service, options)
        self.ended = True


async def echo(request: Request) -> Response:
    return Response(200, Headers([(b"x-path", request.path)]), Full(await read_all(request.body, 1 << 24)))


# ----- exchanges -----


@pytest.mark.parametrize("nowait", [True, False])
async def test_a_request_is_answered(nursery: trio.Nursery, nowait: bool) -> None:
    service = mock_service(lambda request: response(200, b"hello", [(b"x-a", b"1")]))
    peer = Serving(nursery, service, nowait=nowait).peer
    answer = await peer.ask(b"GET", b"/a?b", [(b"x-b", b"2")])
    assert (200, [(b"x-a", b"1")], b"hello") == (answer.status, answer.headers, answer.body)
    [request] = service.requests
    assert (b"GET", b"http", b"a.test", b"/a?b", 20) == (
        request.method,
        request.scheme,
        request.authority,
        request.path,
        request.version,
    )
    assert [(b"x-b", b"2")] == request.headers.raw


async def test_head_and_body_leave_in_one_write(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(lambda _: response(200, b"hello"))).peer
    await peer.ask()
    before = peer.reads
    await peer.ask()
    assert before + 1 == peer.reads


async def test_streams_answered_in_one_turn_leave_in_one_write(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(lambda _: response(200, b"hello"))).peer
    await peer.ask()
    streams = [peer.send() for _ in range(8)]
    before = peer.reads
    for stream_id in streams:
        assert b"hello" == (await peer.answer(stream_id)).body
    assert peer.reads - before <= 2


@pytest.mark.parametrize(("end", "fewest"), [(False, 10), (True, 1)])
async def test_requests_that_come_together_leave_others_their_turn(
    nursery: trio.Nursery, end: bool, fewest: int
) -> None:
    service = mock_service(lambda _: response(200, b"hello"))
    serving = Serving(nursery, service)
    await serving.peer.ask()
    turns: set[int] = set()
    streams = [serving.peer.send(b"POST", end=end) for _ in range(90)]
    await serving.peer.flush()
    while len(service.requests) < 91:
        turns.add(len(service.requests))
        await trio.lowlevel.checkpoint()
    assert len(turns - {1}) >= fewest
    for stream_id in streams:
        assert b"hello" == (await serving.peer.answer(stream_id)).body


async def test_a_drain_in_the_middle_of_what_one_read_brought_loses_nothing_of_it(nursery: trio.Nursery) -> None:
    drain = Drain()
    serving = Serving(nursery, mock_service(lambda _: response(200, b"hello")), drain=drain)
    peer = serving.peer
    await peer.ask()
    await trio.testing.wait_all_tasks_blocked()
    streams = [peer.send() for _ in range(90)]
    requests = peer.codec.data_to_send()
    drain.start()
    await trio.testing.wait_all_tasks_blocked()
    said: list[events.Event] = []
    while not any(isinstance(event, events.GoAwayReceived) for event in said):
        said += peer.codec.receive_data(await peer.connection.receive_some(), trio.current_time())
    # What makes the last GOAWAY due comes by one read with requests that were sent before it.
    await peer.connection.send_all(peer.codec.data_to_send() + requests)
    for stream_id in streams:
        answer = await peer.answer(stream_id)
        assert (200, b"hello", None) == (answer.status, answer.body, answer.reset)
    await peer.until_eof()


class Turns:
    """A service that notes how many turns another task has had when each request reaches it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.count = 0
        self.seen: list[int] = []
        self._nursery = nursery

    def service(self, _: Request) -> Response:
        self.seen.append(self.count)
        return response(200)

    async def of(self, peer: CodecPeer, streams: list[int]) -> int:
        """The turns between the first request and the last of those that were queued, all in one read."""
        self.seen.clear()
        self._nursery.start_soon(self.take, len(streams))
        for stream_id in streams:
            assert 200 == (await peer.answer(stream_id)).status
        return self.seen[-1] - self.seen[0]

    async def take(self, until: int) -> None:
        """Counts turns until so many requests have been seen."""
        while len(self.seen) < until:
            self.count += 1
            await trio.lowlevel.checkpoint()


async def test_others_get_their_turn_while_one_read_of_large_heads_is_decoded(nursery: trio.Nursery) -> None:
    turns = Turns(nursery)
    peer = Serving(nursery, mock_service(turns.service)).peer
    await peer.ask()
    assert 4 <= await turns.of(peer, [peer.send(headers=[(b"x", b"~" * 2_000 + b"%d" % n)]) for n in range(20)])


async def test_what_many_connections_brought_is_dealt_with_one_after_the_other(nursery: trio.Nursery) -> None:
    turns = Turns(nursery)
    peers = [Serving(nursery, mock_service(turns.service)).peer for _ in range(8)]
    for peer in peers:
        await peer.ask()
    streams = [[peer.send(headers=[(b"x", b"~" * 2_000 + b"%d" % n)]) for n in range(20)] for peer in peers]
    turns.seen.clear()
    nursery.start_soon(turns.take, 160)
    for peer in peers:
        nursery.start_soon(peer.flush)
    for peer, sent in zip(peers, streams, strict=True):
        for stream_id in sent:
            assert 200 == (await peer.answer(stream_id)).status
    # The first piece of each comes at once, and the other four of each in a turn of their own.
    assert 24 <= turns.seen[-1] - turns.seen[0]


async def test_uploads_that_come_by_one_read_are_begun_two_at_a_time(nursery: trio.Nursery) -> None:
    turns = Turns(nursery)
    peer = Serving(nursery, mock_service(turns.service)).peer
    await peer.ask()
    assert 12 <= await turns.of(peer, [peer.send(b"POST", end=False) for _ in range(32)])


async def test_uploads_that_come_whole_are_begun_like_requests_without_a_body(nursery: trio.Nursery) -> None:
    turns = Turns(nursery)
    peer = Serving(nursery, mock_service(turns.service)).peer
    await peer.ask()
    streams = []
    for _ in range(32):
        streams.append(peer.send(b"POST", end=False))
        peer.codec.send_data(streams[-1], b"all of it", end_stream=True)
    assert 2 >= await turns.of(peer, streams)


@pytest.mark.parity("X-67")
async def test_a_request_without_authority_is_accepted(nursery: trio.Nursery) -> None:
    service = mock_service()
    peer = Serving(nursery, service).peer
    assert 200 == (await peer.ask(authority=b"")).status
    assert b"" == service.requests[0].authority


async def test_a_body_and_trailers_pass_both_ways(nursery: trio.Nursery) -> None:
    async def service(request: Request) -> Response:
        data = await read_all(request.body)
        assert request.body.end is not None
        return Response(200, Headers(), Full(data, [(b"x-out", *[v for _, v in request.body.end.trailers])]))

    peer = Serving(nursery, service).peer
    stream_id = peer.send(b"POST", end=False)
    peer.codec.send_data(stream_id, b"abc", end_stream=False)
    peer.codec.send_trailers(stream_id, [(b"x-in", b"7")])
    answer = await peer.answer(stream_id)
    assert (b"abc", [(b"x-out", b"7")]) == (answer.body, answer.trailers)


async def test_informational_responses_come_first(nursery: trio.Nursery) -> None:
    async def service(request: Request) -> Response:
        assert request.informational is not None
        request.informational(103, [(b"link", b"</a.css>")])
        return response(204)

    answer = await Serving(nursery, service).peer.ask()
    assert ([103], 204) == (answer.informational, answer.status)


async def test_an_informational_response_that_comes_late_hits_nobody(nursery: trio.Nursery) -> None:
    kept: list[Callable[..., Any]] = []

    async def service(request: Request) -> Response:
        if kept:
            kept[0]()
        else:
            kept.append(lambda: request.informational and request.informational(103, []))
        return response(200)

    peer = Serving(nursery, service).peer
    await peer.ask()
    assert [] == (await peer.ask()).informational


@pytest.mark.parity("D-31")
async def test_connect_is_refused_where_it_is_not_allowed(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(), ServerOptions(allow_connect=False)).peer
    answer = await peer.ask(b"CONNECT", b"", authority=b"a.test:443")
    assert 405 == answer.status


# ----- tunnels -----


async def test_an_extended_connect_has_the_form_of_an_upgrade_in_the_stack(nursery: trio.Nursery) -> None:
    seen: list[Request] = []

    async def service(request: Request) -> Response:
        seen.append(request)
        return Response(101, Headers([(b"sec-websocket-accept", b"x")]), request.body, protocol=b"websocket")

    peer = Serving(nursery, service).peer
    await peer.wait_for(events.SettingsChanged)
    stream_id = peer.send(b"CONNECT", b"/chat", end=False, protocol=b"websocket")
    peer.codec.send_data(stream_id, b"ping", end_stream=False)
    await peer.flush()
    await peer.wait_for(events.DataReceived)
    answer = peer.answers[stream_id]
    assert (200, [], b"ping") == (answer.status, answer.headers, answer.body)
    assert (b"GET", b"websocket", b"/chat") == (seen[0].method, seen[0].protocol, seen[0].path)
    peer.codec.send_data(stream_id, b"bye", end_stream=True)
    assert b"pingbye" == (await peer.answer(stream_id)).body


@pytest.mark.parity("D-30")
async def test_a_tunnel_lasts_until_both_directions_have_ended(nursery: trio.Nursery) -> None:
    got: list[bytes] = []
    background: list[trio.Nursery] = [nursery]

    async def service(request: Request) -> Response:
        async def upload() -> None:
            got.append(await read_all(request.body))

        background[0].start_soon(upload)
        return Response(200, Headers(), Full(b"first"))

    peer = Serving(nursery, service).peer
    stream_id = peer.send(b"CONNECT", b"", authority=b"a.test:443", end=False)
    await peer.flush()
    await peer.wait_for(events.DataReceived)
    peer.codec.send_data(stream_id, b"late", end_stream=True)
    await peer.flush()
    with trio.fail_after(60):
        while not got:
            await trio.testing.wait_all_tasks_blocked()
    assert [b"late"] == got
    assert peer.answers[stream_id].reset is None


# ----- errors -----


@pytest.mark.parity("X-68", "D-28")
async def test_an_error_that_nobody_rescued_resets_the_stream_with_its_code(nursery: trio.Nursery) -> None:
    serving = Serving(nursery, mock_service(StreamReset("upstream", h2_code=11), 200))
    answer = await serving.peer.ask()
    assert answer.reset is not None
    assert 11 == answer.reset.code
    assert 200 == (await serving.peer.ask()).status
    assert [] == serving.owner.crashes


async def test_an_exception_of_a_service_is_a_500_and_a_crash_that_harms_nobody_else(nursery: trio.Nursery) -> None:
    serving = Serving(nursery, mock_service(ZeroDivisionError("x"), 200))
    answer = await serving.peer.ask()
    assert (500, b"internal") == (answer.status, dict(answer.headers)[b"x-meshcore-error"])
    assert 200 == (await serving.peer.ask()).status
    assert ["x"] == [str(error) for error in serving.owner.crashes]


async def test_a_response_that_breaks_resets_the_stream(nursery: trio.Nursery) -> None:
    def broken(request: Request) -> Response:
        body = Chunks()
        body.push(b"half")
        nursery.start_soon(later, body)
        return Response(200, Headers(), body)

    async def later(body: Chunks) -> None:
        await trio.testing.wait_all_tasks_blocked()
        body.push_error(StreamReset("upstream", h2_code=2))

    answer = await Serving(nursery, mock_service(broken)).peer.ask()
    assert (b"half", False) == (answer.body, answer.ended)
    assert answer.reset is not None
    assert 2 == answer.reset.code


@pytest.mark.parity("E-05")
async def test_a_grpc_response_that_breaks_ends_with_a_status(nursery: trio.Nursery) -> None:
    def broken(request: Request) -> Response:
        body = Chunks()
        body.push_error(StreamReset("upstream"))
        answer = Response(200, Headers(), body)
        answer.error_trailers = lambda error: [(b"grpc-status", b"14")]
        return answer

    answer = await Serving(nursery, mock_service(broken)).peer.ask()
    assert (None, [(b"grpc-status", b"14")]) == (answer.reset, answer.trailers)


async def test_a_response_that_cannot_be_sent_resets_its_stream_alone(nursery: trio.Nursery) -> None:
    serving = Serving(nursery, mock_service(response(200, headers=[(b"Bad Name", b"\n")]), 200))
    answer = await serving.peer.ask()
    assert answer.reset is not None
    assert 200 == (await serving.peer.ask()).status
    assert 1 == len(serving.owner.crashes)


async def test_an_upload_that_is_not_wanted_is_reset_without_error_after_the_response(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(403)).peer
    stream_id = peer.send(b"POST", end=False)
    answer = await peer.answer(stream_id)
    assert (403, True) == (answer.status, answer.ended)
    reset = await peer.wait_for(events.StreamReset)
    assert NO_ERROR == reset.code


# ----- resets -----


async def test_a_reset_cancels_the_service_and_breaks_the_request_body(nursery: trio.Nursery) -> None:
    service = mock_service(lambda request: request.body.receive_some())  # type: ignore[arg-type, return-value]
    serving = Serving(nursery, service)
    peer = serving.peer
    stream_id = peer.send(b"POST", end=False)
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    peer.codec.reset_stream(stream_id, 5)
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    end = service.requests[0].body.end
    assert end is not None
    assert isinstance(end.error, StreamReset)
    assert (5, 0) == (end.error.h2_code, service.in_flight)
    assert 200 == (await Serving(nursery, mock_service()).peer.ask()).status
    assert [] == serving.owner.crashes


async def test_a_reset_aborts_the_response_that_is_being_sent(nursery: trio.Nursery) -> None:
    body = Chunks()
    body.push(b"x")
    serving = Serving(nursery, mock_service(Response(200, Headers(), body)))
    peer = serving.peer
    stream_id = peer.send()
    await peer.wait_for(events.DataReceived)
    peer.codec.reset_stream(stream_id, 8)
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert body.end is not None
    assert isinstance(body.end.error, StreamReset)


async def test_a_reset_stream_keeps_its_slot_until_its_work_has_ended(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    release = trio.Event()

    async def stubborn(request: Request) -> Response:
        with trio.CancelScope(shield=True):
            await release.wait()
        return response()

    options = ServerOptions(http2=H2Limits(max_concurrent_streams=2))
    peer = Serving(nursery, stubborn, options).peer
    for _ in range(2):
        stream_id = peer.send()
        await peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        peer.codec.reset_stream(stream_id, 8)
    answer = await peer.ask()
    assert answer.reset is not None
    assert REFUSED_STREAM == answer.reset.code
    release.set()
    await trio.testing.wait_all_tasks_blocked()
    assert 200 == (await peer.ask()).status


@explore_schedules(40)
async def test_resets_at_any_moment_harm_nobody(engine: str) -> None:
    """Traps 3 and 4: between a reset and its cancellation a task may run once more."""
    async with trio.open_nursery() as nursery:

        async def service(request: Request) -> Response:
            await trio.lowlevel.checkpoint()
            body = Chunks()
            nursery.start_soon(fill, body)
            return Response(200, Headers(), body)

        async def fill(body: Chunks) -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                body.push(b"x" * 100)
            body.push_end()

        serving = Serving(nursery, service)
        peer = serving.peer
        for round_ in range(6):
            doomed = [peer.send() for _ in range(3)]
            kept = [peer.send() for _ in range(2)]
            await peer.flush()
            for _ in range(round_):
                await trio.lowlevel.checkpoint()
            for stream_id in doomed:
                peer.codec.reset_stream(stream_id, 8)
            for stream_id in kept:
                answer = await peer.answer(stream_id)
                assert (200, 300, True) == (answer.status, len(answer.body), answer.ended)
        assert [] == serving.owner.crashes
        nursery.cancel_scope.cancel()


# ----- kept stream tasks (trap 10) -----


async def test_a_context_variable_does_not_leak_to_the_next_request(nursery: trio.Nursery) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")
    seen: list[str] = []
    tasks: set[Any] = set()

    async def service(request: Request) -> Response:
        seen.append(variable.get())
        tasks.add(trio.lowlevel.current_task())
        variable.set("dirty")
        return response()

    peer = Serving(nursery, service).peer
    for _ in range(5):
        await peer.ask()
    assert (["clean"] * 5, 1) == (seen, len(tasks))


async def test_what_was_set_before_serving_is_seen_by_every_request(nursery: trio.Nursery) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[str] = []

    async def service(request: Request) -> Response:
        seen.append(variable.get())
        return response()

    variable.set("mesh")
    peer = Serving(nursery, service).peer
    for _ in range(3):
        await peer.ask()
    assert ["mesh"] * 3 == seen


@explore_schedules(30)
async def test_a_late_cancellation_does_not_reach_the_next_request(engine: str) -> None:
    async with trio.open_nursery() as nursery:

        async def service(request: Request) -> Response:
            await trio.lowlevel.checkpoint()
            return response(200, b"ok")

        peer = Serving(nursery, service).peer
        for _ in range(10):
            stream_id = peer.send()
            await peer.flush()
            await trio.lowlevel.checkpoint()
            peer.codec.reset_stream(stream_id, 8)
            assert b"ok" == (await peer.ask()).body
        nursery.cancel_scope.cancel()


# ----- flow control -----


async def test_an_empty_data_frame_is_not_the_end(nursery: trio.Nursery) -> None:
    """Trap 1."""
    peer = Serving(nursery, echo).peer
    stream_id = peer.send(b"POST", end=False)
    await peer.flush()
    await peer.connection.send_all(b"\0\0\0\0\0" + stream_id.to_bytes(4, "big"))
    peer.codec.send_data(stream_id, b"abc", end_stream=True)
    assert b"abc" == (await peer.answer(stream_id)).body


@pytest.mark.parity("X-35")
async def test_bodies_that_are_given_up_do_not_leak_the_window(nursery: trio.Nursery) -> None:
    """Trap 2: more is thrown away than the connection's window holds."""
    options = ServerOptions(http2=H2Limits(connection_window=131_072))
    peer = Serving(nursery, mock_service(400), options).peer
    await peer.wait_for(events.SettingsChanged)
    for _ in range(20):
        stream_id = peer.send(b"POST", end=False)
        with trio.fail_after(60):
            while peer.codec.window(stream_id) < 60_000:
                await peer.flush()
                await peer.read()
        peer.codec.send_data(stream_id, b"x" * 60_000, end_stream=False)
        assert 400 == (await peer.answer(stream_id)).status
        await peer.wait_for(events.StreamReset, len(peer.answers))


async def test_padding_returns_its_credit_too(nursery: trio.Nursery) -> None:
    options = ServerOptions(http2=H2Limits(connection_window=65_535))
    peer = Serving(nursery, echo, options).peer
    await peer.flush()
    for _ in range(3):
        stream_id = peer.send(b"POST", end=False)
        await peer.flush()
        for last in (False,) * 100 + (True,):
            payload = b"\xff" + b"x" + bytes(255)
            flags = 0x8 | last
            head = len(payload).to_bytes(3, "big") + bytes([0, flags]) + stream_id.to_bytes(4, "big")
            await peer.connection.send_all(head + payload)
        answer = await peer.answer(stream_id)
        assert 101 == len(answer.body)


@pytest.mark.parametrize("nowait", [True, False])
async def test_a_client_that_opens_no_window_holds_the_sender(nursery: trio.Nursery, nowait: bool) -> None:
    taken: list[int] = []

    class Endless(Chunks):
        def receive_nowait(self) -> bytes:
            taken.append(10_000)
            return b"x" * 10_000

    peer = Serving(
        nursery, mock_service(lambda _: Response(200, Headers(), Endless())), acknowledge=False, nowait=nowait
    ).peer
    stream_id = peer.send()
    await peer.flush()
    while len(peer.answers[stream_id].body) < 65_535:
        await peer.read()
    await trio.testing.wait_all_tasks_blocked()
    assert (65_535, 70_000) == (len(peer.answers[stream_id].body), sum(taken))
    peer.codec.acknowledge(stream_id, 65_535)
    await peer.flush()
    while len(peer.answers[stream_id].body) < 131_070:
        await peer.read()
    assert sum(taken) <= 150_000


async def test_a_client_that_does_not_read_holds_everything(nursery: trio.Nursery) -> None:
    """Whatever the windows allow, no more than a bounded amount waits for a socket that is full."""
    taken: list[int] = []

    class Endless(Chunks):
        def receive_nowait(self) -> bytes:
            taken.append(10_000)
            return b"x" * 10_000

    limits = H2Limits(stream_window=1 << 30, connection_window=1 << 30)
    serving = Serving(nursery, mock_service(lambda _: Response(200, Headers(), Endless())), limits=limits)
    for _ in range(10):
        serving.peer.send()
    await serving.peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert sum(taken) < 65_536 * 4


async def test_answers_do_not_pile_up_for_a_client_that_only_asks(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Heads are not bound by windows: the server stops reading instead."""
    service = mock_service(lambda _: response(200, headers=[(b"x", b"y" * 8_000)]))
    peer = Serving(nursery, service).peer
    with trio.move_on_after(5):
        for _ in range(2_000):
            if not peer.codec.can_open:
                break
            peer.send()
            await peer.flush()
            await trio.testing.wait_all_tasks_blocked()
    assert 50 < len(service.requests) < 200


async def test_the_connection_window_wakes_every_waiting_sender(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Trap 8."""
    limits = H2Limits(stream_window=1 << 20, connection_window=65_535)
    peer = Serving(nursery, mock_service(lambda _: response(200, b"x" * 40_000)), limits=limits, acknowledge=False).peer
    streams = [peer.send() for _ in range(8)]
    await peer.flush()
    for _ in range(10):
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.05):
            await peer.read()
        got = sum(len(answer.body) for answer in peer.answers.values())
        if got == 65_535:
            break
    peer.codec.acknowledge(0, 65_535)
    await peer.flush()
    peer.acknowledge = True
    with trio.fail_after(60):
        for stream_id in streams:
            assert 40_000 == len((await peer.answer(stream_id)).body)


async def test_a_large_body_passes_both_ways(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, echo).peer
    data = bytes(range(256)) * 2_000
    stream_id = peer.send(b"POST", end=False)
    offset = 0
    while offset < len(data):
        allowed = peer.codec.window(stream_id)
        if not allowed:
            await peer.flush()
            await peer.read()
            continue
        piece = data[offset : offset + allowed]
        offset += len(piece)
        peer.codec.send_data(stream_id, piece, end_stream=offset == len(data))
    assert data == (await peer.answer(stream_id)).body


# ----- drain and limits -----


@pytest.mark.parity("X-37", "X-38")
@pytest.mark.parametrize("answers_ping", [True, False])
async def test_a_drain_says_goodbye_twice_and_finishes_what_is_in_flight(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answers_ping: bool
) -> None:
    drain = Drain()
    go = trio.Event()

    async def service(request: Request) -> Response:
        await go.wait()
        return response(200, b"x" * 16_384)

    serving = Serving(nursery, service, drain=drain)
    peer = serving.peer
    streams = [peer.send() for _ in range(50)]
    await peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    drain.start()
    first = await peer.wait_for(events.GoAwayReceived)
    assert 2**31 - 1 == first.last_stream_id
    last = await peer.wait_for(events.GoAwayReceived, 2)
    assert (streams[-1], NO_ERROR) == (last.last_stream_id, last.code)
    assert not serving.ended
    go.set()
    for stream_id in streams:
        assert 16_384 == len((await peer.answer(stream_id)).body)
    await peer.until_eof()
    peer.connection.close()
    await trio.testing.wait_all_tasks_blocked()
    assert (True, []) == (serving.ended, serving.owner.crashes)


async def test_a_drain_that_has_started_already_ends_an_idle_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    drain = Drain()
    drain.start()
    peer = Serving(nursery, mock_service(), drain=drain).peer
    with trio.fail_after(10):
        await peer.until_eof()


async def test_a_client_without_a_preface_is_closed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    serving = Serving(nursery, mock_service(), ServerOptions(header_timeout=0.05))
    with trio.fail_after(3):
        while not serving.ended:
            await trio.sleep(0.05)


async def test_an_idle_connection_is_said_goodbye_to(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Serving(nursery, mock_service(0.5, 200), ServerOptions(idle_timeout=0.2)).peer
    assert 200 == (await peer.ask()).status
    started = trio.current_time()
    await peer.wait_for(events.GoAwayReceived)
    assert 0.2 <= trio.current_time() - started <= 0.31
    await peer.until_eof()


async def test_an_old_connection_is_drained(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    peer = Serving(nursery, mock_service(), ServerOptions(max_age=1.0)).peer
    assert 200 == (await peer.ask()).status
    assert 2**31 - 1 == (await peer.wait_for(events.GoAwayReceived)).last_stream_id
    await peer.until_eof()


@pytest.mark.parity("D-36")
async def test_a_client_that_answers_no_ping_is_closed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    options = ServerOptions(keepalive_interval=1.0, keepalive_timeout=0.5)
    serving = Serving(nursery, mock_service(), options)
    await serving.peer.ask()
    with trio.fail_after(5):
        while not serving.ended:
            await trio.sleep(0.1)


async def test_a_client_that_answers_pings_is_kept(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    options = ServerOptions(keepalive_interval=1.0, keepalive_timeout=0.5)
    serving = Serving(nursery, mock_service(), options)
    await serving.peer.ask()
    with trio.move_on_after(20):
        await serving.peer.until_eof()
    assert not serving.ended


@pytest.mark.parametrize(
    ("timeouts", "option"),
    [(Timeouts(idle=0.2), None), (Timeouts(request=0.3), None), (None, 0.2)],
)
async def test_an_answer_that_is_never_read_is_reset(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, timeouts: Timeouts | None, option: float | None
) -> None:
    body = Chunks()
    body.push(b"x" * 100_000)

    async def service(request: Request) -> Response:
        request.timeouts = timeouts
        return Response(200, Headers(), body)

    peer = Serving(nursery, service, ServerOptions(body_idle_timeout=option), acknowledge=False).peer
    with trio.fail_after(2):
        answer = await peer.answer(peer.send())
    assert answer.reset is not None
    assert body.end is not None


@pytest.mark.parametrize("timeouts", [None, Timeouts(idle=3_600.0)])
async def test_a_window_that_is_never_opened_for_what_is_ready_resets_the_stream_by_default(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, timeouts: Timeouts | None
) -> None:
    body = Chunks()
    body.push(b"x" * 100_000)

    async def service(request: Request) -> Response:
        request.timeouts = timeouts
        return Response(200, Headers(), body if request.path == b"/" else Full(b"x"))

    peer = Serving(nursery, service, acknowledge=False).peer
    stream_id = peer.send()
    with trio.fail_after(700):
        answer = await peer.answer(stream_id)
    assert 300 <= trio.current_time() <= 340
    assert answer.reset is not None
    assert body.end is not None
    # The connection is as good as it was.
    peer.acknowledge = True
    peer.codec.acknowledge(stream_id, 65_535)
    assert 200 == (await peer.ask(path=b"/other")).status


async def test_a_window_that_is_opened_a_little_now_and_then_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    body = Chunks()
    body.push(b"x" * 2_000_000)
    serving = Serving(
        nursery,
        mock_service(lambda _: Response(200, Headers(), body)),
        ServerOptions(write_timeout=10.0),
        acknowledge=False,
    )
    peer = serving.peer
    stream_id = peer.send()
    await peer.flush()
    for number in range(20):
        while len(peer.answers[stream_id].body) < 65_535 + 40_000 * number:
            await peer.read()
        await trio.sleep(9)
        peer.codec.acknowledge(stream_id, 40_000)
        await peer.flush()
    assert peer.answers[stream_id].reset is None


async def test_a_stream_on_which_nobody_has_anything_to_say_is_left_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    body = Chunks()
    service = mock_service(lambda _: Response(200, Headers(), body))
    peer = Serving(nursery, service, ServerOptions(idle_timeout=None)).peer
    stream_id = peer.send(b"POST", end=False)
    await peer.flush()
    body.push(b"x")
    await trio.sleep(80_000)
    body.push(b"y")
    body.push_end()
    answer = await peer.answer(stream_id)
    assert (b"xy", True) == (answer.body, answer.ended)


async def test_an_http2_client_that_reads_nothing_at_all_is_closed_by_default(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    # A wide window, and a connection that takes a little.
    serving = Serving(
        nursery,
        mock_service(lambda _: Response(200, Headers(), Full(b"x" * 1_000_000))),
        ServerOptions(idle_timeout=None),
        limits=H2Limits(stream_window=1 << 30),
    )
    peer = serving.peer
    peer.send()
    await peer.flush()
    with trio.fail_after(400):
        while not serving.ended:
            await trio.sleep(1)
    assert trio.current_time() >= 300


@pytest.mark.parametrize(("every", "size", "told"), [(1.0, 50, False), (1.0, 200, True)])
async def test_an_upload_has_the_rate_that_is_wanted_of_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, every: float, size: int, told: bool
) -> None:
    peer = Serving(nursery, echo, ServerOptions(min_body_rate=100.0)).peer
    stream_id = peer.send(b"POST", headers=[(b"content-length", b"%d" % (60 * size))], end=False)
    await peer.flush()

    async def drip() -> None:
        for number in range(60):
            await trio.sleep(every)
            if peer.codec.window(stream_id):
                peer.codec.send_data(stream_id, b"x" * size, end_stream=number == 59)
                await peer.flush()

    nursery.start_soon(drip)
    answer = await peer.answer(stream_id)
    assert told is (answer.status == 200)
    assert told is (answer.reset is None)
    if not told:
        assert 10 <= trio.current_time() <= 30


@pytest.mark.parametrize("length", [[], [(b"content-length", b"10")]])
async def test_no_rate_is_wanted_of_a_stream_without_a_length_nor_while_nobody_waits_for_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, length: list[tuple[bytes, bytes]]
) -> None:
    async def service(request: Request) -> Response:
        if length:
            await trio.sleep(100)
        return Response(200, Headers(), Full(await read_all(request.body, 1 << 20)))

    peer = Serving(nursery, service, ServerOptions(min_body_rate=100.0)).peer
    stream_id = peer.send(b"POST", headers=length, end=False)
    await peer.flush()
    await trio.sleep(99)
    peer.codec.send_data(stream_id, b"0123456789", end_stream=True)
    assert b"0123456789" == (await peer.answer(stream_id)).body


# ----- abuse and containment -----


async def test_abuse_is_counted_by_its_kind_and_ends_the_connection(nursery: trio.Nursery) -> None:
    kinds: list[str] = []
    options = ServerOptions(on_abuse=kinds.append)
    serving = Serving(nursery, mock_service(), options)
    peer = serving.peer
    await peer.flush()
    with pytest.raises((trio.BrokenResourceError, AssertionError, Exception)):
        for _ in range(5_000):
            await peer.connection.send_all(b"\0\0\x08\x06\0\0\0\0\0" + bytes(8))
        await peer.until_eof()
        raise AssertionError
    assert 1 == len(kinds)
    assert [] == serving.owner.crashes


async def test_garbage_ends_the_connection_alone(nursery: trio.Nursery) -> None:
    serving = Serving(nursery, mock_service())
    await serving.peer.connection.send_all(b"\xff" * 1000)
    with trio.fail_after(60):
        await serving.peer.until_eof()
    assert [] == serving.owner.crashes


@pytest.mark.parametrize("nowait", [True, False])
async def test_an_exception_at_any_await_ends_the_connection_alone(
    autojump_clock: trio.testing.MockClock, nowait: bool
) -> None:
    for place in range(30):
        async with trio.open_nursery() as nursery:
            client, server = memory_connection_pair(nowait=nowait)
            owner = server.owner = Owner()
            calls = fail_at(server, place)
            done = trio.Event()

            async def serve(server: Any = server, done: trio.Event = done) -> None:
                await serve_http2(server, echo)
                done.set()

            nursery.start_soon(serve)
            peer = CodecPeer(client)
            try:
                with trio.move_on_after(5):
                    for _ in range(5):
                        await peer.ask(b"POST", body=b"x" * 100)
            except Exception:  # the peer's end breaks in many ways
                pass
            client.close()
            with trio.fail_after(5):
                await done.wait()
            assert all(isinstance(error, Injected) for error in owner.crashes)
            assert len(owner.crashes) == calls.failed
            nursery.cancel_scope.cancel()


class Injected(Exception):
    pass


class Calls:
    """Counts the calls of a connection, one of which fails unexpectedly."""

    def __init__(self, place: int) -> None:
        self._left = place
        self.failed = 0

    def count(self) -> None:
        self._left -= 1
        if self._left == -1:
            self.failed = 1
            raise Injected


def fail_at(connection: Any, place: int) -> Calls:
    """Makes one call of *connection* fail."""
    calls = Calls(place)

    class Failing(type(connection)):  # type: ignore[misc]
        __slots__ = ()

        async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
            calls.count()
            return bytes(await super().receive_some(max_bytes))

        def send_nowait(self, data: bytes) -> int:
            calls.count()
            return int(super().send_nowait(data))

        async def send_all(self, data: bytes) -> None:
            calls.count()
            await super().send_all(data)

        async def send_eof(self) -> None:
            calls.count()
            await super().send_eof()

    connection.__class__ = Failing
    return calls


async def test_a_client_that_floods_does_not_starve_another(nursery: trio.Nursery) -> None:
    """A reader lets others run after every read, whatever its peer sends."""
    flood = Serving(nursery, mock_service())
    calm = Serving(nursery, mock_service())
    await flood.peer.ask()
    await calm.peer.ask()
    turns = 0

    async def ask() -> None:
        await calm.peer.ask()

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        asking.start_soon(asking_too_much, flood.peer)
        turns += 1
    assert 1 == turns


async def asking_too_much(peer: CodecPeer) -> None:
    for _ in range(50):
        for _ in range(10):
            peer.send()
        await peer.flush()
        for stream_id, answer in list(peer.answers.items()):
            if not answer.over:
                await peer.answer(stream_id)


async def test_a_hang_up_cancels_what_is_being_served(nursery: trio.Nursery) -> None:
    service = mock_service(lambda request: trio.sleep_forever())  # type: ignore[arg-type, return-value]
    serving = Serving(nursery, service)
    serving.peer.send()
    await serving.peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == service.in_flight
    serving.peer.connection.close()
    await trio.testing.wait_all_tasks_blocked()
    assert (0, True, []) == (service.in_flight, serving.ended, serving.owner.crashes)


async def test_cancelling_the_server_releases_everything(nursery: trio.Nursery) -> None:
    body = Chunks()
    serving = Serving(nursery, mock_service(Response(200, Headers(), body)))
    serving.peer.send()
    await serving.peer.flush()
    await trio.testing.wait_all_tasks_blocked()
    serving.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert body.end is not None
    assert (True, True) == (serving.ended, serving.connection.closed)


# ----- what must not be sent -----


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parity("X-81")
async def test_no_body_follows_where_there_is_none(nursery: trio.Nursery, method: bytes, status: int) -> None:
    peer = Serving(nursery, mock_service(lambda _: response(status, b"surplus"))).peer
    answer = await peer.ask(method)
    assert (status, b"", None) == (answer.status, answer.body, answer.reset)


async def test_an_upgrade_that_was_ignored_does_not_look_like_a_tunnel(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(lambda _: response(200, b"page"))).peer
    await peer.wait_for(events.SettingsChanged)
    answer = await peer.answer(peer.send(b"CONNECT", b"/chat", end=False, protocol=b"websocket"))
    assert (502, b"") == (answer.status, answer.body)


async def test_an_upgrade_that_was_refused_is_refused(nursery: trio.Nursery) -> None:
    peer = Serving(nursery, mock_service(lambda _: response(403, b"no"))).peer
    await peer.wait_for(events.SettingsChanged)
    answer = await peer.answer(peer.send(b"CONNECT", b"/chat", end=False, protocol=b"websocket"))
    assert (403, b"no") == (answer.status, answer.body)


async def test_pings_do_not_keep_an_idle_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Serving(nursery, mock_service(), ServerOptions(idle_timeout=1.0)).peer
    await peer.ask()

    async def ping() -> None:
        while not peer.eof:
            peer.codec.ping(b"12345678")
            with contextlib.suppress(MeshError, trio.BrokenResourceError):
                await peer.flush()
            await trio.sleep(0.1)

    nursery.start_soon(ping)
    with trio.fail_after(3):
        await peer.until_eof()


async def test_requests_between_two_sweeps_keep_a_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    serving = Serving(nursery, mock_service(), ServerOptions(idle_timeout=1.0))
    for _ in range(20):
        await trio.sleep(0.6)
        assert 200 == (await serving.peer.ask()).status
    assert not serving.ended


async def test_a_drain_sends_all_of_a_large_answer_to_a_slow_client(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    drain = Drain()
    serving = Serving(
        nursery,
        mock_service(lambda _: response(200, b"x" * 60_000)),
        drain=drain,
        wire=Wire(capacity=1_000, rate=5_000.0),
    )
    stream_id = serving.peer.send()
    await serving.peer.flush()
    await serving.peer.wait_for(events.ResponseReceived)
    drain.start()
    assert 60_000 == len((await serving.peer.answer(stream_id)).body)
    await serving.peer.until_eof()
    assert trio.current_time() > 10


async def test_a_body_that_is_always_there_lets_others_run(nursery: trio.Nursery) -> None:
    turns: list[int] = []

    class Endless(Chunks):
        def receive_nowait(self) -> bytes:
            turns.append(len(others))
            if len(turns) == 1_000:
                self.push_end()
                return b""
            return b"x" * 10_000

    others: list[int] = []

    async def other() -> None:
        while True:
            others.append(1)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    limits = H2Limits(stream_window=1 << 30, connection_window=1 << 30)
    wire = Wire(capacity=1 << 30)
    serving = Serving(nursery, mock_service(lambda _: Response(200, Headers(), Endless())), limits=limits, wire=wire)
    serving.peer.send()
    await serving.peer.flush()
    while len(turns) < 1_000:
        await trio.lowlevel.checkpoint()
    assert turns[-1] - turns[0] > 100
    nursery.cancel_scope.cancel()
