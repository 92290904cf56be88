"""Looking at a connection's first bytes: they stay where they are, and waiting for more of them is cheap."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectionLost
from meshcore.testing import memory_connection_pair
from meshcore.transport.lookahead import Lookahead
from meshcore.transport.readiness import Poller
from meshcore.transport.socket import SocketConnection


def tcp_pair() -> tuple[SocketConnection, socket.socket]:
    """An accepted connection, and its client's end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return SocketConnection(accepted), client


def low_water(connection: SocketConnection) -> int:
    return connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


class Steps(trio.abc.Instrument):
    """Counts how often the task that made it runs."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.count = 0

    def before_task_step(self, task: Any) -> None:
        self.count += task is self.task


@asynccontextmanager
async def polling(polled: bool, *connections: SocketConnection) -> AsyncIterator[None]:
    def report(error: Exception) -> None:
        raise AssertionError(error)

    poller = Poller()
    async with trio.open_nursery() as nursery:
        if polled:
            nursery.start_soon(poller.run, report)
            for connection in connections:
                connection.poll_with(poller)
        with trio.fail_after(60):
            yield
        nursery.cancel_scope.cancel()


@pytest.mark.parity("D-09", "D-10")
@pytest.mark.parametrize("polled", [False, True])
async def test_bytes_on_a_socket_are_seen_and_stay_in_the_systems_hands(polled: bool) -> None:
    connection, client = tcp_pair()
    async with polling(polled, connection):
        ahead = Lookahead(connection, 100)
        ahead.look()
        assert (b"", False) == (ahead.data, ahead.ended)

        client.sendall(b"hello")
        await ahead.wait_for(5)
        ahead.put_back()

        assert (b"hello", False) == (ahead.data, ahead.ended)
        assert (0, 0, 1) == (connection.rewound, connection.bytes_read, low_water(connection))
        assert connection.plain_socket() is connection
        assert b"hello" == await connection.receive_some()
        client.sendall(b"more")
        assert b"more" == await connection.receive_some()
    connection.close()
    client.close()


@pytest.mark.parity("D-10")
@pytest.mark.parametrize("polled", [False, True])
async def test_bytes_one_by_one_wake_the_waiting_task_once(polled: bool) -> None:
    connection, client = tcp_pair()
    async with polling(polled, connection):
        ahead = Lookahead(connection, 2_000)
        steps = Steps()

        async def send() -> None:
            for _ in range(1_000):
                client.send(b"x")
                if _ % 10 == 0:
                    await trio.sleep(0.0005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            trio.lowlevel.add_instrument(steps)
            await ahead.wait_for(10)
            await ahead.wait_for(1_000)
            trio.lowlevel.remove_instrument(steps)

        assert b"x" * 1_000 == ahead.data
        # A turn to begin with, where nobody polls; then once for each wait.
        assert steps.count <= 6
        ahead.put_back()
        assert 0 == connection.rewound
    connection.close()
    client.close()


@pytest.mark.parametrize("polled", [False, True])
@pytest.mark.parametrize("sent", [b"", b"abc"])
async def test_an_end_before_there_is_enough_is_told_and_loses_nothing(polled: bool, sent: bytes) -> None:
    connection, client = tcp_pair()
    async with polling(polled, connection):
        ahead = Lookahead(connection, 100)
        client.sendall(sent)
        ahead.look()
        client.shutdown(socket.SHUT_WR)
        await ahead.wait_for(50)
        ahead.put_back()

        assert (sent, True) == (ahead.data, ahead.ended)
        if sent:
            assert sent == await connection.receive_some()
        assert b"" == await connection.receive_some()
    connection.close()
    client.close()


async def test_a_connection_that_breaks_is_lost() -> None:
    connection, client = tcp_pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sendall(b"ab")
    client.close()
    ahead = Lookahead(connection, 100)
    with pytest.raises(ConnectionLost):
        await ahead.wait_for(10)
    assert connection.error is not None
    connection.close()
    with pytest.raises(trio.ClosedResourceError):
        await connection.wait_for(1)


@pytest.mark.parametrize("polled", [False, True])
async def test_a_wait_that_is_cancelled_leaves_the_bytes_and_the_socket_as_they_were(polled: bool) -> None:
    connection, client = tcp_pair()
    async with polling(polled, connection):
        ahead = Lookahead(connection, 100)
        client.sendall(b"abc")
        with trio.move_on_after(0.05):
            await ahead.wait_for(50)
        ahead.put_back()

        assert 1 == low_water(connection)
        assert b"abc" == await connection.receive_some()
    connection.close()
    client.close()


async def test_a_wait_ends_with_the_connection() -> None:
    connection, client = tcp_pair()
    ahead = Lookahead(connection, 100)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ahead.wait_for(50)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        connection.close()
    client.close()


async def test_a_socket_without_low_water_mark_is_read_and_put_back() -> None:
    ours, theirs = socket.socketpair()
    connection = SocketConnection(ours)
    ahead = Lookahead(connection, 100)
    theirs.sendall(b"ab")
    ahead.look()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ahead.wait_for, 4)
        await trio.testing.wait_all_tasks_blocked()
        theirs.sendall(b"cd")
    ahead.put_back()

    assert (b"abcd", 4) == (ahead.data, connection.rewound)
    assert b"abcd" == await connection.receive_some()
    connection.close()
    theirs.close()


@pytest.mark.parity("D-09")
@pytest.mark.parametrize("nowait", [True, False])
async def test_bytes_over_a_stream_are_read_and_put_back_also_when_cancelled(
    autojump_clock: Any, nowait: bool
) -> None:
    client, connection = memory_connection_pair(nowait=nowait)
    ahead = Lookahead(connection, 100)
    await client.send_all(b"ab")
    ahead.look()
    await ahead.wait_for(2)
    with trio.move_on_after(5):
        await ahead.wait_for(3)
    ahead.put_back()

    assert b"ab" == ahead.data
    assert b"ab" == await connection.receive_some()


async def test_what_was_put_back_before_is_seen_too() -> None:
    connection, client = tcp_pair()
    connection.unread(b"abc")
    client.sendall(b"def")
    ahead = Lookahead(connection, 100)
    ahead.look()
    assert b"abc" == ahead.data
    await ahead.wait_for(6)
    ahead.put_back()

    assert b"abcdef" == await connection.receive_some()
    connection.close()
    client.close()
