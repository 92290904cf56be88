"""HTTP/2 through a whole proxy: the accepted side, the connecting side, and what passes between them."""

from __future__ import annotations

import gc
import sys
from functools import partial

import pytest
import trio
import trio.testing

from meshcore.client.http2 import Http2Client
from meshcore.codec import events
from meshcore.codec.limits import H2Limits
from meshcore.server.http2 import serve_http2
from meshcore.testing import Wire, explore_schedules, memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.target import Endpoint
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")


class Proxy:
    """A client's peer, a proxy, and the upstream's peer behind it."""

    def __init__(
        self, nursery: trio.Nursery, *, nowait: bool = True, wire: Wire | None = None, limits: H2Limits | None = None
    ) -> None:
        self.nursery = nursery
        self._nowait = nowait
        self._limits = limits
        self.upstreams: list[CodecPeer] = []
        self.crashes: list[BaseException] = []
        self.client = Http2Client(Endpoint(("10.0.0.9", 80)), self._connect, nursery)
        here, there = memory_connection_pair(back=wire, nowait=nowait)
        there.owner = self
        self.accepted = there
        self.peer = CodecPeer(here, limits=limits)
        nursery.start_soon(partial(serve_http2, there, self.client))

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append(error)

    async def _connect(self, endpoint: Endpoint) -> Connection:
        here, there = memory_connection_pair(nowait=self._nowait)
        here.owner = self
        self.upstreams.append(CodecPeer(there, server=True, limits=self._limits))
        return here

    async def upstream(self) -> CodecPeer:
        while not self.upstreams:
            await trio.testing.wait_all_tasks_blocked()
        return self.upstreams[0]


async def serve(peer: CodecPeer, size: int = 100) -> None:
    """Answers requests that have come whole with *size* bytes, echoing trailers."""
    await peer.flush()
    while not peer.eof:
        for event in await peer.read():
            stream_id = getattr(event, "stream_id", 0)
            if stream_id and peer.answers[stream_id].reset is None and _ended(event):
                peer.codec.send_response(stream_id, 200, [], end_stream=False)
                peer.codec.send_data(stream_id, b"x" * size, end_stream=False)
                peer.codec.send_trailers(stream_id, [(b"grpc-status", b"0")])
        await peer.flush()


def _ended(event: object) -> bool:
    if isinstance(event, events.RequestReceived | events.DataReceived):
        return event.end_stream
    return isinstance(event, events.TrailersReceived)


@pytest.mark.parametrize("nowait", [True, False])
async def test_a_grpc_call_passes_with_its_trailers(nursery: trio.Nursery, nowait: bool) -> None:
    proxy = Proxy(nursery, nowait=nowait)
    stream_id = proxy.peer.send(b"POST", b"/svc/method", [(b"te", b"trailers")], end=False)
    proxy.peer.codec.send_data(stream_id, b"\0\0\0\0\1x", end_stream=True)
    await proxy.peer.flush()
    upstream = await proxy.upstream()
    event = await upstream.wait_for(events.RequestReceived)
    assert [(b"te", b"trailers")] == event.headers
    await upstream.wait_for(events.DataReceived)
    upstream.codec.send_response(1, 200, [(b"content-type", b"application/grpc")], end_stream=False)
    upstream.codec.send_data(1, b"\0\0\0\0\1y", end_stream=False)
    upstream.codec.send_trailers(1, [(b"grpc-status", b"5")])
    await upstream.flush()
    answer = await proxy.peer.answer(stream_id)
    assert (200, b"\0\0\0\0\1y", [(b"grpc-status", b"5")]) == (answer.status, answer.body, answer.trailers)


async def test_a_trailers_only_response_passes(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery)
    stream_id = proxy.peer.send()
    await proxy.peer.flush()
    upstream = await proxy.upstream()
    await upstream.wait_for(events.RequestReceived)
    upstream.codec.send_response(1, 200, [(b"grpc-status", b"12")], end_stream=True)
    await upstream.flush()
    answer = await proxy.peer.answer(stream_id)
    assert (200, [(b"grpc-status", b"12")], b"", None) == (answer.status, answer.headers, answer.body, answer.trailers)


@pytest.mark.parity("X-68", "D-28")
async def test_a_reset_passes_both_ways_with_its_code(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery)
    first = proxy.peer.send(b"POST", end=False)
    second = proxy.peer.send()
    await proxy.peer.flush()
    upstream = await proxy.upstream()
    await upstream.wait_for(events.RequestReceived, 2)
    paths = {event.method: event.stream_id for event in upstream.events if isinstance(event, events.RequestReceived)}
    proxy.peer.codec.reset_stream(first, 5)
    await proxy.peer.flush()
    reset = await upstream.wait_for(events.StreamReset)
    assert (paths[b"POST"], 5) == (reset.stream_id, reset.code)
    upstream.codec.reset_stream(paths[b"GET"], 11)
    await upstream.flush()
    answer = await proxy.peer.answer(second)
    assert answer.reset is not None
    assert 11 == answer.reset.code
    assert [] == proxy.crashes


async def test_bytes_flow_both_ways_at_once(nursery: trio.Nursery) -> None:
    """A bidirectional stream: each message is answered before the next is sent."""
    proxy = Proxy(nursery)
    stream_id = proxy.peer.send(b"POST", end=False)
    await proxy.peer.flush()
    upstream = await proxy.upstream()
    await upstream.wait_for(events.RequestReceived)
    upstream.codec.send_response(1, 200, [], end_stream=False)
    for index in range(10):
        proxy.peer.codec.send_data(stream_id, b"%d" % index, end_stream=False)
        await proxy.peer.flush()
        data = await upstream.wait_for(events.DataReceived, index + 1)
        upstream.codec.send_data(1, data.data * 2, end_stream=False)
        await upstream.flush()
        await proxy.peer.wait_for(events.DataReceived, index + 1)
    proxy.peer.codec.send_data(stream_id, b"", end_stream=True)
    await proxy.peer.flush()
    await upstream.wait_for(events.DataReceived, 11)
    upstream.codec.send_data(1, b"", end_stream=True)
    await upstream.flush()
    answer = await proxy.peer.answer(stream_id)
    assert b"".join(b"%d%d" % (index, index) for index in range(10)) == answer.body


async def test_a_slow_reader_holds_the_origin_at_its_windows(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    proxy = Proxy(nursery)
    proxy.peer.acknowledge = False
    stream_id = proxy.peer.send()
    await proxy.peer.flush()
    upstream = await proxy.upstream()
    await upstream.wait_for(events.RequestReceived)
    upstream.codec.send_response(1, 200, [], end_stream=False)
    sent = 0
    for _ in range(50):
        allowed = upstream.codec.window(1)
        if allowed:
            upstream.codec.send_data(1, b"x" * min(allowed, 16_384), end_stream=False)
            sent += min(allowed, 16_384)
            await upstream.flush()
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.001):
            await upstream.read()
        with trio.move_on_after(0.001):
            await proxy.peer.read()
    assert 65_535 == len(proxy.peer.answers[stream_id].body)
    # A window on either side, and the chunk in hand.
    assert sent <= 2 * 65_535 + 32_768


@explore_schedules(20)
async def test_no_schedule_mixes_streams_up_or_leaves_one_behind(engine: str) -> None:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery)
        await proxy.client.ready()
        nursery.start_soon(serve, await proxy.upstream())
        peer = proxy.peer
        for pause in range(6):
            doomed = [peer.send(b"POST", end=False) for _ in range(2)] + [peer.send() for _ in range(2)]
            kept = [peer.send() for _ in range(3)]
            await peer.flush()
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            for stream_id in doomed:
                peer.codec.reset_stream(stream_id, 8)
            for stream_id in kept:
                answer = await peer.answer(stream_id)
                assert (200, 100, [(b"grpc-status", b"0")]) == (answer.status, len(answer.body), answer.trailers)
        await trio.testing.wait_all_tasks_blocked()
        assert (0, []) == (proxy.client.statistics().streams, proxy.crashes)
        nursery.cancel_scope.cancel()


async def test_many_exchanges_leave_nothing_behind(nursery: trio.Nursery, engine: str) -> None:
    proxy = Proxy(nursery)
    await proxy.client.ready()
    nursery.start_soon(serve_tersely, await proxy.upstream())
    peer = proxy.peer

    async def ask(count: int) -> None:
        for _ in range(count):
            await peer.ask(b"POST", body=b"y")
            peer.events.clear()
            peer.answers.clear()

    await ask(200)
    gc.collect()
    before = sys.getallocatedblocks()
    await ask(400)
    gc.collect()
    # The codecs remember a bounded number of streams that are over.
    assert sys.getallocatedblocks() - before < 10_000
    before = sys.getallocatedblocks()
    await ask(200)
    gc.collect()
    assert sys.getallocatedblocks() - before < 4_000


async def serve_tersely(peer: CodecPeer) -> None:
    await peer.flush()
    while not peer.eof:
        for event in await peer.read():
            if isinstance(event, events.DataReceived) and event.end_stream:
                peer.codec.send_response(event.stream_id, 200, [], end_stream=False)
                peer.codec.send_data(event.stream_id, b"x", end_stream=True)
        await peer.flush()
        peer.events.clear()
        peer.answers.clear()


@pytest.mark.long
async def test_twenty_thousand_exchanges_leave_nothing_behind(nursery: trio.Nursery, engine: str) -> None:
    proxy = Proxy(nursery)
    await proxy.client.ready()
    nursery.start_soon(serve_tersely, await proxy.upstream())
    before = 0
    for count in (5_000, 20_000):
        for _ in range(count):
            await proxy.peer.ask(b"POST", body=b"y")
            proxy.peer.events.clear()
            proxy.peer.answers.clear()
        gc.collect()
        growth, before = sys.getallocatedblocks() - before, sys.getallocatedblocks()
    assert growth < 3_000
