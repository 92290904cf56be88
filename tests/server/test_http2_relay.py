"""Large bodies through an HTTP/2 proxy: handed on by the reader that they come to, within every bound."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from meshcore._wakeup import Wakeup
from meshcore.client.http2 import Http2Client
from meshcore.codec import events
from meshcore.codec.h2 import server_codec
from meshcore.codec.h2.frames import DATA, frame
from meshcore.codec.limits import H2Limits
from meshcore.server.http2 import serve_http2
from meshcore.testing import explore_schedules, memory_connection_pair
from meshcore.transport.bulk import BulkRead
from meshcore.transport.connection import READ_SIZE, Connection
from meshcore.transport.flow_body import FlowBody
from meshcore.transport.http2 import HIGH_WATER, Http2Link
from meshcore.transport.relay import BATCH, Relay
from meshcore.transport.socket import SocketConnection
from meshcore.transport.target import Endpoint
from tests.codec.h2.wire import GET, server_wire
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")

WIDE = H2Limits(stream_window=1 << 20)


_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


def socket_pair() -> tuple[Connection, Connection]:
    a, b = socket.socketpair()
    _sockets.extend((a, b))
    return SocketConnection(a), SocketConnection(b)


class Proxy:
    """A client, a proxy and an origin, joined by *pair*."""

    def __init__(self, nursery: trio.Nursery, sockets: bool, limits: H2Limits | None = None) -> None:
        self._pair = socket_pair if sockets else memory_connection_pair
        self._limits = limits
        self.origin: CodecPeer | None = None
        self.crashes: list[BaseException] = []
        self.upstream = Http2Client(Endpoint(("10.0.0.9", 80)), self._connect, nursery)
        here, there = self._pair()
        there.owner = self
        self.client = CodecPeer(here, limits=limits)
        nursery.start_soon(partial(serve_http2, there, self.upstream))

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append(error)

    async def _connect(self, endpoint: Endpoint) -> Connection:
        here, there = self._pair()
        here.owner = self
        self.origin = CodecPeer(there, server=True, limits=self._limits)
        return here


def content(stream_id: int, size: int) -> bytes:
    return random.Random(stream_id).randbytes(size)


async def serve(peer: CodecPeer, size: int) -> None:
    """Answers each request with *size* bytes, all of them in turns of a frame, as the windows let it."""
    left: dict[int, bytes] = {}
    await peer.flush()
    while not peer.eof:
        for event in await peer.read():
            if isinstance(event, events.RequestReceived) and peer.answers[event.stream_id].reset is None:
                peer.codec.send_response(event.stream_id, 200, [(b"content-length", b"%d" % size)], end_stream=False)
                left[event.stream_id] = content(int(event.path[1:]), size)
            elif isinstance(event, events.StreamReset):
                left.pop(event.stream_id, None)
        moved = True
        while moved:
            moved = False
            for stream_id, data in list(left.items()):
                room = min(peer.codec.window(stream_id), 16_384)
                if room:
                    moved = True
                    peer.codec.send_data(stream_id, data[:room], end_stream=room >= len(data))
                    left[stream_id] = data[room:]
                    if not left[stream_id]:
                        del left[stream_id]
        await peer.flush()


class Steps(trio.abc.Instrument):
    """Counts how often tasks of each name were run."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts[task.coro.__qualname__] += 1


@pytest.mark.parametrize("sockets", [True, False])
async def test_large_bodies_arrive_as_they_were_sent(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, sockets: bool
) -> None:
    sizes = []
    read = BulkRead.read

    def noted(self: BulkRead) -> Any:
        found = read(self)
        sizes.append(self.size)
        return found

    monkeypatch.setattr(BulkRead, "read", noted)
    proxy = Proxy(nursery, sockets)
    await proxy.upstream.ready()
    assert proxy.origin is not None
    nursery.start_soon(serve, proxy.origin, 300_000)
    streams = {proxy.client.send(path=b"/%d" % number): number for number in range(8)}
    with trio.fail_after(60):
        for stream_id, number in streams.items():
            answer = await proxy.client.answer(stream_id)
            assert (200, True, None) == (answer.status, answer.ended, answer.reset)
            assert content(number, 300_000) == answer.body
    assert [] == proxy.crashes
    assert (max(sizes, default=0) > READ_SIZE) is sockets


@pytest.mark.parametrize("sockets", [True, False])
async def test_the_task_of_a_stream_sleeps_while_its_body_passes(nursery: trio.Nursery, sockets: bool) -> None:
    proxy = Proxy(nursery, sockets, WIDE)
    await proxy.upstream.ready()
    assert proxy.origin is not None
    nursery.start_soon(serve, proxy.origin, 0x100_000)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    with trio.fail_after(60):
        answer = await proxy.client.answer(proxy.client.send(path=b"/1"))
    trio.lowlevel.remove_instrument(steps)
    assert 0x100_000 == len(answer.body)
    # For the head, the first chunk and the last; there are 64.
    assert steps.counts["StreamTask.run"] <= 4


@pytest.mark.parametrize("sockets", [True, False])
async def test_a_large_upload_arrives_as_it_was_sent(nursery: trio.Nursery, sockets: bool) -> None:
    proxy = Proxy(nursery, sockets)
    await proxy.upstream.ready()
    origin = proxy.origin
    assert origin is not None
    sent = content(1, 500_000)

    async def upload(stream_id: int) -> None:
        codec, left = proxy.client.codec, sent
        while left:
            room = min(codec.window(stream_id), 16_384)
            codec.send_data(stream_id, left[:room], end_stream=room >= len(left))
            left = left[room:]
            await proxy.client.flush()
            while left and not codec.window(stream_id):
                await proxy.client.read()

    stream_id = proxy.client.send(b"POST", end=False)
    with trio.fail_after(60):
        nursery.start_soon(upload, stream_id)
        request = await origin.wait_for(events.RequestReceived)
        while not origin.answers[request.stream_id].ended:
            await origin.read()
    assert sent == origin.answers[request.stream_id].body


@explore_schedules(20)
async def test_no_schedule_loses_or_mixes_what_is_handed_on(engine: str) -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, sockets=False)
        await proxy.upstream.ready()
        assert proxy.origin is not None
        nursery.start_soon(serve, proxy.origin, 150_000)
        client = proxy.client
        for pause in (0, 3, 9):
            kept = {client.send(path=b"/%d" % number): number for number in range(3)}
            doomed = client.send(path=b"/9")
            await client.flush()
            for _ in range(pause):
                await client.read()
            client.codec.reset_stream(doomed, 8)
            for stream_id, number in kept.items():
                assert content(number, 150_000) == (await client.answer(stream_id)).body
        await trio.testing.wait_all_tasks_blocked()
        assert (0, []) == (proxy.upstream.statistics().streams, proxy.crashes)
        nursery.cancel_scope.cancel()


async def test_an_origin_that_breaks_in_the_middle_resets_what_is_handed_on(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, sockets=True, limits=WIDE)
    await proxy.upstream.ready()
    origin = proxy.origin
    assert origin is not None
    stream_id = proxy.client.send()
    await proxy.client.flush()
    request = await origin.wait_for(events.RequestReceived)
    origin.codec.send_response(request.stream_id, 200, [], end_stream=False)
    for _ in range(3):
        origin.codec.send_data(request.stream_id, b"x" * 16_384, end_stream=False)
        await origin.flush()
        await proxy.client.read()
    origin.connection.close()
    with trio.fail_after(60):
        answer = await proxy.client.answer(stream_id)
    assert answer.reset is not None
    assert set(b"x") == set(answer.body)
    assert [] == proxy.crashes


# -- the relay alone ------------------------------------------------------------------------------


class Stream:
    """Where a body is sent: a :class:`~meshcore.transport.http2.Sending`."""

    def __init__(self) -> None:
        self.stream_id = 1
        self.over = False
        self.credit = Wakeup()
        self.activity = 0


def outgoing(engine: str, connection: Connection) -> Http2Link[object]:
    """A server's link whose first stream has been answered."""
    wire = server_wire({"fast": "ngh2"}.get(engine, engine), H2Limits(), respond=False)
    wire.feed(wire.headers(1, GET))
    wire.feed(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0")
    wire.codec.send_response(1, 200, [], end_stream=False)
    return Http2Link(wire.codec, connection)


def relay_of(link: Http2Link[object]) -> tuple[Relay, Stream, FlowBody]:
    source: Http2Link[object] = Http2Link(server_codec(H2Limits(), "pure"), memory_connection_pair()[0])
    body, stream = FlowBody(source, 1, None), Stream()
    return Relay(body, link, stream, HIGH_WATER), stream, body


def whole(size: int = 16_384) -> memoryview:
    return memoryview(bytearray(frame(DATA, 0, 7, b"x" * size)))


async def test_a_relay_takes_no_more_than_may_wait_for_the_socket(engine: str) -> None:
    here, _ = socket_pair()
    link = outgoing(engine, here)
    relay, stream, _ = relay_of(link)
    taken = 0
    while relay.take_frame(whole()):
        taken += 1
        assert taken < 1_000
    # One large send that the socket took in part, at the most.
    assert HIGH_WATER <= link.unsent <= BATCH + 16_384 + 9
    assert not relay.take(b"y" * 100)
    assert taken == stream.activity


async def test_a_socket_that_is_behind_has_no_more_than_the_high_water_waiting(engine: str) -> None:
    here, there = socket_pair()
    link = outgoing(engine, here)
    relay, _, _ = relay_of(link)
    while not link.unsent:
        assert relay.take_frame(whole())
        link.flush_parts()
    while relay.take_frame(whole()):
        assert link.unsent + link.queued < 2 * HIGH_WATER
    assert HIGH_WATER <= link.unsent + link.queued <= HIGH_WATER + 16_384 + 9
    there.close()


async def test_a_relay_declines_once_its_stream_or_connection_is_over(engine: str) -> None:
    here, there = socket_pair()
    link = outgoing(engine, here)
    relay, stream, body = relay_of(link)
    assert relay.take(b"y" * 100)
    assert relay.take_frame(whole())
    assert [link] == body.link.relayed
    assert 2 == body.activity
    stream.over = True
    assert not relay.take(b"y" * 100)
    assert not relay.take_frame(whole())
    stream.over = False
    there.close()
    body.link.flush_relayed()
    assert link.error is not None
    assert not relay.take(b"y" * 100)
    assert not relay.take_frame(whole())


async def test_what_a_large_read_lent_is_sent_or_copied_when_it_ends(engine: str) -> None:
    here, there = socket_pair()
    link = outgoing(engine, here)
    relay, _, body = relay_of(link)
    _, upstream = socket_pair()
    assert isinstance(upstream, SocketConnection)
    with BulkRead(body.link, upstream) as bulk:
        lent = bulk._view[: 16_384 + 9]
        while True:
            lent[:] = frame(DATA, 0, 7, b"x" * 16_384)
            if not relay.take_frame(lent):
                break
            body.link.flush_relayed()
        lent[:] = frame(DATA, 0, 7, b"x" * 16_384)
    lent[:] = bytes(len(lent))
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.write)
        while len(got) < link.connection.bytes_written or link.unsent:
            got += await there.receive_some()
        nursery.cancel_scope.cancel()
    assert b"\0" * 100 not in got
