"""``/tap``: a stream of events, in lines of JSON or server-sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.admin.tap import TapPage
from meshcore.http.body import Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.tap import Tap, TapHub
from meshcore.testing import MockNewService, request, response
from meshcore.transport.target import Accepted


class World:
    def __init__(self, **options: Any) -> None:
        self.hub = TapHub(**options)
        self.page = TapPage(lambda: self.hub)

        async def inner(sent: Request) -> Response:
            return response(404 if sent.path == b"/missing" else 200, b"hello")

        nursery: Any = None
        self.service = Tap(self.hub).layer(MockNewService(lambda target: inner)).new_service(Accepted(), nursery)

    async def open(self, query: str = "", method: bytes = b"GET", **fields: str) -> Response:
        headers = Headers([(name.encode(), value.encode()) for name, value in fields.items()])
        return await self.page(Request(method, b"http", b"x", f"/tap?{query}".encode(), headers))

    async def pass_by(self, path: bytes = b"/") -> None:
        await read_all((await self.service(request(path=path))).body)


def parsed(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


async def test_events_come_as_lines_of_json_as_they_happen(autojump_clock: MockClock) -> None:
    world = World()
    stream = await world.open()
    assert (200, b"application/x-ndjson", b"no-store") == (
        stream.status, stream.headers.get(b"content-type"), stream.headers.get(b"cache-control")
    )  # fmt: skip
    with pytest.raises(trio.WouldBlock):
        stream.body.receive_nowait()
    await world.pass_by()
    data = await stream.body.receive_some()
    assert data.endswith(b"\n")
    assert ["request_init", "response_init", "response_end"] == [event["event"] for event in parsed(data)]
    await world.pass_by()
    assert [2, 2, 2] == [event["id"] for event in parsed(await stream.body.receive_some())]
    stream.body.abort()
    assert not world.hub.wanted


async def test_a_browser_gets_server_sent_events_and_a_sign_of_life(autojump_clock: MockClock) -> None:
    world = World()
    stream = await world.open("limit=1", accept="text/event-stream")
    assert b"text/event-stream" == stream.headers.get(b"content-type")
    begun = trio.current_time()
    assert b": alive\n\n" == await stream.body.receive_some()
    assert 15.0 == trio.current_time() - begun
    await world.pass_by()
    *events, end = (await stream.body.receive_some()).decode().split("\n\n")[:-1]
    assert ["id: 1", "event: request_init"] == events[0].splitlines()[:2]
    assert "request_init" == json.loads(events[0].splitlines()[2].removeprefix("data: "))["event"]
    assert "event: end\ndata: {}" == end
    assert stream.body.is_end_stream
    assert b"" == await stream.body.receive_some()


async def test_a_stream_ends_after_its_seconds_with_what_was_there(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    world = World()
    stream = await world.open("seconds=5&events=response_end")
    begun = trio.current_time()
    await world.pass_by()
    data = await read_all(stream.body)
    assert (5.0, ["response_end"]) == (trio.current_time() - begun, [event["event"] for event in parsed(data)])
    assert not world.hub.wanted


async def test_a_stream_ends_with_the_proxy(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    world = World()
    stream = await world.open()
    nursery.start_soon(trio.sleep, 1)

    async def stop() -> None:
        await trio.sleep(1)
        world.hub.close()

    nursery.start_soon(stop)
    assert b"" == await read_all(stream.body)
    assert 503 == (await world.open()).status


async def test_what_was_dropped_is_told_in_the_stream(autojump_clock: MockClock) -> None:
    world = World()
    stream = await world.open("rate=3&seconds=10")
    for _ in range(5):
        await world.pass_by()
    events = parsed(await read_all(stream.body))
    assert {"event": "dropped", "requests": 4, "events": 0} == events[-1]
    assert 4 == len(events)


async def test_a_wrong_question_is_answered_with_every_mistake() -> None:
    refused = await World().open("metod=GET&from=10.0.0.1/8")
    assert 400 == refused.status
    assert (
        b"metod: there is no such parameter; did you mean 'method'?\n"
        b"from: '10.0.0.1/8' is no address or network; did you mean '10.0.0.0/8'?\n"
    ) == await read_all(refused.body)


async def test_too_many_streams_are_refused_for_a_while() -> None:
    world = World(most=1)
    await world.open()
    refused = await world.open()
    assert (503, b"5") == (refused.status, refused.headers.get(b"retry-after"))


async def test_head_tells_what_it_would_be_and_looks_at_nothing() -> None:
    world = World()
    answer = await world.open(method=b"HEAD")
    assert (200, b"application/x-ndjson") == (answer.status, answer.headers.get(b"content-type"))
    assert not world.hub.wanted


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE"])
async def test_nothing_else_is_done_with_it(method: bytes) -> None:
    assert 405 == (await World().open(method=method)).status


async def test_a_page_of_events_is_bounded(autojump_clock: MockClock) -> None:
    world = World()
    stream = await world.open("events=response_end&rate=1000")
    for _ in range(100):
        await world.pass_by()
    assert [64, 36] == [len(parsed(await stream.body.receive_some())) for _ in range(2)]


async def test_a_body_that_is_given_up_says_so_again() -> None:
    stream = await World().open()
    stream.body.abort()
    with pytest.raises(Exception, match="abandoned"):
        stream.body.receive_nowait()


def test_the_body_of_a_stream_has_no_size() -> None:
    assert Full(b"x").size_hint == 1
