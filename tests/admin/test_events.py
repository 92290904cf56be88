"""``/events``: one sampling for everybody, only while somebody looks, and nobody who can hold the others up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.admin.events import MOST, Events
from meshcore.http.body import Body
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.metrics.feed import Feed
from meshcore.testing import MemoryMesh, request


class Sampled:
    """What is sampled, and how often."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []
        self.error: Exception | None = None

    async def __call__(self, window: int) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), window))
        if self.error is not None:
            raise self.error
        return {"time": trio.current_time(), "proxy": {"name": "orders"}, "number": len(self.asked)}


class Watched:
    """Events, and what they stand on."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.stats = Sampled()
        self.feed = Feed(trio.current_time)
        self.events = Events(self.stats, self.feed, about=lambda: {"expires": 5.0})
        nursery.start_soon(self.events.run)

    async def ask(self, after: bytes | None = None, method: bytes = b"GET") -> Response:
        fields = [] if after is None else [(b"last-event-id", after)]
        return await self.events(Request(method, b"http", b"localhost", b"/events", Headers(fields)))

    async def view(self, after: bytes | None = None) -> Viewer:
        response = await self.ask(after)
        assert 200 == response.status
        return Viewer(response.body)


class Viewer:
    """Reads a stream of events, one after the other."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self._rest = b""

    def read(self) -> list[tuple[str, Any]]:
        """Everything that is there: kinds and values; comments are ``("", text)``."""
        found = b""
        try:
            while chunk := self.body.receive_nowait():
                found += chunk
        except trio.WouldBlock:
            pass
        return list(parsed(found.decode("ascii")))


def parsed(text: str) -> Iterator[tuple[str, Any]]:
    assert text == "" or text.endswith("\n\n")
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.partition(":")[::2] for line in block.split("\n"))
        fields = {name: value.strip() for name, value in fields.items()}
        if "data" not in fields:
            yield "", block
            continue
        value = json.loads(fields["data"])
        if "id" in fields:
            assert int(fields["id"]) == value["number"]
        yield fields["event"], value


@pytest.fixture
async def watched(nursery: trio.Nursery) -> Watched:
    return Watched(nursery)


async def test_nobody_is_sampled_for_until_somebody_looks_and_after_they_have_gone(
    watched: Watched, autojump_clock: MockClock
) -> None:
    await trio.sleep(100)
    assert [] == watched.stats.asked
    assert [] == watched.feed._listeners

    viewer = await watched.view()
    await trio.sleep(2.5)
    assert [100.0, 101.0, 102.0] == [at for at, _ in watched.stats.asked]

    viewer.body.abort()
    await trio.sleep(100)
    assert 3 == len(watched.stats.asked)
    assert [] == watched.feed._listeners
    assert "0 viewers" in repr(watched.events)

    # And for the next one again.
    await watched.view()
    await trio.sleep(0.5)
    assert 4 == len(watched.stats.asked)


async def test_many_viewers_cost_one_sampling_a_second_and_one_encoding(
    watched: Watched, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[object] = []
    dumps = json.dumps

    def noted(value: object, **options: Any) -> str:
        encoded.append(value)
        return dumps(value, **options)

    monkeypatch.setattr(json, "dumps", noted)
    viewers = [await watched.view() for _ in range(20)]
    watched.feed.tell("proxy_ready", "ready")
    await trio.sleep(4.5)

    assert 5 == len(watched.stats.asked) == watched.events.statistics().samples
    seen = [viewer.read() for viewer in viewers]
    assert all(each == seen[0] for each in seen)
    # Five samples of three parts, one happening.
    assert 16 == len(encoded)


async def test_samples_come_once_a_second_and_happenings_at_once(watched: Watched, autojump_clock: MockClock) -> None:
    viewer = await watched.view()
    await trio.sleep(0.5)
    sample = {"time": 0.0, "proxy": {"name": "orders", "expires": 5.0}, "number": 1}
    assert [("", "retry: 2000"), ("sample", sample)] == viewer.read()

    watched.feed.tell("breaker_tripped", "a\r\nb\u2028 <script>", endpoint="10.0.0.1:80")
    told = {
        "number": 1,
        "time": 0.5,
        "kind": "breaker_tripped",
        "text": "a\r\nb\u2028 <script>",
        "fields": {"endpoint": "10.0.0.1:80"},
    }
    assert [("happening", told)] == viewer.read()
    assert [] == viewer.read()

    await trio.sleep(1)
    assert [("sample", 2)] == [(kind, value["number"]) for kind, value in viewer.read()]


async def test_a_reader_that_waits_is_woken_by_what_happens(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    viewer = await watched.view()
    await trio.sleep(0.5)
    viewer.read()
    got: list[tuple[float, bytes]] = []

    async def read() -> None:
        got.append((trio.current_time(), await viewer.body.receive_some()))

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    watched.feed.tell("proxy_ready", "ready")
    await wait_all_tasks_blocked()

    assert [(0.5, True)] == [(at, data.startswith(b"id: 1\nevent: happening\n")) for at, data in got]


async def test_who_comes_again_gets_what_has_happened_meanwhile_and_nothing_twice(
    watched: Watched, autojump_clock: MockClock
) -> None:
    for number in range(5):
        watched.feed.tell("proxy_ready", str(number + 1))

    def numbers(viewer: Viewer) -> list[int]:
        return [value["number"] for kind, value in viewer.read() if kind == "happening"]

    assert [1, 2, 3, 4, 5] == numbers(await watched.view())
    assert [4, 5] == numbers(await watched.view(b"3"))
    assert [] == numbers(await watched.view(b"5"))
    # Of another process, or of nobody.
    for given in (b"6", b"150", b"-1", b"x", b"\xb2", b"9" * 5_000):
        assert [1, 2, 3, 4, 5] == numbers(await watched.view(given))


async def test_many_happenings_come_in_pieces_and_all_of_them(watched: Watched, autojump_clock: MockClock) -> None:
    viewer = await watched.view()
    for number in range(199):
        watched.feed.tell("endpoint_added", str(number + 1))

    first = viewer.body.receive_nowait()
    assert 20 == first.count(b"event: happening")
    rest = viewer.read()
    assert list(range(21, 200)) == [value["number"] for kind, value in rest if kind == "happening"]


async def test_a_sample_has_the_busiest_rows_and_counts_the_others(
    watched: Watched, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"route": str(number), "rps": float(number % 977)} for number in range(500)]
    value = {"proxy": {}, "routes": rows, "edges": rows[:100], "more": {"routes": 7, "edges": 3}}

    async def stats(window: int) -> dict[str, Any]:
        return value

    monkeypatch.setattr(watched.events, "_stats", stats)
    viewer = await watched.view()
    await trio.sleep(0.5)

    (sample,) = [value for kind, value in viewer.read() if kind == "sample"]
    assert ["499", "498", "497"] == [row["route"] for row in sample["routes"]][:3]
    assert (100, 100, {"routes": 407, "edges": 3}) == (len(sample["routes"]), len(sample["edges"]), sample["more"])
    # What the sampler keeps is not changed.
    assert 500 == len(rows)


async def test_a_slow_viewer_skips_samples_and_holds_nothing_but_the_latest(
    watched: Watched, autojump_clock: MockClock
) -> None:
    viewer = await watched.view()
    await trio.sleep(20.5)

    assert [21] == [value["number"] for kind, value in viewer.read() if kind == "sample"]


async def test_a_viewer_that_reads_nothing_is_dropped_and_the_others_stay(
    watched: Watched, autojump_clock: MockClock
) -> None:
    stuck, other = await watched.view(), await watched.view()
    for _ in range(40):
        await trio.sleep(1)
        other.read()

    assert (1, 1) == (watched.events.statistics().viewers, watched.events.statistics().dropped)
    with pytest.raises(Exception, match="abandoned"):
        stuck.body.receive_nowait()
    assert None is other.body.end


async def test_a_comment_says_every_quarter_of_a_minute_that_the_stream_is_alive(
    watched: Watched, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    watched.stats.error = ValueError("no statistics today")
    viewer = await watched.view()
    await trio.sleep(15.5)
    assert [("", "retry: 2000"), ("", ": alive")] == viewer.read()
    await trio.sleep(15)
    assert [("", ": alive")] == viewer.read()
    # Said once, however often.
    assert 1 == caplog.text.count("crash in a sample: ValueError: no statistics today")
    watched.stats.error = None
    await trio.sleep(1)
    assert ["sample"] == [kind for kind, _ in viewer.read()]


async def test_one_viewer_too_many_is_turned_away_until_another_has_gone(
    watched: Watched, autojump_clock: MockClock
) -> None:
    viewers = [await watched.view() for _ in range(MOST)]

    refused = await watched.ask()
    assert (503, b"5") == (refused.status, refused.headers.get(b"retry-after"))
    assert 1 == watched.events.statistics().refused

    viewers[0].body.abort()
    await watched.view()


async def test_head_is_answered_without_a_place_and_nothing_is_posted(
    watched: Watched, autojump_clock: MockClock
) -> None:
    head = await watched.ask(method=b"HEAD")
    assert (200, b"text/event-stream; charset=utf-8") == (head.status, head.headers.get(b"content-type"))
    assert head.body.end is not None
    assert 405 == (await watched.ask(method=b"POST")).status
    assert 0 == watched.events.statistics().viewers


async def test_at_the_end_each_viewer_is_told_all_that_has_happened_and_then_goodbye(
    watched: Watched, autojump_clock: MockClock
) -> None:
    viewer = await watched.view()
    for number in range(50):
        watched.feed.tell("endpoint_removed", str(number))

    watched.events.end()

    kinds = [kind for kind, _ in viewer.read()]
    assert (50, "end") == (kinds.count("happening"), kinds[-1])
    assert viewer.body.end is not None
    assert None is viewer.body.end.error
    assert 503 == (await watched.ask()).status


async def test_it_is_an_ordinary_response_on_a_connection_whose_client_may_leave(
    watched: Watched, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("proxy", 4191), watched.events)
    response = await mesh.client(("proxy", 4191))(request(path=b"/events"))

    assert b"retry: 2000" in await response.body.receive_some()
    await trio.sleep(1.5)
    assert b"event: sample" in await response.body.receive_some()
    assert 1 == watched.events.statistics().viewers

    response.body.abort()
    await trio.sleep(3)
    assert 0 == watched.events.statistics().viewers


async def test_a_draining_proxy_says_so_and_ends_the_stream_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    proxy = await mesh.start(
        """
        [listen.public]
        bind = "gateway:80"
        to = [{ backend = "blue" }]
        [backend.blue]
        endpoints = ["blue:80"]
        [admin]
        listen = "127.0.0.1:4191"
        """
    )
    response = await mesh.client(("127.0.0.1", 4191))(request(path=b"/events", authority=b"localhost"))
    first = await response.body.receive_some()
    assert b'"kind":"proxy_ready"' in first

    before = trio.current_time()
    proxy.drain.start("SIGTERM")
    rest = b""
    while chunk := await response.body.receive_some():
        rest += chunk

    assert b'"text":"drain started: SIGTERM"' in rest
    assert rest.index(b"drain_started") < rest.index(b"drain_ended") < rest.index(b"event: end")
    assert trio.current_time() - before < 1


async def test_a_web_page_from_elsewhere_is_no_viewer(watched: Watched) -> None:
    for site, status in ((b"cross-site", 403), (b"same-origin", 200)):
        fields = Headers([(b"sec-fetch-site", site)])
        response = await watched.events(Request(b"GET", b"http", b"localhost", b"/events", fields))
        assert status == response.status

    assert 1 == watched.events.statistics().viewers
