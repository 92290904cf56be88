"""Forwarding to an endpoint: bytes, ends, failures and limits."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectError, ConnectionLost, StreamTimeout
from meshcore.server.opaque import Forward
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.socket import SocketConnection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Endpoint
from meshcore.transport.tcp import connect_tcp
from tests.server.stacks import MemoryServer, read_all

ENDPOINT = Endpoint(("10.0.0.2", 1))


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)
    await connection.send_eof()


def forwarding(connect: Any, nursery: trio.Nursery, endpoint: Endpoint = ENDPOINT, **options: Any) -> Any:
    return Forward(**options).layer(connect).new_service(endpoint, nursery)


@pytest.mark.parity("D-42", "X-58")
@pytest.mark.parametrize("nowait", [True, False])
async def test_what_a_client_sends_comes_back_from_the_endpoint(nursery: trio.Nursery, nowait: bool) -> None:
    server = MemoryServer(nursery, echo, nowait=nowait)
    client, accepted = memory_connection_pair(nowait=nowait)
    nursery.start_soon(forwarding(server, nursery), accepted)
    await client.send_all(b"custom tcp hello")
    await client.send_eof()

    assert b"custom tcp hello" == await read_all(client)
    await trio.testing.wait_all_tasks_blocked()
    assert accepted.closed
    assert 1 == len(server.connected)


@pytest.mark.parity("X-58")
async def test_over_sockets_too(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
            await stream.send_eof()

    nursery.start_soon(trio.serve_listeners, serve, listeners)
    a, b = socket.socketpair()
    client, accepted = SocketConnection(a), SocketConnection(b)
    endpoint = Endpoint(listeners[0].socket.getsockname())
    nursery.start_soon(forwarding(connect_tcp, nursery, endpoint), accepted)
    data = b"0123456789abcdef" * 100_000

    async def send() -> None:
        await client.send_all(data)
        await client.send_eof()

    nursery.start_soon(send)
    with trio.fail_after(60):
        assert data == await read_all(client)
    client.close()
    nursery.cancel_scope.cancel()


async def test_an_endpoint_that_cannot_be_reached_leaves_the_client_for_another(nursery: trio.Nursery) -> None:
    server = MemoryServer(nursery, echo)
    server.refuse = True
    client, accepted = memory_connection_pair()
    await client.send_all(b"hello")
    service = forwarding(server, nursery)
    with pytest.raises(ConnectError, match=r"endpoint 10\.0\.0\.2:1: connection refused"):
        await service(accepted)
    with pytest.raises(ConnectError):
        await service.ready()

    assert not accepted.closed
    server.refuse = False
    await service.ready()
    await client.send_eof()
    await service(accepted)
    assert b"hello" == await read_all(client)


@pytest.mark.parity("X-61")
async def test_a_client_that_closes_reaches_the_server_and_frees_both(nursery: trio.Nursery) -> None:
    ends: list[bytes] = []

    async def serve(connection: Connection) -> None:
        ends.append(await read_all(connection))

    client, accepted = memory_connection_pair()
    server = MemoryServer(nursery, serve)
    nursery.start_soon(forwarding(server, nursery), accepted)
    await client.send_all(b"bye")
    client.close()
    await trio.testing.wait_all_tasks_blocked()

    assert [b"bye"] == ends
    assert accepted.closed
    assert server.connected[0].closed


@pytest.mark.parity("X-60")
async def test_the_server_may_speak_first(nursery: trio.Nursery) -> None:
    async def greet(connection: Connection) -> None:
        await connection.send_all(b"220 ready\r\n")
        await echo(connection)

    client, accepted = memory_connection_pair()
    nursery.start_soon(forwarding(MemoryServer(nursery, greet), nursery), accepted)

    assert b"220 ready\r\n" == await client.receive_some()
    await client.send_all(b"QUIT\r\n")
    assert b"QUIT\r\n" == await client.receive_some()


async def test_a_server_that_breaks_is_a_loss_to_the_client(nursery: trio.Nursery) -> None:
    async def breaks(connection: Connection) -> None:
        await connection.receive_some()
        connection.reset()

    client, accepted = memory_connection_pair()
    errors: list[BaseException] = []

    async def run() -> None:
        try:
            await forwarding(MemoryServer(nursery, breaks), nursery)(accepted)
        except ConnectionLost as error:
            errors.append(error)

    nursery.start_soon(run)
    await client.send_all(b"hello")
    with pytest.raises(ConnectionLost):
        await client.receive_some()
    assert [f"connection to {ENDPOINT}: connection reset by peer"] == [str(error) for error in errors]


async def test_idle_ones_are_closed_where_a_sweeper_watches(autojump_clock: Any, nursery: trio.Nursery) -> None:
    client, accepted = memory_connection_pair()
    accepted.sweeper = Sweeper()
    nursery.start_soon(accepted.sweeper.run)
    with pytest.raises(StreamTimeout):
        await forwarding(MemoryServer(nursery, echo), nursery, idle_timeout=100.0)(accepted)

    assert 100.0 <= trio.current_time() <= 107.0
    assert b"" == await client.receive_some()


def test_its_fields_are_its_repr() -> None:
    assert "Forward(idle_timeout=3600.0)" == repr(Forward())
    assert repr(Forward().layer(connect_tcp)).startswith("Forward(idle_timeout=3600.0) over ")
