"""Accepting: options, errors, containment, the limit, the drain, and nothing left behind."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.addresses import format_address
from meshcore.errors import AuthorizationError, ConnectionLost, RemoteProtocolError, TlsError
from meshcore.server.detect import Detect
from meshcore.server.opaque import Forward
from meshcore.server.serve import Server, drain_on_signal, serve
from meshcore.stack import Stack
from meshcore.testing import MemoryConnection, MemoryNetwork, MemoryStream, memory_stream_pair
from meshcore.transport.connection import Connection
from meshcore.transport.drain import Drain
from meshcore.transport.socket import SocketConnection
from meshcore.transport.target import Accepted, Endpoint
from meshcore.transport.tcp import TcpOptions, connect_tcp, open_listeners
from tests.server.stacks import Branch, New, To, read_all, until

Service = Callable[[Connection], Awaitable[None]]


async def echo(connection: Connection) -> None:
    while data := await connection.receive_some():
        await connection.send_all(data)


@asynccontextmanager
async def serving(new_accept: Any, listeners: Any = None, **options: Any) -> AsyncIterator[Server]:
    """A running server on loopback; cancelled at the end, unless it has drained."""
    if isinstance(new_accept, Callable):  # type: ignore[arg-type]
        new_accept = New(new_accept)
    if listeners is None:
        listeners = await open_listeners("127.0.0.1", 0)
    with trio.fail_after(60):
        async with trio.open_nursery() as upstreams, trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[Server]) -> None:
                await serve(new_accept, listeners, upstreams=upstreams, task_status=task_status, **options)

            yield await nursery.start(run)
            nursery.cancel_scope.cancel()


async def connect(server: Server) -> Connection:
    return await connect_tcp(Endpoint(server.addresses[0]))


async def settled() -> None:
    """Until nothing more happens, in the kernel either."""
    await trio.testing.wait_all_tasks_blocked(0.02)


# ----- accepting -----


async def test_each_connection_is_served_with_its_ends_and_what_the_server_lends_it() -> None:
    seen: list[tuple[Accepted, Connection]] = []

    class Recording:
        def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Service:
            async def service(connection: Connection) -> None:
                seen.append((target, connection))
                await echo(connection)

            return service

    drain = Drain()
    async with serving(Recording(), drain=drain, name="gateway") as server:
        client = await connect(server)
        await client.send_all(b"hello")
        assert b"hello" == await client.receive_some()
        target, accepted = seen[0]
        assert Accepted("gateway", server.addresses[0], client.local) == target
        assert (client.peer, client.local) == (accepted.local, accepted.peer)
        assert (server, drain, server.sweeper) == (accepted.owner, accepted.drain, accepted.sweeper)
        assert (1, 1) == (server.open_connections, server.accepted_total)
        await client.send_eof()
        assert b"" == await client.receive_some()
        await settled()
        statistics = server.statistics()
        assert (0, 1, 0, 0, False) == (
            statistics.open_connections,
            statistics.accepted_total,
            statistics.crashes_total,
            statistics.accept_errors_total,
            statistics.draining,
        )
        assert accepted.closed
        client.close()


@pytest.mark.parity("D-41")
@pytest.mark.parametrize("inherit", [True, False])
async def test_accepted_sockets_have_their_options(monkeypatch: pytest.MonkeyPatch, inherit: bool) -> None:
    seen: list[socket.socket] = []

    async def service(connection: Connection) -> None:
        assert isinstance(connection, SocketConnection)
        seen.append(connection.socket)
        await echo(connection)

    if not inherit:
        # A system whose accepted sockets do not inherit the listener's options.
        accept = socket.socket.accept

        def bare(listener: socket.socket) -> tuple[socket.socket, Any]:
            sock, address = accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
            return sock, address

        monkeypatch.setattr(socket.socket, "accept", bare)
    async with serving(service, options=TcpOptions(keepalive=7.0, user_timeout=30.0)) as server:
        clients = [await connect(server) for _ in range(2)]
        await settled()
        for client in clients:
            client.close()
        for sock in seen:
            assert 1 == sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert 1 == sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert 7 == sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            assert 30_000 == sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 2 == len(seen)


async def test_any_listener_of_streams_is_served() -> None:
    network = MemoryNetwork()
    listener = network.listen(("10.0.0.2", 80))
    async with serving(echo, [listener]) as server:
        assert (("10.0.0.2", 80),) == server.addresses
        client = await network.connect(Endpoint(("10.0.0.2", 80)))
        await client.send_all(b"hello")
        assert b"hello" == await client.receive_some()
        assert 1 == server.open_connections


async def test_one_server_serves_many_listeners() -> None:
    listeners = [*await open_listeners("127.0.0.1"), *await open_listeners("127.0.0.1")]
    async with serving(echo, listeners) as server:
        for address in server.addresses:
            client = await connect_tcp(Endpoint(address))
            await client.send_all(b"hello")
            assert b"hello" == await client.receive_some()
            client.close()
        assert 2 == server.accepted_total


async def test_local_addresses_are_told_behind_a_wildcard() -> None:
    seen: list[Connection] = []

    async def service(connection: Connection) -> None:
        seen.append(connection)

    async with serving(service, await open_listeners("0.0.0.0", 0)) as server:
        port = server.addresses[0][1]
        (await connect_tcp(Endpoint(("127.0.0.1", port)))).close()
        await settled()

    assert [("127.0.0.1", port)] == [connection.local for connection in seen]


@pytest.mark.parity("A-07")
async def test_without_descriptors_accepting_waits_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(echo) as server:
        client = socket.socket()
        client.setblocking(False)
        # The listener itself must still be polled, so only new descriptors are refused.
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 4, hard))
        try:
            with caplog.at_level(logging.WARNING):
                with pytest.raises(OSError, match="Too many open files"):
                    while True:
                        taken.append(os.dup(client.fileno()))
                client.connect_ex(server.addresses[0])
                await until(lambda: server.accept_errors_total >= 2)
            assert 0 == server.accepted_total
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        connection = SocketConnection(client)
        await connection.send_all(b"hello")
        assert b"hello" == await connection.receive_some()
        connection.close()
        assert 1 == server.accepted_total
    assert "Too many open files" in caplog.messages[0]


@pytest.mark.parity("A-07")
@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.ENOBUFS, errno.ENFILE, errno.EIO])
async def test_an_accept_that_fails_does_not_end_accepting(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any, code: int
) -> None:
    accept = socket.socket.accept
    failures = [OSError(code, os.strerror(code))] * 3

    def failing(listener: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise failures.pop()
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    # The virtual clock would jump over what the kernel has yet to deliver.
    autojump_clock.autojump_threshold = 0.05
    async with serving(echo) as server:
        client = await connect(server)
        await client.send_all(b"hello")
        assert b"hello" == await client.receive_some()
        assert 3 == server.accept_errors_total
        client.close()


async def test_a_listener_of_streams_that_fails_is_asked_again(autojump_clock: Any) -> None:
    class Flaky(trio.abc.Listener[trio.abc.Stream]):
        closed = False
        asked = 0

        async def accept(self) -> trio.abc.Stream:
            self.asked += 1
            if self.asked < 4:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            raise trio.ClosedResourceError

        async def aclose(self) -> None:
            self.closed = True

    listener = Flaky()
    async with serving(echo, [listener]) as server:
        await trio.sleep(5)
        assert 3 == server.accept_errors_total
    assert (4, True) == (listener.asked, listener.closed)


async def test_more_connections_than_the_limit_wait_their_turn() -> None:
    async with serving(echo, max_connections=2) as server:
        clients = [await connect(server) for _ in range(4)]
        for client in clients:
            await client.send_all(b"hello")
        await settled()
        assert (2, 2) == (server.open_connections, server.accepted_total)
        for client in clients:
            assert b"hello" == await client.receive_some()
            client.close()
        await settled()
        assert (0, 4) == (server.open_connections, server.accepted_total)


async def test_a_burst_is_accepted_with_turns_for_others() -> None:
    turns: list[int] = []

    async def service(connection: Connection) -> None:
        turns.append(server.accepted_total)

    async with serving(service) as server:
        clients = [socket.create_connection(server.addresses[0]) for _ in range(100)]
        await settled()
        assert 100 == server.accepted_total
        # The first was served long before the last was accepted.
        assert min(turns) <= 20
        for client in clients:
            client.close()


async def test_closed_listeners_end_the_accepting_and_the_open_connections_the_server() -> None:
    listeners = await open_listeners("127.0.0.1", 0)
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Server]) -> None:
            await serve(New(echo), listeners, upstreams=nursery, task_status=task_status)
            ended.set()

        server = await nursery.start(run)
        client = await connect(server)
        await settled()
        await listeners[0].aclose()
        await settled()
        assert not ended.is_set()
        client.close()
        with trio.fail_after(60):
            await ended.wait()


# ----- containment -----


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("bug"),
        ExceptionGroup("several", [ZeroDivisionError("bug"), ConnectionLost("lost")]),
        RecursionError("too deep"),
    ],
)
async def test_an_exception_ends_its_connection_alone_and_is_counted(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def service(connection: Connection) -> None:
        if await connection.receive_some() == b"crash":
            raise error
        await echo(connection)

    async with serving(service) as server:
        bystander = await connect(server)
        await bystander.send_all(b"hello")
        victim = await connect(server)
        with caplog.at_level(logging.WARNING):
            await victim.send_all(b"crash")
            assert b"" == await victim.receive_some()
        await bystander.send_all(b"still there")
        assert b"still there" == await bystander.receive_some()
        assert (1, 1) == (server.crashes_total, server.open_connections)
        assert format_address(victim.local) in caplog.messages[0]
        assert caplog.records[0].exc_info is not None
        victim.close()
        bystander.close()


async def test_a_service_that_cannot_be_made_ends_its_connection_alone() -> None:
    class Broken:
        def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Service:
            raise ZeroDivisionError

    async with serving(Broken()) as server:
        for count in (1, 2):
            client = await connect(server)
            assert b"" == await client.receive_some()
            assert count == server.crashes_total
            client.close()


@pytest.mark.parity("A-07")
@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("gone"),
        RemoteProtocolError("nonsense"),
        OSError(errno.ECONNRESET, "reset"),
        trio.BrokenResourceError(),
        trio.ClosedResourceError(),
        ExceptionGroup("both", [ConnectionLost("gone"), OSError(errno.EPIPE, "pipe")]),
    ],
)
async def test_what_the_network_does_is_no_crash_and_never_louder_than_debug(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def service(connection: Connection) -> None:
        raise error

    with caplog.at_level(logging.DEBUG, "meshcore"):
        async with serving(service) as server:
            client = await connect(server)
            assert b"" == await client.receive_some()
            client.close()
            assert 0 == server.crashes_total
    assert {logging.DEBUG} == {record.levelno for record in caplog.records}
    assert any("connection closed: client.addr=" in message for message in caplog.messages)


@pytest.mark.parametrize(
    "error",
    [
        TlsError("client certificate has expired", reason="expired"),
        AuthorizationError("unauthorized request from 10.0.0.9"),
    ],
)
async def test_who_is_turned_away_is_told_to_operators_and_a_flood_of_them_once_a_second(
    caplog: pytest.LogCaptureFixture, autojump_clock: Any, error: Exception
) -> None:
    async def service(connection: Connection) -> None:
        raise error

    network = MemoryNetwork()
    endpoint = Endpoint(("10.0.0.2", 80))
    with caplog.at_level(logging.INFO, "meshcore"):
        async with serving(service, [network.listen(endpoint.address)]):
            for _ in range(20):
                await network.connect(endpoint)
            await trio.sleep(2)
            await network.connect(endpoint)
            await trio.sleep(0.1)

    told = [message for message in caplog.messages if str(error) in message]
    assert 2 == len(told)
    assert all("client.addr=" in message for message in told)


async def test_a_cancellation_passes_and_takes_what_crashed_beside_it_along() -> None:
    async def service(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_cancelled)
            await trio.sleep_forever()

    async def crash_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ZeroDivisionError("while being cancelled") from None

    async with serving(service) as server:
        client = await connect(server)
        await settled()
    assert 1 == server.crashes_total
    assert 0 == server.open_connections
    assert b"" == await client.receive_some()
    client.close()


class Faulty(MemoryConnection):
    """Raises what nobody expects at the *fuse*-th wait, before or after it."""

    fuse = 0
    after = False
    blown = False

    async def _wait(self, call: Callable[[], Awaitable[Any]]) -> Any:
        Faulty.fuse -= 1
        now = Faulty.fuse == 0
        result = None
        if not now or Faulty.after:
            result = await call()
        if now:
            Faulty.blown = True
            raise ZeroDivisionError("injected")
        return result

    async def receive_some(self, max_bytes: int = 65_536) -> bytes:
        return await self._wait(lambda: super(Faulty, self).receive_some(max_bytes))  # type: ignore[no-any-return]

    async def send_all(self, data: bytes) -> None:
        await self._wait(lambda: super(Faulty, self).send_all(data))

    async def send_eof(self) -> None:
        await self._wait(lambda: super(Faulty, self).send_eof())


class Forwarding:
    """A server that forwards connections handed to it to an echo; one of either side's may be faulty."""

    def __init__(self, nursery: trio.Nursery, faulty: str) -> None:
        self.nursery = nursery
        self.faulty = faulty
        self.accepted: list[Connection] = []
        self._arrivals, self._waiting = trio.open_memory_channel[Connection](10)

    async def accept(self) -> Any:
        return await self._waiting.receive()

    async def aclose(self) -> None: ...

    async def connect(self, endpoint: Endpoint) -> Connection:
        here, there = memory_stream_pair()
        self.nursery.start_soon(echo_and_end, MemoryConnection(there))
        return self._perhaps_faulty("upstream", here)

    def _perhaps_faulty(self, side: str, stream: MemoryStream) -> Connection:
        return Faulty(stream) if side == self.faulty and Faulty.fuse > 0 else MemoryConnection(stream)

    async def exchange(self) -> bytes:
        here, there = memory_stream_pair()
        self.accepted.append(self._perhaps_faulty("accepted", there))
        await self._arrivals.send(self.accepted[-1])
        client = MemoryConnection(here)
        try:
            for piece in (b"\0one", b"two"):
                await client.send_all(piece)
                await trio.sleep(0.1)
            await client.send_eof()
            return await read_all(client)
        except ConnectionLost:
            return b"lost"
        finally:
            client.close()


trio.abc.Listener.register(Forwarding)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("side", ["accepted", "upstream"])
async def test_an_exception_at_any_wait_of_a_forwarded_connection_ends_it_alone(
    autojump_clock: Any, side: str, after: bool
) -> None:
    Faulty.after = after
    blown = 0
    for fuse in range(1, 30):
        async with trio.open_nursery() as nursery:
            network = Forwarding(nursery, side)
            opaque: Stack[Any, Any] = Stack((To(Endpoint(("10.0.0.3", 1))), Forward()))
            detect: Any = Detect(http=Stack((Branch(echo),)), opaque=opaque)
            async with serving(detect.layer(network.connect), [network]) as server:
                Faulty.fuse, Faulty.blown = fuse, False
                await network.exchange()
                Faulty.fuse = 0
                blown += Faulty.blown
                assert int(Faulty.blown) == server.crashes_total
                assert b"\0onetwo" == await network.exchange()
                await trio.sleep(1)
                assert 0 == server.open_connections
                assert all(connection.closed for connection in network.accepted)
    assert blown >= 4


async def echo_and_end(connection: Connection) -> None:
    try:
        await echo(connection)
        await connection.send_eof()
    except (ConnectionLost, trio.ClosedResourceError):
        pass


async def test_the_upstreams_nursery_is_what_services_are_given() -> None:
    async with trio.open_nursery() as nursery:
        given: list[trio.Nursery] = []

        class Recording:
            def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Service:
                given.append(nursery)
                return echo

        async def run(task_status: trio.TaskStatus[Server]) -> None:
            await serve(Recording(), await open_listeners("127.0.0.1"), upstreams=nursery, task_status=task_status)

        server = await nursery.start(run)
        (await connect(server)).close()
        await settled()
        assert [nursery] == given
        nursery.cancel_scope.cancel()


# ----- drain -----


@pytest.mark.parity("L-03", "L-04")
async def test_a_drain_stops_accepting_waits_and_cuts_what_is_left(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    listener = network.listen(("10.0.0.2", 80))
    drain = Drain()
    endpoint = Endpoint(("10.0.0.2", 80))
    async with trio.open_nursery() as upstreams:
        server = await upstreams.start(
            lambda task_status: serve(
                New(echo), [listener], upstreams=upstreams, drain=drain, grace=120.0, task_status=task_status
            )
        )
        clients = [await network.connect(endpoint) for _ in range(3)]
        await trio.sleep(1)
        drain.start("SIGTERM")
        await trio.sleep(1)
        assert listener.closed
        assert (3, True) == (server.open_connections, server.statistics().draining)
        # Who is being served is served on.
        await clients[0].send_all(b"hello")
        assert b"hello" == await clients[0].receive_some()
        clients[0].close()
        await trio.sleep(100)
        assert 2 == server.open_connections
        with caplog.at_level(logging.WARNING):
            assert b"" == await clients[1].receive_some()
        assert 121.0 == trio.current_time()
        assert ["graceful shutdown did not complete in 120 s, closing 2 connections"] == caplog.messages
    assert 0 == server.open_connections


async def test_a_drain_ends_as_soon_as_the_last_connection_does(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork()
    drain = Drain()
    async with trio.open_nursery() as upstreams:
        await upstreams.start(
            lambda task_status: serve(
                New(echo),
                [network.listen(("10.0.0.2", 80))],
                upstreams=upstreams,
                drain=drain,
                task_status=task_status,
            )
        )
        client = await network.connect(Endpoint(("10.0.0.2", 80)))
        await trio.sleep(1)
        drain.start()
        await trio.sleep(7)
        client.close()
    assert 8.0 == trio.current_time()
    assert [] == caplog.messages


@pytest.mark.parity("L-03")
async def test_a_draining_server_refuses_new_connections() -> None:
    drain = Drain()
    async with serving(echo, drain=drain) as server:
        client = await connect(server)
        await settled()
        drain.start()
        await settled()
        with pytest.raises(Exception, match="connection refused"):
            await connect(server)
        client.close()


@pytest.mark.parity("X-40")
async def test_opaque_connections_go_on_through_a_drain_until_both_sides_close(autojump_clock: Any) -> None:
    network = MemoryNetwork()
    upstream = network.listen(("10.0.0.3", 1))
    drain = Drain()
    opaque: Stack[Any, Any] = Stack((To(Endpoint(("10.0.0.3", 1))), Forward()))
    detect: Any = Detect(http=Stack((Branch(echo),)), opaque=opaque, protocol="opaque")
    async with trio.open_nursery() as upstreams:
        await upstreams.start(
            lambda task_status: serve(
                detect.layer(network.connect),
                [network.listen(("10.0.0.2", 80))],
                upstreams=upstreams,
                drain=drain,
                task_status=task_status,
            )
        )
        client = await network.connect(Endpoint(("10.0.0.2", 80)))
        server = await upstream.accept()
        drain.start()
        await trio.sleep(60)
        await client.send_all(b"still")
        assert b"still" == await server.receive_some()
        await client.send_eof()
        assert b"" == await server.receive_some()
        await trio.sleep(30)
        await server.send_all(b"there")
        server.close()
        assert b"there" == await read_all(client)
        upstream.close()
    assert 90.0 == trio.current_time()


@pytest.mark.parity("L-02")
async def test_the_first_signal_drains_and_the_second_stops_at_once() -> None:
    drain = Drain()
    stopped: list[signal.Signals] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            def stop(which: signal.Signals) -> None:
                stopped.append(which)
                nursery.cancel_scope.cancel()

            await nursery.start(lambda task_status: drain_on_signal(drain, stop=stop, task_status=task_status))
            os.kill(os.getpid(), signal.SIGTERM)
            await drain.wait_started()
            assert [] == stopped
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()

    assert "SIGTERM" == drain.reason
    assert [signal.SIGINT] == stopped


def test_without_a_say_of_its_own_the_process_ends_by_the_second_signal() -> None:
    program = """
import trio
from meshcore import Drain, drain_on_signal

async def main():
    drain = Drain()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: drain_on_signal(drain, task_status=task_status))
        print("ready", flush=True)
        await drain.wait_started()
        print("draining", flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

trio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert "draining\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert -signal.SIGINT == process.wait(60)


# ----- nothing left behind -----


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def connects_and_closes(total: int) -> None:
    """Through detection and forwarding, the client or the server closing, or resetting."""
    counts: list[int] = []

    async def flaky(connection: Connection) -> None:
        data = await connection.receive_some()
        if data.startswith(b"\0close"):
            return
        if data.startswith(b"\0reset"):
            connection.reset()
            return
        await connection.send_all(data)
        await echo(connection)

    # What earlier tests have left for the collector would be missed later.
    gc.collect()
    async with serving(flaky) as upstream:
        opaque: Stack[Any, Any] = Stack((To(Endpoint(upstream.addresses[0])), Forward()))
        detect: Any = Detect(http=Stack((Branch(echo),)), opaque=opaque)
        async with serving(detect.layer(connect_tcp)) as server:
            for index in range(total):
                client = await connect(server)
                kind = index % 5
                if kind < 3:
                    await client.send_all((b"\0close", b"\0reset", b"\0echo")[kind])
                if kind < 4:
                    try:
                        await client.receive_some() if kind < 3 else client.reset()
                    except ConnectionLost:
                        pass
                client.close()
                if index % 100 == 99:
                    await until(lambda: not server.open_connections and not upstream.open_connections)
                    counts.append(descriptors())
            assert total == server.accepted_total
            assert 0 == server.crashes_total + upstream.crashes_total
    assert 1 == len(set(counts[1:])), counts


async def test_five_hundred_connects_and_closes_leave_no_descriptor() -> None:
    await connects_and_closes(500)


@pytest.mark.system
async def test_ten_thousand_connects_and_closes_leave_no_descriptor_and_no_memory() -> None:
    await connects_and_closes(1_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await connects_and_closes(10_000)

    # KiB; the allocator's own noise, not something for each connection.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000
