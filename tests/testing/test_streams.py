"""The pipes in memory behave as sockets do."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectionLost
from meshcore.testing import MemoryStream, Wire, explore_schedules, memory_connection_pair, memory_stream_pair


async def make_pair() -> tuple[MemoryStream, MemoryStream]:
    return memory_stream_pair()


async def make_full_pair() -> tuple[MemoryStream, MemoryStream]:
    here, there = memory_stream_pair(Wire(capacity=1_000), Wire(capacity=1_000))
    here.send_nowait(b"x" * 1_000)
    there.send_nowait(b"x" * 1_000)
    return here, there


async def test_the_streams_keep_every_promise_of_a_half_closeable_stream() -> None:
    await trio.testing.check_half_closeable_stream(make_pair, make_full_pair)


async def test_a_sender_waits_while_the_wire_is_full(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_stream_pair(Wire(capacity=10))
    with trio.move_on_after(1) as scope:
        await here.send_all(b"x" * 11)
    assert scope.cancelled_caught
    assert there.bytes_unread == 10


@explore_schedules(examples=10)
async def test_all_bytes_pass_in_order_through_a_small_wire() -> None:
    here, there = memory_stream_pair(Wire(capacity=7, chunk=3))
    data = bytes(range(200))
    got = bytearray()

    async def send() -> None:
        await here.send_all(data)
        await here.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while chunk := await there.receive_some(5):
            assert len(chunk) <= 3
            got += chunk
    assert data == bytes(got)


async def test_half_close_keeps_the_other_direction() -> None:
    here, there = memory_stream_pair()
    await here.send_eof()
    assert await there.receive_some() == b""
    await there.send_all(b"still here")
    assert await here.receive_some() == b"still here"


async def test_bytes_sent_before_a_close_are_read_and_then_the_end() -> None:
    here, there = memory_stream_pair()
    await here.send_all(b"last words")
    here.close()
    assert await there.receive_some() == b"last words"
    assert await there.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await there.send_all(b"too late")


async def test_a_reset_is_seen_at_once_and_loses_what_was_under_way() -> None:
    here, there = memory_stream_pair()
    await here.send_all(b"lost")
    here.reset()
    with pytest.raises(trio.BrokenResourceError):
        await there.receive_some()


async def test_closing_wakes_ones_own_reader(autojump_clock: trio.testing.MockClock) -> None:
    here, _ = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await here.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        here.close()


async def test_a_slow_wire_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_stream_pair(Wire(rate=100, delay=0.5))
    start = trio.current_time()
    await here.send_all(b"x" * 100)
    assert await there.receive_some() == b"x" * 100
    assert trio.current_time() - start == pytest.approx(1.5)


async def test_a_wire_can_break_after_some_bytes() -> None:
    here, there = memory_stream_pair(Wire(reset_after=5))
    await here.send_all(b"12345")
    with pytest.raises(trio.BrokenResourceError):
        await there.receive_some()


async def test_a_wire_can_end_after_some_bytes() -> None:
    here, there = memory_stream_pair(Wire(close_after=3))
    await here.send_all(b"12345")
    assert await there.receive_some() == b"123"
    assert await there.receive_some() == b""


@pytest.mark.parametrize("nowait", [True, False])
async def test_connections_pass_bytes_both_ways_and_break_with_connection_lost(nowait: bool) -> None:
    here, there = memory_connection_pair(nowait=nowait)
    await here.send_all(b"ping")
    assert await there.receive_some() == b"ping"
    await there.send_all(b"pong")
    assert await here.receive_some() == b"pong"
    assert (here.bytes_written, here.bytes_read) == (4, 4)
    assert isinstance(here.stream, MemoryStream)
    here.stream.reset()
    with pytest.raises(ConnectionLost):
        await there.receive_some()


async def test_a_connection_that_need_not_wait_takes_what_fits() -> None:
    here, there = memory_connection_pair(Wire(capacity=4))
    assert here.send_nowait(b"123456") == 4
    assert here.send_nowait(b"56") == 0
    assert there.receive_nowait() == b"1234"
    with pytest.raises(trio.WouldBlock):
        there.receive_nowait()
