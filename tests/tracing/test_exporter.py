"""The exporter: batches, a bounded queue, tries again, and an end that does not take long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Request, Response
from meshcore.errors import ConnectError
from meshcore.grpc.protobuf import nested, number, text
from meshcore.metrics import Registry
from meshcore.testing import response
from meshcore.tracing.exporter import LAST_WORDS, PATIENCE, Exporter
from meshcore.tracing.exporter import Collector as To
from meshcore.tracing.propagation import Link
from meshcore.tracing.span import SERVER, Span
from tests.tracing.collector import Collector


class Bench:
    """An exporter, a collector, and what was counted."""

    def __init__(
        self, nursery: trio.Nursery, service: Callable[[Request], Awaitable[Response]] | None = None, **settings: Any
    ) -> None:
        self.registry = Registry()
        self.collector = Collector()
        self.nursery = nursery
        self.times: list[float] = []
        self.exporter = Exporter(
            self.to(service, **settings), self.registry, lambda: trio.current_time() + 1e9, rng=random.Random(1)
        )

    def to(self, service: Callable[[Request], Awaitable[Response]] | None = None, **settings: Any) -> To:
        async def noting(request: Request) -> Response:
            self.times.append(trio.current_time())
            return await (service or self.collector)(request)

        url = settings.pop("url", "http://collector:4318")
        return To(url=url, authority=b"collector:4318", connect=lambda nursery: noting, **settings)

    def start(self) -> None:
        self.nursery.start_soon(self.exporter.run)

    def put(self, count: int = 1) -> Span:
        for index in range(count):
            span = Span(Link(b"1" * 32, b"", True, 1), b"%016x" % (index + 1), SERVER, "GET", trio.current_time())
            span.attributes = [("direction", "inbound")]
            span.ended = trio.current_time()
            self.exporter.ended(span)
        return span

    def counts(self) -> dict[str, float]:
        found = {}
        for line in self.registry.render().splitlines():
            if not line.startswith("#") and not line.endswith(" 0"):
                name, _, value = line.rpartition(" ")
                name = name.removeprefix("otlp_spans_dropped_total{reason=").removesuffix("}").strip('"')
                found[name] = float(value)
        return found


def exported(spans: int, requests: int, **dropped: float) -> dict[str, float]:
    """What is counted."""
    found = {"opentelemetry_span_exports_total": spans, "otlp_spans_exported_total": spans}
    found["opentelemetry_span_export_requests_total"] = requests
    return {name: float(count) for name, count in {**found, **dropped}.items() if count}


@pytest.mark.parity("M-09", "M-18")
async def test_spans_go_when_a_batch_is_full_or_the_interval_is_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, batch=3, interval=5.0)
    bench.start()
    bench.put(7)
    await trio.sleep(1)
    assert [3, 3] == bench.collector.batches
    await trio.sleep(10)
    assert ([3, 3, 1], [0.0, 0.0, 5.0]) == (bench.collector.batches, bench.times)
    assert exported(7, 3) == bench.counts()
    assert 1e18 == bench.collector.spans[0].raw.start_time_unix_nano
    nursery.cancel_scope.cancel()


async def test_what_the_queue_cannot_hold_is_dropped_and_counted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, batch=2, queue=5)
    bench.put(9)
    assert {"queue_full": 4} == bench.counts()
    bench.start()
    await trio.sleep(10)
    assert exported(5, 3, queue_full=4) == bench.counts()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_collector_that_asks_for_later_is_asked_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, status: int
) -> None:
    bench = Bench(nursery, interval=1.0)
    answers = [response(status, headers=[(b"retry-after", b"7")]), response(status), response()]
    bench.collector.answer = lambda: answers.pop(0)
    bench.start()
    bench.put(2)
    await trio.sleep(30)
    assert exported(2, 3) == bench.counts()
    first, second, third = bench.times
    assert (1.0, 8.0) == (first, second)
    assert 10.0 <= third <= 11.0
    nursery.cancel_scope.cancel()


async def test_a_collector_that_asks_for_more_time_than_a_batch_has_is_left_alone_for_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    answers = [response(429, headers=[(b"retry-after", b"200")]), response()]
    bench.collector.answer = lambda: answers.pop(0)
    bench.start()
    bench.put(2)
    await trio.sleep(2)
    bench.put(3)
    await trio.sleep(300)
    assert exported(3, 2, unavailable=2) == bench.counts()
    assert [1.0, 202.0] == bench.times
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_whatever_says_that_spans_were_taken_is_believed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, status: int
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.collector.answer = lambda: response(status)
    bench.start()
    bench.put(2)
    await trio.sleep(5)
    assert exported(2, 1) == bench.counts()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [400, 401, 404, 500, 301])
async def test_what_a_collector_refuses_is_not_sent_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.collector.answer = lambda: response(status)
    bench.start()
    bench.put(2)
    await trio.sleep(30)
    bench.put(1)
    await trio.sleep(30)
    assert exported(0, 2, refused=3) == bench.counts()
    assert 1 == len([record for record in caplog.records if f"answered {status}" in record.getMessage()])
    nursery.cancel_scope.cancel()


async def test_spans_that_a_collector_leaves_out_are_counted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.collector.answer = lambda: response(200, nested(1, number(1, 2) + text(2, "too old")))
    bench.start()
    bench.put(5)
    await trio.sleep(5)
    assert exported(3, 1, refused=2) == bench.counts()
    bench.collector.answer = lambda: response(200, b"not a message")
    bench.put(1)
    await trio.sleep(5)
    assert exported(4, 2, refused=2) == bench.counts()
    nursery.cancel_scope.cancel()


async def test_a_batch_is_given_up_after_a_minute(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def refusing(request: Request) -> Response:
        raise ConnectError("endpoint collector:4318: connection refused")

    bench = Bench(nursery, service=refusing, interval=1.0)
    bench.start()
    bench.put(2)
    await trio.sleep(PATIENCE + 40)
    assert {"unavailable": 2} == {name: count for name, count in bench.counts().items() if "requests" not in name}
    assert 4 <= len(bench.times) <= 8
    nursery.cancel_scope.cancel()


async def test_an_answer_that_does_not_come_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0, timeout=2.0)
    waits = [trio.sleep_forever, response]
    bench.collector.answer = lambda: waits.pop(0)()  # type: ignore[return-value]
    bench.start()
    bench.put(1)
    await trio.sleep(20)
    assert exported(1, 2) == bench.counts()
    nursery.cancel_scope.cancel()


async def test_an_answer_without_an_end_is_not_read_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    answers = [response(200, b"x" * 70_000), response()]
    bench.collector.answer = lambda: answers.pop(0)
    bench.start()
    bench.put(1)
    await trio.sleep(20)
    assert exported(1, 2) == bench.counts()
    nursery.cancel_scope.cancel()


async def test_at_the_end_what_waits_is_sent_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, batch=2, interval=60.0)
    async with trio.open_nursery() as inner:
        inner.start_soon(bench.exporter.run)
        await trio.sleep(1)
        bench.put(1)
        bench.exporter.end()
        bench.put(4)
    assert (1.0, exported(5, 3)) == (trio.current_time(), bench.counts())
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["silent", "down"])
async def test_the_end_is_not_waited_for_long(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    bench = Bench(nursery, batch=2, interval=1.0)
    bench.collector.answer = trio.sleep_forever if how == "silent" else lambda: response(503)  # type: ignore[assignment]
    async with trio.open_nursery() as inner:
        inner.start_soon(bench.exporter.run)
        bench.put(9)
        await trio.sleep(0.5)
        bench.exporter.end()
    assert trio.current_time() <= 0.5 + LAST_WORDS
    assert 9 == bench.counts()["shutdown"]
    nursery.cancel_scope.cancel()


async def test_a_cancelled_exporter_counts_what_it_leaves(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, batch=2, interval=60.0)
    bench.collector.answer = trio.sleep_forever  # type: ignore[assignment]
    async with trio.open_nursery() as inner:
        inner.start_soon(bench.exporter.run)
        bench.put(5)
        await trio.sleep(0.5)
        inner.cancel_scope.cancel()
    assert 5 == bench.counts()["shutdown"]
    nursery.cancel_scope.cancel()


async def test_another_collector_gets_the_next_batch_and_the_last_one_what_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.start()
    bench.put(1)
    await trio.sleep(2)
    other = Collector()
    bench.exporter.use(bench.to(other, url="http://other:4318", interval=1.0))
    bench.put(2)
    await trio.sleep(2)
    assert ([1], [2]) == (bench.collector.batches, other.batches)
    bench.put(4)
    bench.exporter.use(None)
    bench.put(1)
    await trio.sleep(2)
    assert exported(7, 3, shutdown=1) == bench.counts()
    bench.exporter.use(bench.to(other, interval=1.0))
    bench.put(1)
    await trio.sleep(2)
    assert [2, 4, 1] == other.batches
    bench.exporter.end()
    nursery.cancel_scope.cancel()


async def test_another_collector_gets_what_the_one_before_has_not_taken_and_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.collector.answer = lambda: response(503, headers=[(b"retry-after", b"50")])
    bench.start()
    bench.put(2)
    await trio.sleep(5)
    bench.put(1)
    other = Collector()
    bench.exporter.use(bench.to(other, url="http://other:4318", interval=1.0))
    await trio.sleep(2)
    assert [3] == other.batches
    assert exported(3, 2) == bench.counts()
    nursery.cancel_scope.cancel()


async def test_at_the_end_what_was_to_be_tried_again_is_tried_once_more(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    answers = [response(503), response(503), response(503), response(503), response()]
    bench.collector.answer = lambda: answers.pop(0)
    async with trio.open_nursery() as inner:
        inner.start_soon(bench.exporter.run)
        bench.put(2)
        while len(bench.times) < 4:
            await trio.sleep(0.1)
        bench.exporter.end()
    assert exported(2, 5) == bench.counts()
    nursery.cancel_scope.cancel()


async def test_a_crash_ends_neither_the_exporter_nor_the_proxy(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(nursery, interval=1.0)

    def crash() -> Response:
        raise KeyError("a bug")

    bench.collector.answer = crash
    bench.start()
    bench.put(1)
    await trio.sleep(5)
    bench.collector.answer = response
    bench.put(2)
    await trio.sleep(60)
    assert exported(2, 2, unavailable=1) == bench.counts()
    assert any("crash while sending spans" in record.getMessage() for record in caplog.records)
    nursery.cancel_scope.cancel()


async def test_gzip_and_the_fields_that_are_told(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    settings = {"compressed": True, "headers": ((b"authorization", b"Bearer secret"),), "version": "1.2"}
    bench = Bench(nursery, interval=1.0, resource={"service.name": "web"}, **settings)
    bench.start()
    bench.put(100)
    with trio.fail_after(1e6):
        while not bench.collector.spans:
            await trio.sleep(1)
    [seen] = bench.collector.requests
    assert (b"gzip", b"Bearer secret", b"meshcore/1.2") == (
        seen.headers.get(b"content-encoding"),
        seen.headers.get(b"authorization"),
        seen.headers.get(b"user-agent"),
    )
    assert {"web"} == {span.service for span in bench.collector.spans}
    assert "secret" not in repr(bench.exporter)
    nursery.cancel_scope.cancel()


async def test_sixteen_spans_are_written_when_the_last_of_them_ends(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.start()
    written = bench.put(16)
    written.attributes.append(("late", "nobody hears of it"))
    await trio.sleep(5)
    assert [["direction"]] * 16 == [[each.key for each in found.raw.attributes] for found in bench.collector.spans]
    nursery.cancel_scope.cancel()


async def test_a_span_that_cannot_be_written_is_dropped_and_is_told_of_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(nursery, interval=1.0)
    bench.start()
    bench.put()
    for _ in range(2):
        wrong = Span(Link(b"1" * 32, b"", True, 1), b"2" * 16, SERVER, "GET", trio.current_time())
        wrong.attributes = [("an object", object())]  # type: ignore[list-item]
        bench.exporter.ended(wrong)
    await trio.sleep(5)
    assert [["direction"]] == [[each.key for each in found.raw.attributes] for found in bench.collector.spans]
    assert exported(1, 1, invalid=2) == bench.counts()
    # Told once: a layer that does so does it each time.
    assert 1 == sum("a span cannot be written" in record.getMessage() for record in caplog.records)
    nursery.cancel_scope.cancel()


async def test_spans_follow_the_wall_clock_while_there_is_always_something_to_send(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def slow(request: Request) -> Response:
        await trio.sleep(5)
        return await bench.collector(request)

    bench = Bench(nursery, slow, batch=1)
    wall = [1e9]
    bench.exporter._clock = lambda: trio.current_time() + wall[0]
    bench.put(4)
    bench.start()
    await trio.sleep(1)
    wall[0] += 100.0
    await trio.sleep(6)
    bench.put(1)
    await trio.sleep(60)
    *_, fourth, fifth = [span.raw.start_time_unix_nano / 1e9 for span in bench.collector.spans]
    assert (1e9, 1e9 + 107) == pytest.approx((fourth, fifth), abs=1e-6)
    nursery.cancel_scope.cancel()


async def test_spans_keep_their_order_while_the_wall_clock_only_trembles(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench(nursery, interval=1.0)
    wall = [1e9]
    bench.exporter._clock = lambda: trio.current_time() + wall[0]
    bench.start()
    for step in (0.0, -0.01, 100.0):
        wall[0] += step
        bench.put(1)
        await trio.sleep(10)
    first, second, third = [span.raw.start_time_unix_nano for span in bench.collector.spans]
    assert (1e9, 1e9 + 10, 1e9 + 120 - 0.01) == pytest.approx((first / 1e9, second / 1e9, third / 1e9), abs=1e-6)
    nursery.cancel_scope.cancel()
