"""Byte pipes in memory that behave as a network does: bounded, slow, late, broken, and counted."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from meshcore._wakeup import Wakeup, checkpoint
from meshcore.transport.connection import READ_SIZE
from meshcore.transport.stream import StreamConnection

if TYPE_CHECKING:
    from meshcore.transport.target import Address

__all__ = ["MemoryConnection", "MemoryStream", "Wire", "memory_connection_pair", "memory_stream_pair"]

CAPACITY = 65_536


@attrs.define
class Wire:
    """What one direction of a connection in memory does to bytes.

    Attributes:
        capacity: bytes that may be under way before the sender has to wait (the socket's buffers).
        delay: seconds from sending to receiving.
        rate: bytes a second; None: unlimited.
        reset_after: the connection breaks, for both sides, once so many bytes were sent; None: never.
        close_after: the receiver sees the end after so many bytes, the sender goes on into the void;
            None: never.
        chunk: the most that one read returns, for tests that feed piecemeal; None: all there is.
        tap: called with all bytes as they are sent, for tests of what can be seen between two peers; None: nobody.
    """

    capacity: int = CAPACITY
    delay: float = 0.0
    rate: float | None = None
    reset_after: int | None = None
    close_after: int | None = None
    chunk: int | None = None
    tap: Callable[[bytes], object] | None = None


class _Pipe:
    """One direction.  The sender and the receiver are one task each."""

    __slots__ = ("arrivals", "broken", "buffered", "ended", "free_at", "readable", "reader_gone", "sent", "taken",
                 "wire", "writable", "writer_gone")  # fmt: skip

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.arrivals: deque[tuple[float, bytes]] = deque()
        self.buffered = 0
        self.sent = 0
        self.taken = 0
        self.free_at = 0.0
        self.ended = False
        self.broken = False
        self.reader_gone = False
        self.writer_gone = False
        self.readable = Wakeup()
        self.writable = Wakeup()

    def breaks(self) -> None:
        """Both ends see a reset; what was under way is lost."""
        self.broken = True
        self.arrivals.clear()
        self.buffered = 0
        self.readable.wake()
        self.writable.wake()

    def room(self) -> int:
        return self.wire.capacity - self.buffered

    def put(self, data: bytes) -> None:
        """Puts bytes on the wire; the caller has seen to the room."""
        wire = self.wire
        start = self.sent
        self.sent += len(data)
        if wire.tap is not None:
            wire.tap(data)
        if wire.close_after is not None and self.sent >= wire.close_after:
            data = data[: max(0, wire.close_after - start)]
            self.ended = True
        now = trio.current_time()
        if data:
            due = now
            if wire.rate is not None:
                due = max(self.free_at, now) + len(data) / wire.rate
                self.free_at = due
            self.arrivals.append((due + wire.delay, data))
            self.buffered += len(data)
        self.readable.wake()
        if wire.reset_after is not None and self.sent >= wire.reset_after:
            self.breaks()

    def take(self, max_bytes: int) -> bytes:
        """What has arrived, ``b""`` if nothing has."""
        if not self.arrivals or self.arrivals[0][0] > trio.current_time():
            return b""
        limit = min(max_bytes, self.wire.chunk or max_bytes)
        due, data = self.arrivals.popleft()
        if len(data) > limit:
            self.arrivals.appendleft((due, data[limit:]))
            data = data[:limit]
        self.buffered -= len(data)
        self.taken += len(data)
        self.writable.wake()
        return data

    async def arrival(self) -> None:
        """Waits until the next bytes are due, or until something happens."""
        if self.arrivals:
            await trio.sleep_until(self.arrivals[0][0])
        else:
            await self.readable.wait()


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory.  One task reads and one writes, as on a socket.

    ``close`` is synchronous; the peer reads what was sent before it and then the end.  ``reset``
    lets the peer see a broken connection at once.

    Attributes:
        local: this end's address, where it belongs to a network; else None.
        peer: the other end's.
    """

    def __init__(
        self, incoming: _Pipe, outgoing: _Pipe, local: Address | None = None, peer: Address | None = None
    ) -> None:
        self.local = local
        self.peer = peer
        self._incoming = incoming
        self._outgoing = outgoing
        self.closed = False
        self._reading = False
        self._writing = False

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<MemoryStream sent {self.bytes_sent} received {self.bytes_received}{state}>"

    @property
    def bytes_sent(self) -> int:
        """Bytes written at this end so far, taken by the peer or not."""
        return self._outgoing.sent

    @property
    def bytes_received(self) -> int:
        """Bytes read at this end so far."""
        return self._incoming.taken

    @property
    def bytes_unread(self) -> int:
        """Bytes under way to this end: sent by the peer and not read here."""
        return self._incoming.buffered

    @property
    def peer_closed(self) -> bool:
        """Whether the other end has been closed (not merely half-closed)."""
        return self._outgoing.reader_gone

    def receive_nowait(self, max_bytes: int | None = None) -> bytes:
        """What has arrived; ``b""`` at the end.

        Raises:
            trio.WouldBlock: nothing has.
            trio.BrokenResourceError: the connection was reset.
            trio.ClosedResourceError: this end is closed.
        """
        pipe = self._incoming
        if self.closed:
            raise trio.ClosedResourceError
        if pipe.broken:
            raise trio.BrokenResourceError("connection reset by peer")
        data = pipe.take(max_bytes or READ_SIZE)
        if data or (pipe.ended and not pipe.arrivals):
            return data
        raise trio.WouldBlock

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See :class:`trio.abc.ReceiveStream`."""
        if self._reading:
            raise trio.BusyResourceError("another task is reading from this stream")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be >= 1")
        self._reading = True
        try:
            await checkpoint()
            while True:
                try:
                    return self.receive_nowait(max_bytes)
                except trio.WouldBlock:
                    await self._incoming.arrival()
        finally:
            self._reading = False

    def send_nowait(self, data: bytes) -> int:
        """Writes what the wire has room for; how many bytes that was.

        Raises:
            trio.BrokenResourceError: the connection was reset, or the peer has closed its end.
            trio.ClosedResourceError: this end is closed, or its sending side ended.
        """
        pipe = self._outgoing
        if self.closed or pipe.writer_gone:
            raise trio.ClosedResourceError
        if pipe.broken or pipe.reader_gone:
            raise trio.BrokenResourceError("connection reset by peer")
        count = min(len(data), pipe.room())
        if count > 0:
            pipe.put(bytes(data[:count]))
        return max(count, 0)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See :class:`trio.abc.SendStream`."""
        self._start_writing()
        try:
            await checkpoint()
            rest = bytes(data)
            while True:
                rest = rest[self.send_nowait(rest) :]
                if not rest:
                    return
                await self._outgoing.writable.wait()
        finally:
            self._writing = False

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        self._start_writing()
        try:
            await checkpoint()
            while True:
                if self.closed or self._outgoing.writer_gone:
                    raise trio.ClosedResourceError
                if self._outgoing.broken or self._outgoing.reader_gone or self._outgoing.room() > 0:
                    return
                await self._outgoing.writable.wait()
        finally:
            self._writing = False

    async def send_eof(self) -> None:
        """Ends this direction; the other one goes on."""
        self._start_writing()
        try:
            await checkpoint()
            if self.closed:
                raise trio.ClosedResourceError
            self._end()
        finally:
            self._writing = False

    def close(self) -> None:
        """Closes this end at once; idempotent.  Whoever waits in it gets ``trio.ClosedResourceError``."""
        if not self.closed:
            self.closed = True
            self._end()
            incoming = self._incoming
            incoming.reader_gone = True
            incoming.readable.wake()
            # The peer's sender learns of it when it writes, one that waits for room at once.
            incoming.writable.wake()
            self._outgoing.writable.wake()

    def reset(self) -> None:
        """Breaks the connection for the peer, as a socket with ``SO_LINGER`` 0 does, and closes this end."""
        self.break_both()
        self.close()

    def break_both(self) -> None:
        """Breaks the connection for both ends, as when the network between them fails."""
        self._incoming.breaks()
        self._outgoing.breaks()

    async def aclose(self) -> None:
        """See :class:`trio.abc.AsyncResource`."""
        self.close()
        await checkpoint()

    def _start_writing(self) -> None:
        if self._writing:
            raise trio.BusyResourceError("another task is writing to this stream")
        self._writing = True

    def _end(self) -> None:
        pipe = self._outgoing
        pipe.writer_gone = True
        pipe.ended = True
        pipe.readable.wake()


def memory_stream_pair(
    forward: Wire | None = None,
    back: Wire | None = None,
    *,
    local: Address | None = None,
    peer: Address | None = None,
) -> tuple[MemoryStream, MemoryStream]:
    """Two connected streams; *forward* is what the first one's bytes go through, *back* the second one's.  The first
    is at *local*, the second at *peer*."""
    there, here = _Pipe(forward or Wire()), _Pipe(back or Wire())
    return MemoryStream(here, there, local, peer), MemoryStream(there, here, peer, local)


class MemoryConnection(StreamConnection):
    """A connection in memory that can also be read and written without waiting, as a socket can."""

    __slots__ = ()

    stream: MemoryStream

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`~meshcore.transport.connection.Connection`."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        try:
            data = self.stream.receive_nowait(max_bytes)
        except trio.BrokenResourceError as error:
            raise self._lost(error) from error
        self.bytes_read += len(data)
        return data

    def send_nowait(self, data: bytes) -> int:
        """See :class:`~meshcore.transport.connection.Connection`."""
        try:
            sent = self.stream.send_nowait(data)
        except trio.BrokenResourceError as error:
            raise self._lost(error) from error
        self.bytes_written += sent
        return sent

    def reset(self) -> None:
        """Closes so that the peer sees a reset rather than an end."""
        if not self.closed:
            self.stream.reset()
            self.close()


def memory_connection_pair(
    forward: Wire | None = None,
    back: Wire | None = None,
    *,
    local: Address = ("10.0.0.1", 50_000),
    peer: Address = ("10.0.0.2", 80),
    nowait: bool = True,
) -> tuple[StreamConnection, StreamConnection]:
    """Two ends of one connection; the first is at *local*, the second at *peer*.

    Args:
        forward: what the first one's bytes go through; back: the second one's.
        nowait: whether they can be read and written without waiting, as a socket can, or not at all, as
            TLS over a stream.  Code has to work with both.
    """
    here, there = memory_stream_pair(forward, back)
    kind = MemoryConnection if nowait else StreamConnection
    return kind(here, local, peer), kind(there, peer, local)
