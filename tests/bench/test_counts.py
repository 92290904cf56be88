"""What a request may cost in Trio's own currency: tasks, cancel scopes, nurseries, channels.

Times depend on the machine and are reported; counts do not, and are held here.  The shipped gateway pipeline
serves a kept connection in memory; what its first requests need (connections, kept tasks) is not counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import attrs
import pytest
import trio
import trio._channel
import trio.testing

from meshcore.accounting import Ledger, accounted
from meshcore.compiled import is_compiled
from meshcore.config import proxy_config
from meshcore.metrics.registry import Registry
from meshcore.pipeline.gateway import gateway
from meshcore.testing import MemoryNetwork, MemoryStream, memory_connection_pair
from meshcore.transport.target import Accepted
from tests.peers import frames

UPSTREAM = ("10.0.0.2", 80)
REQUESTS = 50
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100
# 200, content-length: 100
OK_BLOCK = b"\x88\x0f\x0d\x03100"
STATIC = b"\x82\x86\x84\x01\x06a.test"
STATIC_POST = b"\x83" + STATIC[1:]


class Spawned(trio.abc.Instrument):
    """Counts tasks."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def task_spawned(self, task: object) -> None:
        self.counts["tasks"] += 1


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts what is made while the block runs."""
    counts: Counter[str] = Counter()

    def count(kind: type, name: str) -> None:
        original = kind.__init__  # type: ignore[misc]

        def init(self: object, *args: object, **kwargs: object) -> None:
            counts[name] += 1
            original(self, *args, **kwargs)

        patch.setattr(kind, "__init__", init)

    instrument = Spawned(counts)
    with monkeypatch.context() as patch:
        count(trio.CancelScope, "scopes")
        count(trio.Nursery, "nurseries")
        count(trio._channel.MemoryChannelState, "channels")
        trio.lowlevel.add_instrument(instrument)
        try:
            yield counts
        finally:
            trio.lowlevel.remove_instrument(instrument)


async def http1_origin(stream: MemoryStream) -> None:
    """Answers every request head; one task, nothing made per request."""
    data = b""
    while chunk := await stream.receive_some(65_536):
        data += chunk
        while (end := data.find(b"\r\n\r\n")) >= 0:
            data = data[end + 4 :]
            await stream.send_all(OK)


async def http2_origin(stream: MemoryStream) -> None:
    """The same for HTTP/2."""
    data = b""
    greeted = False
    await stream.send_all(frames.settings((3, 1_000)))
    while chunk := await stream.receive_some(65_536):
        data += chunk
        if not greeted:
            if len(data) < len(frames.PREFACE):
                continue
            data = data[len(frames.PREFACE) :]
            greeted = True
        out = b""
        while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3], "big")):
            kind, flags, number = data[3], data[4], int.from_bytes(data[5:9], "big")
            data = data[size:]
            if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM:
                out += frames.frame(frames.HEADERS, frames.END_HEADERS, number, OK_BLOCK)
                out += frames.frame(frames.DATA, frames.END_STREAM, number, b"x" * 100)
            elif kind == frames.SETTINGS and not flags & frames.ACK:
                out += frames.frame(frames.SETTINGS, frames.ACK, 0)
        if out:
            await stream.send_all(out)


async def ask_http1(stream: MemoryStream, requests: int) -> None:
    """One after the other on one connection."""
    for _ in range(requests):
        await stream.send_all(GET)
        data = b""
        while not data.endswith(b"x" * 100):
            chunk = await stream.receive_some()
            assert chunk, data
            data += chunk
        assert data.startswith(b"HTTP/1.1 200")


@attrs.define
class Http2Client:
    """Asks so many at a time on one connection."""

    stream: MemoryStream
    number: int = 1
    data: bytes = b""

    async def start(self) -> None:
        await self.stream.send_all(frames.PREFACE + frames.settings() + frames.window_update(0, 1 << 30))

    async def ask(self, requests: int, at_once: int) -> None:
        for _ in range(requests // at_once):
            out = b""
            for _ in range(at_once):
                flags = frames.END_HEADERS | frames.END_STREAM
                out += frames.frame(frames.HEADERS, flags, self.number, STATIC)
                self.number += 2
            await self.stream.send_all(out)
            await self._answers(at_once)

    async def call(self, calls: int, at_once: int) -> None:
        """With small bodies: all the heads of a round first, then all the bodies, as libnghttp2 sends them."""
        for _ in range(calls // at_once):
            numbers = range(self.number, self.number + 2 * at_once, 2)
            self.number += 2 * at_once
            heads = (frames.frame(frames.HEADERS, frames.END_HEADERS, number, STATIC_POST) for number in numbers)
            bodies = (frames.frame(frames.DATA, frames.END_STREAM, number, b"x" * 37) for number in numbers)
            await self.stream.send_all(b"".join([*heads, *bodies]))
            await self._answers(at_once)

    async def _answers(self, left: int) -> None:
        while left:
            while len(self.data) < 9 or len(self.data) < (size := 9 + int.from_bytes(self.data[:3], "big")):
                chunk = await self.stream.receive_some()
                assert chunk, "closed"
                self.data += chunk
            kind, flags = self.data[3], self.data[4]
            assert kind not in (frames.RST_STREAM, frames.GOAWAY)
            self.data = self.data[size:]
            left -= kind in (frames.DATA, frames.HEADERS) and bool(flags & frames.END_STREAM)


@asynccontextmanager
async def serving(
    scheme: str, origin: Callable[[MemoryStream], object], engine: str, ledger: Ledger | None = None
) -> AsyncIterator[MemoryStream]:
    """The gateway in memory; the client's end of a connection that it serves."""
    network = MemoryNetwork()
    listener = network.listen(UPSTREAM)
    forced = "pure" if engine == "pure" else "auto"
    config = proxy_config(["127.0.0.1:0"], [f"{scheme}://10.0.0.2:80"], admin="off", engine=forced)
    pipeline = gateway(config, registry=Registry())
    new_accept = (pipeline if ledger is None else accounted(pipeline, ledger)).layer(network.connect)
    client, server = memory_connection_pair()

    async def accept(nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(origin, await listener.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        service = new_accept.new_service(Accepted("test", server.local, server.peer), nursery)
        nursery.start_soon(service, server)
        stream = client.stream
        assert isinstance(stream, MemoryStream)
        yield stream
        nursery.cancel_scope.cancel()


def per_request(counts: Counter[str]) -> dict[str, float]:
    return {name: counts[name] / REQUESTS for name in ("tasks", "scopes", "nurseries", "channels")}


NOTHING = {"tasks": 0, "scopes": 0, "nurseries": 0, "channels": 0}


async def test_an_http1_request_makes_no_task_scope_nursery_or_channel(
    monkeypatch: pytest.MonkeyPatch, engine: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving("http1", http1_origin, engine) as stream:
        await ask_http1(stream, 10)
        with counted(monkeypatch) as counts:
            await ask_http1(stream, REQUESTS)
    assert per_request(counts) == NOTHING


@pytest.mark.parametrize("at_once", [1, 10])
async def test_an_http2_request_makes_no_task_scope_nursery_or_channel(
    monkeypatch: pytest.MonkeyPatch, engine: str, autojump_clock: trio.testing.MockClock, at_once: int
) -> None:
    async with serving("h2c", http2_origin, engine) as stream:
        client = Http2Client(stream)
        await client.start()
        await client.ask(10 * at_once, at_once)
        with counted(monkeypatch) as counts:
            await client.ask(REQUESTS, at_once)
    assert per_request(counts) == NOTHING


@pytest.mark.parametrize("at_once", [1, 100])
async def test_a_call_whose_body_has_come_makes_no_task_scope_nursery_or_channel(
    monkeypatch: pytest.MonkeyPatch, engine: str, autojump_clock: trio.testing.MockClock, at_once: int
) -> None:
    async with serving("h2c", http2_origin, engine) as stream:
        client = Http2Client(stream)
        await client.start()
        await client.call(10 * at_once, at_once)
        with counted(monkeypatch) as counts:
            await client.call(2 * REQUESTS, at_once)
    assert per_request(counts) == NOTHING


async def test_translation_makes_no_task_scope_nursery_or_channel_either(
    monkeypatch: pytest.MonkeyPatch, engine: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving("h2c", http2_origin, engine) as stream:
        await ask_http1(stream, 10)
        with counted(monkeypatch) as counts:
            await ask_http1(stream, REQUESTS)
    assert per_request(counts) == NOTHING


ALL, NONE = 1e-9, 1e9
"""Seconds between two requests whose layers are accounted: all of them, or next to none."""


@pytest.mark.parametrize("every", [ALL, NONE])
@pytest.mark.parametrize("scheme", ["http1", "h2c"])
async def test_the_accounting_of_layers_makes_no_task_scope_nursery_or_channel(
    monkeypatch: pytest.MonkeyPatch, engine: str, autojump_clock: trio.testing.MockClock, every: float, scheme: str
) -> None:
    origin = http1_origin if scheme == "http1" else http2_origin
    async with serving(scheme, origin, engine, Ledger(every=every)) as stream:
        await ask_http1(stream, 200)
        with counted(monkeypatch) as counts:
            await ask_http1(stream, REQUESTS)
    assert per_request(counts) == NOTHING


@pytest.mark.skipif(is_compiled(), reason="what is compiled has no frames")
async def test_a_request_that_is_not_measured_costs_one_look_for_each_layer_that_is_there(
    engine: str, autojump_clock: trio.testing.MockClock
) -> None:
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "/meshcore/accounting/" in frame.f_code.co_filename:
            calls[frame.f_code.co_name] += 1

    ledger = Ledger(every=NONE)
    async with serving("http1", http1_origin, engine, ledger) as stream:
        # What a quiet time had saved up is used up, and the next one to be measured is far away.
        await ask_http1(stream, 400)
        sys.setprofile(count)
        try:
            await ask_http1(stream, REQUESTS)
        finally:
            sys.setprofile(None)
    asked = [each.place for each in ledger.accounts() if each.protocol == "http" and each.created]
    # Those that connect are asked once for all requests.
    assert asked[:6] == ["server_metrics", "rescue", "retry", "balance", "endpoint_metrics", "http"]
    assert (6 * REQUESTS, 0) == (calls["take"], calls["_request"])
