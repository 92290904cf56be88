"""Two connections joined: what one sends the other gets, each direction with an end of its own."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import trio

from meshcore._wakeup import checkpoint
from meshcore.errors import ConnectionLost, MeshError, StreamTimeout
from meshcore.transport.splice import copy_sockets, splice_sockets

if TYPE_CHECKING:
    from meshcore.transport.connection import Connection
    from meshcore.transport.socket import SocketConnection
    from meshcore.transport.sweep import Sweeper

__all__ = ["duplex"]

_SPLICE_AFTER = 1 << 18
"""Bytes moved in one direction before it is worth a pipe."""
_COPY = 1 << 24
"""Bytes copied before a pipe is asked for again."""
_TURN = 16
"""Chunks before others get a turn."""
_WATCH = 32.0
"""The sweeper's limit for finding broken connections: it looks every two seconds."""


async def duplex(
    a: Connection, b: Connection, *, idle_timeout: float | None = None, sweeper: Sweeper | None = None
) -> None:
    """Forwards bytes both ways until both directions have ended; closes both connections.

    The end of one direction is passed on and the other goes on (half-close, D-42).  A connection that
    breaks ends both, and its peer sees a reset, so that what was cut does not seem complete.  Between plain
    sockets, bytes are spliced in the kernel once a direction proves to be a bulky one.

    Args:
        a: one connection.
        b: the other.
        idle_timeout: seconds without a byte in either direction after which both are closed; needs a sweeper.
        sweeper: enforces it, and finds out (within 3 s) that a connection broke whose bytes the other does
            not take; without one that is seen only when the other takes them.

    Raises:
        ConnectionLost: one of them broke.
        StreamTimeout: neither sent anything for *idle_timeout*.
    """
    joint = _Joint(a, b, idle_timeout)
    try:
        if sweeper is not None:
            sweeper.add(joint, _WATCH if idle_timeout is None else min(idle_timeout, _WATCH))
        async with trio.open_nursery() as nursery:
            joint.scope = nursery.cancel_scope
            nursery.start_soon(joint.forward, b, a)
            await joint.forward(a, b)
    except BaseException:
        a.reset()
        b.reset()
        raise
    finally:
        if sweeper is not None:
            sweeper.discard(joint)
    if joint.error is None:
        a.close()
        b.close()
        return
    if isinstance(joint.error, StreamTimeout):
        a.close()
        b.close()
    else:
        a.reset()
        b.reset()
    raise joint.error


class _Joint:
    """The two directions' common state; swept for idleness."""

    __slots__ = ("_bytes", "_ended", "_idle_timeout", "_since", "_swept", "a", "b", "error", "scope")

    def __init__(self, a: Connection, b: Connection, idle_timeout: float | None) -> None:
        self.a = a
        self.b = b
        self.error: MeshError | None = None
        self.scope: trio.CancelScope | None = None
        self._bytes = 0
        self._ended = False
        self._swept = 0
        self._since = trio.current_time()
        self._idle_timeout = idle_timeout

    def moved(self, count: int) -> None:
        """Something was forwarded."""
        self._bytes += count

    def sweep(self, now: float, /) -> None:
        """See :class:`~meshcore.transport.sweep.Swept`."""
        if self._bytes != self._swept:
            self._swept = self._bytes
            self._since = now
        elif self._idle_timeout is not None and now - self._since >= self._idle_timeout:
            self.fail(StreamTimeout(f"nothing was forwarded for {self._idle_timeout:g} s"))
        elif self.a.bytes_read != self.b.bytes_written or self.b.bytes_read != self.a.bytes_written:
            # Somebody waits to write, and does not see what becomes of the side that was read.
            for connection in (self.a, self.b):
                if _broken(connection):
                    peer = connection.peer
                    self.fail(ConnectionLost(f"connection to {peer[0]}:{peer[1]}: broken while the other side stalled"))

    def fail(self, error: MeshError) -> None:
        """Ends both directions."""
        if self.error is None:
            self.error = error
        if self.scope is not None:
            self.scope.cancel()

    async def forward(self, source: Connection, sink: Connection) -> None:
        """One direction, to its end."""
        try:
            if not await self._move(source, sink):
                return
            if self._ended:
                # Both directions have: closing the connections says so.
                return
            self._ended = True
            try:
                await sink.send_eof()
            except ConnectionLost as error:
                self._refused(error)
        except MeshError as error:
            self.fail(error)
        except trio.ClosedResourceError:
            # Closed here, by a layer or because it cannot be half-closed.
            if self.scope is not None:
                self.scope.cancel()

    def _refused(self, error: ConnectionLost) -> None:
        """A sink takes no more.  What it sent before that is still to be delivered: the other direction
        ends when it has been."""
        if self.error is None:
            self.error = error

    async def _move(self, source: Connection, sink: Connection) -> bool:
        """Forwards until *source* ends; False if *sink* broke before."""
        total = chunks = 0
        while True:
            data = await source.receive_some()
            if not data:
                return True
            try:
                await sink.send_all(data)
            except ConnectionLost as error:
                self._refused(error)
                return False
            size = len(data)
            self._bytes += size
            total += size
            chunks += 1
            if chunks >= _TURN:
                # Neither waiting nor sending need have been a checkpoint.
                chunks = 0
                await checkpoint()
                if total >= _SPLICE_AFTER:
                    plain_source, plain_sink = source.plain_socket(), sink.plain_socket()
                    if plain_source is not None and plain_sink is not None:
                        return await self._move_plain(plain_source, plain_sink)

    async def _move_plain(self, source: SocketConnection, sink: SocketConnection) -> bool:
        """The same without looking at the bytes."""
        source.leave_poller()
        try:
            while not await splice_sockets(source, sink, self.moved):
                if await copy_sockets(source, sink, self.moved, _COPY):
                    break
        except ConnectionLost as error:
            if sink.error is None:
                raise
            self._refused(error)
            return False
        return True


def _broken(connection: Connection) -> bool:
    """Whether the system knows of an error (a reset, mostly) that nobody has read yet."""
    fd = connection.fileno()
    if fd < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
