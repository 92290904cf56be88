"""Two connections joined: bytes, ends, losses and limits, in memory and on sockets spliced in the kernel."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectionLost, StreamTimeout
from meshcore.testing import Wire, explore_schedules, memory_connection_pair
from meshcore.transport import splice
from meshcore.transport.connection import Connection
from meshcore.transport.duplex import duplex
from meshcore.transport.socket import SocketConnection
from meshcore.transport.splice import Pipes
from meshcore.transport.sweep import Sweeper

MIB = 1 << 20
Pair = Callable[[], tuple[Connection, Connection]]

_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipes]:
    """A pool of the test's own, whose pipes must all be back, and empty, at the end."""
    pool = Pipes(most=8)
    monkeypatch.setattr(splice, "pipes", pool)
    yield pool
    assert pool.made == len(pool._free)
    for pipe in pool._free:
        with pytest.raises(BlockingIOError):
            os.read(pipe.read, 1)
    pool.clear()
    assert 0 == pool.made


def tcp_pair(client: type[SocketConnection] = SocketConnection) -> tuple[SocketConnection, SocketConnection]:
    """Two ends of a TCP connection over loopback; the first is a *client*."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    _sockets.extend((a, b))
    return client(a), SocketConnection(b)


def memory_pair() -> tuple[Connection, Connection]:
    return memory_connection_pair()


def stream_pair() -> tuple[Connection, Connection]:
    return memory_connection_pair(nowait=False)


@pytest.fixture(params=[tcp_pair, memory_pair, stream_pair], ids=["tcp", "memory", "stream"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.param  # type: ignore[no-any-return]


async def read_all(connection: Connection) -> bytes:
    parts = []
    while data := await connection.receive_some():
        parts.append(data)
    return b"".join(parts)


async def send_all(connection: Connection, data: bytes) -> None:
    await connection.send_all(data)
    await connection.send_eof()


async def all_of(*tasks: Awaitable[Any]) -> list[Any]:
    results: list[Any] = [None] * len(tasks)

    async def run(index: int, task: Awaitable[Any]) -> None:
        results[index] = await task

    async with trio.open_nursery() as nursery:
        for index, task in enumerate(tasks):
            nursery.start_soon(run, index, task)
    return results


# ----- bytes and ends -----


@pytest.mark.parity("D-42", "X-58")
async def test_bytes_pass_both_ways_and_each_way_ends_for_itself(pair: Pair, nursery: trio.Nursery) -> None:
    client, a = pair()
    b, server = pair()
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(60):
        await client.send_all(b"question")
        assert b"question" == await server.receive_some()
        await client.send_eof()
        assert b"" == await server.receive_some()
        # The client has ended; the server answers all the same.
        await server.send_all(b"answer")
        assert b"answer" == await client.receive_some()
        await server.send_eof()
        assert b"" == await client.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.01)

    assert a.closed
    assert b.closed
    assert (8, 6) == (a.bytes_read, a.bytes_written)
    assert (6, 8) == (b.bytes_read, b.bytes_written)


@pytest.mark.parametrize("prefix", [b"", b"detected"])
async def test_megabytes_pass_unchanged_both_ways_at_once(
    pair: Pair, nursery: trio.Nursery, pipes: Pipes, prefix: bytes
) -> None:
    client, a = pair()
    b, server = pair()
    if prefix:
        a.unread(prefix)
    up, down = random.Random(1).randbytes(5 * MIB + 17), random.Random(2).randbytes(3 * MIB + 5)
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(30):
        _, _, got_up, got_down = await all_of(
            send_all(client, up), send_all(server, down), read_all(server), read_all(client)
        )

    assert hashlib.sha256(prefix + up).digest() == hashlib.sha256(got_up).digest()
    assert hashlib.sha256(down).digest() == hashlib.sha256(got_down).digest()
    assert (len(up), len(down)) == (a.bytes_read, a.bytes_written)
    assert (len(down), len(prefix + up)) == (b.bytes_read, b.bytes_written)


async def test_bulk_between_plain_sockets_is_spliced(nursery: trio.Nursery, pipes: Pipes) -> None:
    received = []

    class Counting(SocketConnection):
        async def receive_some(self, max_bytes: int = 65_536) -> bytes:
            received.append(len(data := await super().receive_some(max_bytes)))
            return data

    a, client = tcp_pair(Counting)
    b, server = tcp_pair()
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(30):
        await all_of(send_all(client, b"x" * (4 * MIB)), read_all(server), server.send_eof())

    assert sum(received) < MIB
    assert 1 <= pipes.made <= 2


@pytest.mark.parametrize("reason", ["refused", "not spliceable", "sink not spliceable"])
async def test_without_splicing_bulk_is_copied(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    calls = []

    def refused(source: int, sink: int, count: int, *, flags: int) -> int:
        calls.append(count)
        if reason == "sink not spliceable" and len(calls) % 2:
            return os.splice(source, sink, count, flags=flags)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(splice, "pipes", pool := Pipes(most=0 if reason == "refused" else 4))
    monkeypatch.setattr(splice, "_COPY", MIB, raising=False)
    monkeypatch.setattr("meshcore.transport.duplex._COPY", MIB)
    monkeypatch.setattr(splice, "_splice", refused)
    client, a = tcp_pair()
    b, server = tcp_pair()
    data = random.Random(3).randbytes(5 * MIB + 3)
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(30):
        _, got, _ = await all_of(send_all(client, data), read_all(server), server.send_eof())
    pool.clear()

    assert data == got
    assert (0 if reason == "refused" else 2) <= len(calls)
    assert (len(data), len(data)) == (a.bytes_read, b.bytes_written)


@pytest.mark.parametrize("pool", [0, 4])
async def test_small_buffers_on_the_way_lose_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, pool: int
) -> None:
    monkeypatch.setattr(splice, "pipes", made := Pipes(most=pool))
    client, a = tcp_pair()
    b, server = tcp_pair()
    b.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    data = random.Random(4).randbytes(2 * MIB)
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(60):
        _, got, _ = await all_of(send_all(client, data), read_all(server), server.send_eof())
    made.clear()

    assert data == got


@pytest.mark.parametrize("broken", ["source", "sink"])
@pytest.mark.parametrize("pool", [0, 4])
async def test_a_break_in_the_middle_of_bulk_ends_both(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any, pool: int, broken: str
) -> None:
    # With the source's end the sink stalls: only the sweeper can find out.
    autojump_clock.autojump_threshold = 0.05
    monkeypatch.setattr(splice, "pipes", made := Pipes(most=pool))
    client, a = tcp_pair()
    b, server = tcp_pair()
    errors: list[BaseException] = []
    sweeper = Sweeper()
    nursery.start_soon(sweeper.run)

    async def run() -> None:
        try:
            await duplex(a, b, sweeper=sweeper)
        except ConnectionLost as error:
            errors.append(error)

    async def send() -> None:
        with pytest.raises((ConnectionLost, trio.ClosedResourceError)):
            while True:
                await client.send_all(b"x" * MIB)

    with trio.fail_after(20):
        async with trio.open_nursery() as inner:
            inner.start_soon(run)
            inner.start_soon(send)
            received = 0
            while received < 2 * MIB:
                received += len(await server.receive_some())
            await trio.sleep(10)
            (client if broken == "source" else server).reset()
            reset_at = trio.current_time()
    assert trio.current_time() - reset_at <= 3.0
    made.clear()

    assert 1 == len(errors)
    assert a.closed
    assert b.closed


async def test_a_slow_reader_holds_the_sender_and_no_memory_is_taken(nursery: trio.Nursery, pipes: Pipes) -> None:
    client, a = tcp_pair()
    b, server = tcp_pair()
    nursery.start_soon(duplex, a, b)
    with trio.fail_after(60):
        await send_until_stuck(client)
        # What has been read and not yet written is in a pipe; the rest is in the sockets' buffers.
        assert 0 <= a.bytes_read - b.bytes_written <= splice.LARGE
        sent = client.bytes_written
        await client.send_eof()
        assert sent == len(await read_all(server))
        server.close()
        assert b"" == await client.receive_some()


async def send_until_stuck(connection: SocketConnection) -> None:
    """Sends until the buffers on the way are full, as far as the kernel lets one know."""
    data = b"x" * MIB
    while connection.send_nowait(data) > 0:
        await trio.testing.wait_all_tasks_blocked(0.01)


# ----- losses -----


@pytest.mark.parity("X-61")
async def test_a_client_that_breaks_ends_both_and_the_server_sees_a_reset(pair: Pair, nursery: trio.Nursery) -> None:
    client, a = pair()
    b, server = pair()
    await client.send_all(b"half of it")
    errors: list[BaseException] = []

    async def run() -> None:
        try:
            await duplex(a, b)
        except ConnectionLost as error:
            errors.append(error)

    nursery.start_soon(run)
    with trio.fail_after(60):
        assert b"half of it" == await server.receive_some()
        client.reset()
        with pytest.raises(ConnectionLost):
            await server.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.01)

    assert a.closed
    assert b.closed
    assert 1 == len(errors)


async def test_what_the_server_said_before_it_refused_more_is_delivered(nursery: trio.Nursery) -> None:
    # A server that answers and closes without reading the rest: its answer comes before the reset.
    client, a = tcp_pair()
    b, server = tcp_pair()
    await client.send_all(b"x" * 1000)
    with trio.fail_after(60):
        async with trio.open_nursery() as inner:

            async def run() -> None:
                with pytest.raises(ConnectionLost):
                    await duplex(a, b)

            inner.start_soon(run)
            await server.receive_some(10)
            await server.send_all(b"413 too large")
            server.close()
            got = b""
            with pytest.raises(ConnectionLost):
                while True:
                    await client.send_all(b"more")
                    with trio.move_on_after(0.05):
                        got += await client.receive_some()

    assert b"413 too large" == got


@pytest.mark.parametrize("spliced", [False, True])
async def test_cancelled_it_resets_both_at_once(nursery: trio.Nursery, pipes: Pipes, spliced: bool) -> None:
    client, a = tcp_pair()
    b, server = tcp_pair()
    with trio.fail_after(60):
        async with trio.open_nursery() as inner:
            inner.start_soon(duplex, a, b)
            if spliced:
                await send_until_stuck(client)
            else:
                await client.send_all(b"begun")
                assert b"begun" == await server.receive_some()
            inner.cancel_scope.cancel()
        assert a.closed
        assert b.closed
        with pytest.raises(ConnectionLost):
            await read_all(client)
    # What was in a pipe is gone with it.
    assert pipes.made == len(pipes._free)


async def test_a_connection_closed_here_ends_both_without_an_error(pair: Pair, nursery: trio.Nursery) -> None:
    _, a = pair()
    b, server = pair()
    with trio.fail_after(60):
        async with trio.open_nursery() as inner:
            inner.start_soon(duplex, a, b)
            await trio.testing.wait_all_tasks_blocked(0.01)
            a.close()
        assert b.closed
        assert b"" == await read_all(server)


@explore_schedules(40)
async def test_whatever_ends_when_nothing_hangs_and_both_are_closed() -> None:
    client, a = memory_connection_pair(Wire(capacity=4, chunk=3), Wire(capacity=4))
    b, server = memory_connection_pair(Wire(capacity=4), Wire(capacity=5, chunk=2))

    async def peer(connection: Connection, end: str, data: bytes) -> None:
        try:
            await connection.send_all(data)
            if end == "eof":
                await send_all(connection, b"")
                await read_all(connection)
            elif end == "reset":
                connection.reset()
            connection.close()
        except ConnectionLost:
            connection.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer, client, random.choice(["eof", "reset", "close"]), b"abcdefghij")
        nursery.start_soon(peer, server, random.choice(["eof", "reset", "close"]), b"0123456789")
        try:
            await duplex(a, b)
        except ConnectionLost:
            pass
    assert a.closed
    assert b.closed


# ----- limits -----


async def test_idle_connections_are_closed_by_the_sweeper(autojump_clock: Any, nursery: trio.Nursery) -> None:
    client, a = memory_connection_pair()
    b, server = memory_connection_pair()
    sweeper = Sweeper()
    nursery.start_soon(sweeper.run)

    async def busy() -> None:
        for _ in range(10):
            await trio.sleep(5)
            await server.send_all(b"tick")
            await client.receive_some()

    async with trio.open_nursery() as inner:
        inner.start_soon(busy)
        with pytest.raises(StreamTimeout, match=r"nothing was forwarded for 8 s"):
            await duplex(a, b, idle_timeout=8.0, sweeper=sweeper)
    assert 58.0 <= trio.current_time() <= 59.0
    assert 0 == len(sweeper)
    assert b"" == await client.receive_some()


async def test_a_bulky_connection_lets_others_run(nursery: trio.Nursery, pipes: Pipes) -> None:
    client, a = tcp_pair()
    b, server = tcp_pair()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(duplex, a, b)
    nursery.start_soon(count)
    with trio.fail_after(30):
        await all_of(send_all(client, b"x" * (32 * MIB)), read_all(server), server.send_eof())

    assert turns > 3


# ----- pipes -----


def test_the_first_pipes_are_large_and_no_more_are_made_than_allowed() -> None:
    pool = Pipes(most=4, large=2)
    taken = [pool.take() for _ in range(6)]
    sizes = [pipe.size if pipe else None for pipe in taken]

    assert 4 == pool.made
    assert [None, None] == sizes[4:]
    assert all(size is not None and size >= 65_536 for size in sizes[:4])
    for pipe in taken[:4]:
        assert pipe is not None
        pool.give(pipe)
    assert taken[3] is pool.take()
    pool.drop(taken[3])
    assert 3 == pool.made
    pool.clear()
    assert 0 == pool.made


def test_small_pipes_are_refused_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    # What an unprivileged user gets who has used up his share.
    asked = []

    def fcntl(fd: int, command: int, *size: int) -> int:
        asked.append(size)
        if size:
            raise PermissionError
        return 8192

    monkeypatch.setattr(splice.fcntl, "fcntl", fcntl)
    pool = Pipes(most=4)

    assert [None] * 500 == [pool.take() for _ in range(500)]
    assert 3 == len(asked)
    assert 0 == pool.made


def test_no_descriptors_no_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe2(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(splice.os, "pipe2", pipe2)

    assert Pipes(most=4).take() is None
