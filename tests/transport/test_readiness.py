"""One epoll for many sockets: edges are neither lost nor repeated, and nobody waits for ever."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectionLost
from meshcore.transport.readiness import Poller
from meshcore.transport.socket import SocketConnection
from meshcore.transport.sweep import Sweeper


def report(error: Exception) -> None:
    raise AssertionError(error)


@asynccontextmanager
async def polling() -> AsyncIterator[Poller]:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, report)
        with trio.fail_after(60):
            yield poller
        nursery.cancel_scope.cancel()


def polled_pair(poller: Poller) -> tuple[SocketConnection, socket.socket]:
    ours, theirs = socket.socketpair()
    connection = SocketConnection(ours)
    connection.poll_with(poller)
    return connection, theirs


async def test_a_reader_is_woken_for_each_piece() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        received = []
        for piece in (b"one", b"two", b"three"):
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    received.append(await connection.receive_some())

                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                peer.send(piece)
        assert received == [b"one", b"two", b"three"]
        connection.close()
        peer.close()


async def test_what_does_not_fit_into_one_read_is_read_without_another_edge() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        peer.send(b"abcdef")
        assert [await connection.receive_some(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]
        connection.close()
        peer.close()


async def test_an_end_that_came_together_with_the_last_bytes_is_not_lost() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        peer.send(b"last")
        peer.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await connection.receive_some() == b"last"
        assert await connection.receive_some() == b""
        assert await connection.receive_some() == b""
        connection.close()


async def test_closing_wakes_the_reader() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await connection.receive_some()

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            connection.close()
        assert len(poller) == 0
        peer.close()


async def test_a_reset_is_an_error_for_the_reader() -> None:
    async with polling() as poller:
        listener = socket.create_server(("127.0.0.1", 0))
        peer = SocketConnection(socket.create_connection(listener.getsockname()))
        connection = SocketConnection(listener.accept()[0])
        connection.poll_with(poller)
        peer.reset()
        with pytest.raises(ConnectionLost):
            await connection.receive_some()
        connection.close()
        listener.close()


async def test_readers_wait_through_trio_before_the_task_runs_and_after_it_has_ended() -> None:
    poller = Poller()
    connection, peer = polled_pair(poller)

    async def exchange(piece: bytes) -> bytes:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            peer.send(piece)
        return await connection.receive_some()

    with trio.fail_after(60):
        assert await exchange(b"before") == b"before"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, report)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await exchange(b"while") == b"while"
            nursery.cancel_scope.cancel()
        assert await exchange(b"after") == b"after"
    connection.close()
    peer.close()


async def test_a_reader_that_waits_when_the_task_ends_goes_on_waiting_through_trio() -> None:
    poller = Poller()
    connection, peer = polled_pair(poller)
    received = []
    with trio.fail_after(60):
        async with trio.open_nursery() as readers:

            async def read() -> None:
                received.append(await connection.receive_some())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run, report)
                await trio.testing.wait_all_tasks_blocked(0.01)
                readers.start_soon(read)
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()
            peer.send(b"late")
    assert received == [b"late"]
    connection.close()
    peer.close()


async def test_a_number_that_belongs_to_another_socket_by_now_is_watched_anew() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        fd = connection.fileno()
        # Closed without a word, as a stranger's descriptor may be.
        connection.socket.close()
        peer.close()
        again, other = socket.socketpair()
        if again.fileno() != fd:
            again, other = other, again
        assert again.fileno() == fd
        reader = SocketConnection(again)
        reader.poll_with(poller)
        other.send(b"mine")
        assert await reader.receive_some() == b"mine"
        reader.close()
        other.close()


async def test_a_reader_that_never_has_to_wait_lets_others_run() -> None:
    async with polling() as poller:
        connection, peer = polled_pair(poller)
        peer.send(b"x" * 64)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(64):
                assert await connection.receive_some(1) == b"x"
            nursery.cancel_scope.cancel()
        assert turns >= 3
        connection.close()
        peer.close()


async def test_a_hang_up_before_anybody_wanted_to_know_is_told_to_who_asks() -> None:
    sweeper = Sweeper()
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        connection, peer = polled_pair(sweeper.poller)
        peer.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        sweeper.watch_hangup(connection.fileno(), told.set)
        with trio.fail_after(10):
            await told.wait()
        connection.close()
        nursery.cancel_scope.cancel()
