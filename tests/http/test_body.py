"""What every body does, whichever it is: one set of tests, run on each class."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.codec import h2
from meshcore.codec.events import RequestReceived
from meshcore.codec.h1 import server_codec
from meshcore.errors import BodyAbandoned, ConnectionLost, MeshError, RequestBodyError, StreamReset
from meshcore.http.begun import BegunBody
from meshcore.http.body import Body, Chunks, Empty, EndOfStream, Full, read_all
from meshcore.http.counted import CountedBody
from meshcore.http.overheard import OverheardBody
from meshcore.http.replay import Replay
from meshcore.layers.retry.peek import Peeked
from meshcore.server.request_body import RequestBody
from meshcore.testing import explore_schedules, memory_connection_pair
from meshcore.transport.flow_body import FlowBody
from meshcore.transport.http2 import Http2Link


class Driver:
    """A body and the hand that fills it."""

    def __init__(
        self,
        body: Body,
        push: Callable[[bytes], Awaitable[None]],
        end: Callable[[Any], Awaitable[None]],
        fail: Callable[[], Awaitable[None]],
    ) -> None:
        self.body = body
        self.push = push
        self.end = end
        self.fail = fail


def drive(source: Chunks, body: Body) -> Driver:
    async def push(data: bytes) -> None:
        source.push(data)

    async def end(trailers: Any) -> None:
        source.push_end(trailers)

    async def fail() -> None:
        source.push_error(StreamReset("broke"))

    return Driver(body, push, end, fail)


async def chunks() -> Driver:
    body = Chunks()
    return drive(body, body)


async def counted() -> Driver:
    source = Chunks()
    return drive(source, CountedBody(source))


async def begun() -> Driver:
    source = Chunks()
    return drive(source, BegunBody([], source))


async def overheard() -> Driver:
    source = Chunks()
    return drive(source, OverheardBody(source, 10, lambda data, end: None))


async def replayed() -> Driver:
    source = Chunks()
    replay = Replay(source)
    replay.body()
    body = replay.body()
    replay.commit()
    return drive(source, body)


async def replayable() -> Driver:
    source = Chunks()
    return drive(source, Replay(source).body())


async def peeked() -> Driver:
    # What it is when nothing was there to be taken; what was taken is in test_retry_responses.
    source = Chunks()
    return drive(source, Peeked(source, deque()))


def link() -> Http2Link[Any]:
    return Http2Link(h2.server_codec(), memory_connection_pair()[0])


async def flow() -> Driver:
    body = FlowBody(link(), 1, None)
    return drive(body, body)


async def http1() -> Driver:
    client, server = memory_connection_pair()
    codec = server_codec()
    codec.receive_data(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    assert type(codec.next_event()) is RequestReceived

    async def push(data: bytes) -> None:
        await client.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(trailers: Any) -> None:
        fields = b"".join(b"%b: %b\r\n" % field for field in trailers or ())
        await client.send_all(b"0\r\n%b\r\n" % fields)

    async def fail() -> None:
        client.close()

    return Driver(RequestBody(server, codec, None), push, end, fail)


MAKERS = {
    "Chunks": chunks,
    "CountedBody": counted,
    "BegunBody": begun,
    "OverheardBody": overheard,
    "ReplayBody": replayable,
    "ReplayBody, second and last": replayed,
    "Peeked": peeked,
    "FlowBody": flow,
    "RequestBody": http1,
}


@pytest.fixture(params=MAKERS)
async def driver(request: pytest.FixtureRequest) -> Driver:
    return await MAKERS[request.param]()


async def test_nothing_there_is_would_block(driver: Driver) -> None:
    with pytest.raises(trio.WouldBlock):
        driver.body.receive_nowait()
    assert driver.body.end is None
    assert not driver.body.is_end_stream


async def test_chunks_come_in_order_and_then_the_end_for_ever(driver: Driver) -> None:
    await driver.push(b"one")
    await driver.push(b"two")
    await driver.end(None)

    received = b""
    while chunk := await driver.body.receive_some():
        received += chunk

    assert b"onetwo" == received
    assert EndOfStream([], None) == driver.body.end
    assert b"" == driver.body.receive_nowait() == await driver.body.receive_some()


async def test_a_reader_waits_for_what_comes_later(driver: Driver, nursery: trio.Nursery) -> None:
    received: list[bytes] = []

    async def read() -> None:
        received.append(await driver.body.receive_some())
        received.append(await driver.body.receive_some())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    await driver.push(b"one")
    await wait_all_tasks_blocked()
    assert [b"one"] == received
    await driver.end(None)
    await wait_all_tasks_blocked()
    assert [b"one", b""] == received


async def test_trailers_come_with_the_end(driver: Driver) -> None:
    await driver.push(b"x")
    await driver.end([(b"grpc-status", b"0")])

    assert b"x" == await read_all(driver.body)
    assert EndOfStream([(b"grpc-status", b"0")]) == driver.body.end


async def test_a_body_without_bytes_ends(driver: Driver) -> None:
    await driver.end(None)
    assert b"" == await driver.body.receive_some()
    assert driver.body.is_end_stream


async def test_it_can_be_iterated_over(driver: Driver) -> None:
    await driver.push(b"a")
    await driver.end(None)
    assert [b"a"] == [chunk async for chunk in driver.body]


async def test_a_break_is_the_same_error_again_and_again(driver: Driver) -> None:
    await driver.push(b"x")
    await driver.body.receive_some()
    await driver.fail()

    with pytest.raises(MeshError) as first:
        await driver.body.receive_some()
    for _ in range(2):
        with pytest.raises(MeshError) as again:
            driver.body.receive_nowait()
        assert again.value is first.value
        with pytest.raises(MeshError):
            await driver.body.receive_some()
    assert driver.body.end is not None
    assert driver.body.end.error is first.value
    assert [] == driver.body.end.trailers


async def test_the_end_is_told_once_in_reverse_order_of_registration(driver: Driver) -> None:
    told: list[Any] = []
    for name in ("first", "second"):
        driver.body.on_end(lambda end, name=name: told.append((name, end.error)))  # type: ignore[misc]
    await driver.push(b"x")
    await driver.body.receive_some()
    await driver.end(None)
    assert b"" == await driver.body.receive_some()
    driver.body.abort()

    assert [("second", None), ("first", None)] == told
    driver.body.on_end(lambda end: told.append(("late", end.error)))
    assert ("late", None) == told[-1]


async def test_the_first_chunk_is_told_once(driver: Driver) -> None:
    told: list[str] = []
    driver.body.on_first_data(lambda: told.append("outer"))
    driver.body.on_first_data(lambda: told.append("inner"))
    await driver.push(b"x")
    assert [] == told
    await driver.body.receive_some()
    assert ["inner", "outer"] == told
    await driver.push(b"y")
    await driver.end(None)
    await read_all(driver.body)
    driver.body.on_first_data(lambda: told.append("late"))
    assert ["inner", "outer", "late"] == told


async def test_the_end_of_a_body_without_bytes_is_its_first_data_and_before_its_end(driver: Driver) -> None:
    told: list[str] = []
    driver.body.on_end(lambda end: told.append("end"))
    driver.body.on_first_data(lambda: told.append("first data"))
    await driver.end(None)
    await driver.body.receive_some()
    assert ["first data", "end"] == told


async def test_an_abort_is_synchronous_told_once_and_idempotent(driver: Driver) -> None:
    told: list[Any] = []
    driver.body.on_end(lambda end: told.append(end))
    driver.body.on_first_data(lambda: told.append("first data"))
    await driver.push(b"x")

    error = StreamReset("enough")
    driver.body.abort(error)
    driver.body.abort(StreamReset("again"))

    assert ["first data", EndOfStream([], error)] == told
    with pytest.raises(StreamReset, match="enough"):
        driver.body.receive_nowait()
    with pytest.raises(StreamReset, match="enough"):
        await driver.body.receive_some()


async def test_an_abort_without_a_reason_is_nobodys_failure(driver: Driver) -> None:
    driver.body.abort()
    assert driver.body.end is not None
    assert isinstance(driver.body.end.error, BodyAbandoned)
    assert "client" == driver.body.end.error.source


async def test_a_cancelled_reader_loses_nothing(driver: Driver, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await driver.body.receive_some()
    assert scope.cancelled_caught
    await driver.push(b"x")
    await driver.end(None)
    assert b"x" == await read_all(driver.body)


async def test_a_body_longer_than_wanted_is_aborted(driver: Driver) -> None:
    await driver.push(b"12345")
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        await read_all(driver.body, 4)
    assert driver.body.end is not None
    assert driver.body.end.error is not None


STEPS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=5).map(lambda data: ("push", data)),
        st.sampled_from([("take", b""), ("end", b""), ("fail", b""), ("abort", b"")]),
    ),
    max_size=12,
)


@pytest.mark.parametrize("maker", [name for name in MAKERS if name != "RequestBody"])
@hypothesis.example(steps=[("end", b""), ("abort", b""), ("take", b"")])
@hypothesis.given(steps=STEPS)
@hypothesis.example(steps=[("end", b""), ("abort", b""), ("take", b"")])
@hypothesis.settings(max_examples=60)
def test_any_sequence_does_what_a_queue_with_an_end_would(maker: str, steps: list[tuple[str, bytes]]) -> None:
    async def main() -> None:
        driver = await MAKERS[maker]()
        body = driver.body
        ends: list[EndOfStream] = []
        firsts: list[None] = []
        body.on_end(ends.append)
        body.on_first_data(lambda: firsts.append(None))
        queue: list[bytes] = []
        closed = broken = False
        taken = b""
        for step, data in steps:
            if step == "push" and not closed and not broken:
                await driver.push(data)
                queue.append(data)
            elif step == "end" and not closed and not broken:
                await driver.end(None)
                closed = True
            elif step == "fail" and not broken and not closed:
                await driver.fail()
                broken = True
                queue.clear()
            elif step == "abort":
                body.abort()
                broken = broken or not closed or bool(queue)
                queue.clear()
            elif step == "take":
                try:
                    got = body.receive_nowait()
                except trio.WouldBlock:
                    assert not queue
                    assert not closed
                    assert not broken
                except MeshError:
                    assert broken
                else:
                    assert got == (queue.pop(0) if queue else b"")
                    assert got or closed
                    taken += got
            assert len(ends) <= 1
            assert (body.end is not None) == bool(ends)
            if body.end is not None:
                assert body.end is ends[0]
                assert 1 == len(firsts)
                assert not queue or broken
            assert len(firsts) <= 1
            if taken:
                assert firsts

    trio.run(main)


# ----- those whose bytes are all there -----


async def test_an_empty_body_has_ended_from_the_start() -> None:
    for body in (Empty(), Full(b"")):
        assert EndOfStream() == body.end
        assert b"" == body.receive_nowait() == await body.receive_some()
        assert 0 == body.size_hint
        told: list[Any] = []
        body.on_end(told.append)
        body.on_first_data(lambda told=told: told.append("first data"))  # type: ignore[misc]
        body.abort(StreamReset("x"))
        assert [EndOfStream(), "first data"] == told
    assert EndOfStream([(b"a", b"b")]) == Empty([(b"a", b"b")]).end == Full(b"", [(b"a", b"b")]).end


async def test_a_full_body_is_given_at_once_and_ends_with_it() -> None:
    for take in (lambda body: body.receive_nowait(), None):
        body = Full(b"all of it", [(b"a", b"b")])
        assert 9 == body.size_hint
        assert body.end is None
        told: list[Any] = []
        body.on_first_data(lambda told=told: told.append("first data"))  # type: ignore[misc]
        body.on_end(told.append)
        assert b"all of it" == (take(body) if take else await body.receive_some())
        assert ["first data", EndOfStream([(b"a", b"b")])] == told
        assert b"" == body.receive_nowait()


async def test_a_full_body_that_was_aborted_is_broken() -> None:
    body = Full(b"x")
    body.abort(StreamReset("enough"))
    with pytest.raises(StreamReset, match="enough"):
        await body.receive_some()


# ----- particular ones -----


async def test_the_last_chunk_may_come_with_the_end() -> None:
    for driver in (await chunks(), await counted(), await replayable(), await replayed(), await flow()):
        await driver.push(b"x")
        await driver.end(None)
        assert b"x" == driver.body.receive_nowait()
        assert EndOfStream() == driver.body.end


async def test_chunks_that_come_after_an_end_are_ignored() -> None:
    body = Chunks()
    body.push_end([(b"a", b"1")])
    body.push(b"late")
    body.push_end([(b"a", b"2")])
    body.push_error(StreamReset("late"))
    assert b"" == body.receive_nowait()
    assert EndOfStream([(b"a", b"1")]) == body.end
    assert 0 == body.buffered


async def test_an_abort_while_a_reader_waits_wakes_it() -> None:
    for make in (chunks, replayable, counted, flow):
        driver = await make()
        async with trio.open_nursery() as nursery:

            async def read(body: Body) -> None:
                with pytest.raises(StreamReset, match="enough"):
                    await body.receive_some()

            nursery.start_soon(read, driver.body)
            await wait_all_tasks_blocked()
            driver.body.abort(StreamReset("enough"))
            if make is replayable:
                # The body itself is not given up while another try may come.
                await driver.end(None)


async def test_all_credit_is_returned_whatever_becomes_of_a_body() -> None:
    for steps in ("take", "abort", "fail"):
        over = link()
        body = FlowBody(over, 1, None)
        body.push(b"12345")
        body.push(b"678")
        if steps == "take":
            body.push_end()
            await read_all(body)
        elif steps == "abort":
            body.receive_nowait()
            body.abort()
        else:
            body.receive_nowait()
            body.push_error(ConnectionLost("x"))
        assert 8 == over.codec._credit


async def test_a_request_body_that_breaks_is_the_clients_fault() -> None:
    driver = await http1()
    await driver.push(b"x")
    await driver.body.receive_some()
    await driver.fail()
    with pytest.raises(RequestBodyError):
        await driver.body.receive_some()


@explore_schedules(examples=20)
async def test_a_producer_and_a_consumer_meet_under_any_schedule() -> None:
    for make in (chunks, counted, replayable, replayed):
        driver = await make()
        received: list[bytes] = []

        async def consume(body: Body, received: list[bytes]) -> None:
            received.append(await read_all(body))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume, driver.body, received)
            for number in range(5):
                await driver.push(b"%d" % number)
                await trio.lowlevel.checkpoint()
            await driver.end(None)
        assert [b"01234"] == received


async def test_a_begun_body_gives_its_beginning_and_then_the_rest() -> None:
    source = Chunks(9)
    body = BegunBody([b"abc", b"def"], source)
    assert 9 == body.size_hint
    source.push(b"ghi")
    source.push_end([(b"x", b"1")])
    assert [b"abc", b"def", b"ghi"] == [chunk async for chunk in body]
    assert EndOfStream([(b"x", b"1")]) == body.end


async def test_a_begun_body_that_was_read_whole_ends_with_its_beginning() -> None:
    source = Full(b"abc")
    body = BegunBody([source.receive_nowait()], source)
    assert body.end is None
    assert b"abc" == body.receive_nowait()
    assert EndOfStream() == body.end
    assert EndOfStream() == BegunBody([], source).end


async def test_a_begun_body_that_breaks_says_so_at_once_and_is_given_up_as_a_whole() -> None:
    source = Chunks()
    body = BegunBody([b"abc"], source)
    source.push_error(StreamReset("broke"))
    with pytest.raises(StreamReset):
        await body.receive_some()
    source = Chunks()
    body = BegunBody([b"abc"], source)
    body.abort()
    assert source.end is not None
    with pytest.raises(BodyAbandoned):
        body.receive_nowait()
