"""One contract for every transport: reading, writing, ending, closing; run on each of them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.errors import ConnectionLost
from meshcore.testing import memory_connection_pair, memory_stream_pair
from meshcore.transport.connection import Connection
from meshcore.transport.identity import ClientContexts, ServerTls, client_tls, server_tls
from meshcore.transport.socket import SocketConnection, address_of
from meshcore.transport.stream import StreamConnection, connection_over
from meshcore.transport.target import TlsClient

Pair = tuple[Connection, Connection]
_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


def tcp_pair() -> tuple[SocketConnection, SocketConnection]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    _sockets.extend((a, b))
    return SocketConnection(a), SocketConnection(b)


async def secured(pair: Pair, pki: Any) -> Pair:
    cert, key = pki.issue("localhost")
    context = ServerTls(cert, key).context()
    ends: list[Connection] = []

    async def accept() -> None:
        ends.append(await server_tls(pair[1], context))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        client = await client_tls(
            pair[0], TlsClient("localhost", trust_anchors=pki.ca_file.read_bytes()), ClientContexts()
        )
    return client, ends[0]


@pytest.fixture(params=["tcp", "memory", "stream", "trio stream", "tls", "tls over memory", "tls over stream"])
async def pair(request: pytest.FixtureRequest, pki: Any) -> Pair:
    if request.param == "tcp":
        return tcp_pair()
    if request.param == "memory":
        return memory_connection_pair()
    if request.param == "stream":
        return memory_connection_pair(nowait=False)
    if request.param == "trio stream":
        a, b = trio.testing.memory_stream_pair()
        return StreamConnection(a), StreamConnection(b)
    if request.param == "tls":
        return await secured(tcp_pair(), pki)
    return await secured(memory_connection_pair(nowait=request.param == "tls over memory"), pki)


async def read_all(connection: Connection) -> bytes:
    parts = []
    while data := await connection.receive_some():
        parts.append(data)
    return b"".join(parts)


async def test_what_one_sends_the_other_receives(pair: Pair) -> None:
    a, b = pair
    await a.send_all(b"hello")
    assert b"hello" == await b.receive_some()
    await b.send_all(b"back")
    assert b"back" == await a.receive_some()
    assert (5, 4) == (a.bytes_written, a.bytes_read)
    assert (4, 5) == (b.bytes_written, b.bytes_read)


async def test_bytes_put_back_come_first_and_are_not_counted_twice(pair: Pair) -> None:
    a, b = pair
    await a.send_all(b"world")
    data = await b.receive_some()
    b.unread(data)
    b.unread(b"hello ")
    assert b.plain_socket() is None

    assert b"hel" == await b.receive_some(3)
    assert b"lo world" == b.receive_nowait()
    assert 5 == b.bytes_read


async def test_a_limit_bounds_what_is_read(pair: Pair) -> None:
    a, b = pair
    await a.send_all(b"0123456789")
    with trio.fail_after(60):
        parts = [await b.receive_some(4), await b.receive_some(4), await b.receive_some(4)]

    assert [b"0123", b"4567", b"89"] == parts


async def test_pieces_leave_in_one_write_as_if_they_were_joined(pair: Pair) -> None:
    a, b = pair
    parts: list[bytes | memoryview] = [b"one ", memoryview(bytearray(b"- two -"))[2:5], b"", b" three"]
    with trio.fail_after(60):
        if a.send_parts_nowait(parts) == 0:
            # Not every transport can do anything at once.
            await a.send_all(b"".join(parts))
        got = b""
        while len(got) < 13:
            got += await b.receive_some()
    assert b"one two three" == got
    assert 0 == a.send_parts_nowait([])


async def test_more_pieces_than_the_system_takes_are_joined() -> None:
    a, b = tcp_pair()
    assert 3_000 == a.send_parts_nowait([b"abc"] * 1_000)
    assert 6_000 == a.send_parts_nowait([b"abc"] * 2_000)
    got = b""
    while len(got) < 9_000:
        got += await b.receive_some()
    assert b"abc" * 3_000 == got
    assert 9_000 == a.bytes_written


async def test_a_socket_reads_into_what_it_is_given() -> None:
    a, b = tcp_pair()
    view = memoryview(bytearray(8))
    with pytest.raises(trio.WouldBlock):
        b.receive_into(view)
    await a.send_all(b"0123456789")
    await b.wait_readable()
    assert (8, b"01234567") == (b.receive_into(view), bytes(view))
    assert (2, b"89") == (b.receive_into(view), bytes(view[:2]))
    a.close()
    await b.wait_readable()
    assert 0 == b.receive_into(view)
    assert 10 == b.bytes_read
    b.close()
    with pytest.raises(trio.ClosedResourceError):
        b.receive_into(view)


async def test_a_broken_socket_says_so_when_it_is_read_into_or_sent_pieces() -> None:
    a, b = tcp_pair()
    a.reset()
    await b.wait_readable()
    with pytest.raises(ConnectionLost):
        b.receive_into(memoryview(bytearray(8)))
    with pytest.raises(ConnectionLost):
        for _ in range(2):
            b.send_parts_nowait([b"x"])


async def test_half_closed_the_other_way_goes_on(pair: Pair) -> None:
    a, b = pair
    await a.send_all(b"last words")
    await a.send_eof()
    assert b"last words" == await read_all(b)
    if isinstance(b, StreamConnection) and not isinstance(b.stream, trio.abc.HalfCloseableStream):
        return
    await b.send_all(b"noted")
    assert b"noted" == await a.receive_some()


async def test_nothing_to_read_is_said_without_waiting(pair: Pair) -> None:
    _, b = pair
    with pytest.raises(trio.WouldBlock):
        b.receive_nowait()


async def test_more_than_fits_waits_for_the_reader(pair: Pair) -> None:
    a, b = pair
    data = bytes(range(256)) * (1 << 16)
    got = []

    async def receive() -> None:
        got.append(await read_all(b))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            sent = a.send_nowait(data)
            assert 0 <= sent < len(data)
            await a.send_all(data[sent:])
            await a.send_eof()

    assert data == got[0]
    assert len(data) == a.bytes_written == b.bytes_read


async def test_closing_is_idempotent_and_wakes_who_waits(pair: Pair) -> None:
    a, _ = pair

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await a.receive_some()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            a.close()
            a.close()
            a.reset()
    assert a.closed
    assert -1 == a.fileno()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_after_closing_every_use_is_an_error(pair: Pair, end: str) -> None:
    a, _ = pair
    getattr(a, end)()

    with pytest.raises(trio.ClosedResourceError):
        await a.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await a.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await a.send_eof()


async def test_writing_to_who_is_gone_breaks_in_the_end(pair: Pair) -> None:
    a, b = pair
    b.reset()

    with trio.fail_after(60), pytest.raises(ConnectionLost):
        while True:
            await a.send_all(b"x" * 65_536)
    assert a.error is not None


async def test_a_cancelled_write_can_be_closed(pair: Pair) -> None:
    a, _ = pair
    with trio.move_on_after(0.02):
        while True:
            await a.send_all(b"x" * (1 << 20))
    a.close()
    assert a.closed


async def test_its_facts_are_told(pair: Pair) -> None:
    a, _ = pair
    a.protocol = "h2"
    statistics = a.statistics()

    assert (a.peer, a.local, "h2", a.secure) == (
        statistics.peer,
        statistics.local,
        statistics.protocol,
        statistics.secure,
    )
    assert "closed" not in repr(a)
    a.close()
    assert "closed" in repr(a)


# ----- sockets alone -----


async def test_a_reset_is_seen_as_one() -> None:
    a, b = tcp_pair()
    a.reset()
    with pytest.raises(ConnectionLost, match=r"^connection to 127\.0\.0\.1:\d+: Connection reset by peer$"):
        await b.receive_some()
    assert isinstance(b.error, ConnectionResetError)
    assert errno.ECONNRESET == b.error.errno


async def test_a_read_that_finds_nothing_after_all_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tcp_pair()

    class Spurious(socket.socket):
        empty = 2

        def recv(self, size: int, flags: int = 0) -> bytes:
            if self.empty:
                self.empty -= 1
                raise BlockingIOError
            return super().recv(size)

    duplicate = Spurious(fileno=b.socket.detach())
    _sockets.append(duplicate)
    b.socket = duplicate
    await a.send_all(b"hello")

    assert b"hello" == await b.receive_some()


async def test_a_unix_socket_has_an_address_of_its_own() -> None:
    a, b = socket.socketpair()
    _sockets.extend((a, b))
    connection = SocketConnection(a)

    assert (("", 0), ("", 0)) == (connection.local, connection.peer)
    assert ("/run/x", 0) == address_of(b"/run/x")
    assert ("::1", 80) == address_of(("::1", 80, 0, 0))
    assert ("10.0.0.1", 80) == address_of(("::ffff:10.0.0.1", 80, 0, 0))


async def test_a_socket_that_has_lost_its_peer_has_no_address_for_it() -> None:
    sock = socket.socket()
    _sockets.append(sock)

    assert ("", 0) == SocketConnection(sock).peer


# ----- streams -----


async def test_a_sockets_stream_becomes_a_socket_connection() -> None:
    a, b = tcp_pair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(a.socket))
    connection = connection_over(stream)
    await connection.send_all(b"direct")

    assert isinstance(connection, SocketConnection)
    assert b"direct" == await b.receive_some()
    assert connection is connection_over(connection)
    connection.close()


async def test_any_other_stream_is_adapted_and_closed_without_waiting() -> None:
    class Custom(trio.abc.Stream):
        closed = False

        async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...
        async def wait_send_all_might_not_block(self) -> None: ...
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return b""

        async def aclose(self) -> None:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self.closed = True

    class Prompt(Custom):
        async def aclose(self) -> None:
            self.closed = True

    class Broken(Custom):
        async def aclose(self) -> None:
            self.closed = True
            raise trio.BrokenResourceError

    for kind in (Custom, Prompt, Broken):
        stream = kind()
        connection = connection_over(stream)
        assert isinstance(connection, StreamConnection)
        if kind is Prompt:
            # It cannot be half-closed, so ending it closes it.
            await connection.send_eof()
        connection.close()
        assert stream.closed


async def test_a_stream_with_a_reset_is_reset() -> None:
    a, b = memory_stream_pair()
    StreamConnection(a).reset()

    with pytest.raises(trio.BrokenResourceError):
        await b.receive_some()
