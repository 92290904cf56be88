"""Moving bytes between two plain sockets, unread: spliced in the kernel, or copied through one shared buffer."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from typing import TYPE_CHECKING

import trio

from meshcore._wakeup import checkpoint
from meshcore.transport.socket import wait_readable, wait_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.transport.socket import SocketConnection

__all__ = ["Pipes", "copy_sockets", "splice_sockets"]

LARGE = 1 << 20
SMALL = 1 << 16
BUFFER = 1 << 18
_TURN = 1 << 20
"""Bytes moved before others get a turn."""

_F_SETPIPE_SZ: int | None = getattr(fcntl, "F_SETPIPE_SZ", None)
_F_GETPIPE_SZ: int | None = getattr(fcntl, "F_GETPIPE_SZ", None)
_splice = getattr(os, "splice", None)
_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


_NOT_SPLICEABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOMEM})


class _Pipe:
    """A pipe as a place to keep pages; empty whenever it is in the pool."""

    __slots__ = ("read", "size", "write")

    def __init__(self, read: int, write: int, size: int) -> None:
        self.read = read
        self.write = write
        self.size = size

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """A pool of empty pipes.

    A direction holds a pipe only while there is something in it, so few serve many connections.  The
    system rations them: an unprivileged user gets 64 MiB in all, and after that pipes of two pages
    that are worth nothing.  The first ones are large, the others small, and where they are refused
    the caller copies instead.
    """

    __slots__ = ("_free", "_retry", "large", "made", "most")

    def __init__(self, most: int | None = None, large: int = 16) -> None:
        if most is None:
            # Two descriptors each: never more than an eighth of what the process may open.
            most = max(4, min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16))
        self.most = most if _splice is not None and _F_SETPIPE_SZ is not None else 0
        self.large = large
        self.made = 0
        self._retry = 0
        self._free: list[_Pipe] = []

    def take(self) -> _Pipe | None:
        """An empty pipe, or None: copy instead."""
        try:
            return self._free.pop()
        except IndexError:
            pass
        if self.made >= self.most:
            return None
        if self._retry > 0:
            # Refused a while ago: asking each time would cost more than it gains.
            self._retry -= 1
            return None
        pipe = self._make()
        if pipe is None:
            self._retry = 1000
        return pipe

    def _make(self) -> _Pipe | None:
        try:
            read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        assert _F_SETPIPE_SZ is not None
        assert _F_GETPIPE_SZ is not None
        size = fcntl.fcntl(write, _F_GETPIPE_SZ)
        for wanted in (LARGE, SMALL) if self.made < self.large else (SMALL,):
            if size >= wanted:
                break
            try:
                size = fcntl.fcntl(write, _F_SETPIPE_SZ, wanted)
                break
            except OSError:
                continue
        if size < SMALL:
            os.close(read)
            os.close(write)
            return None
        self.made += 1
        return _Pipe(read, write, size)

    def give(self, pipe: _Pipe) -> None:
        """Takes an empty pipe back."""
        self._free.append(pipe)

    def drop(self, pipe: _Pipe) -> None:
        """Closes one in which something may be left."""
        self.made -= 1
        pipe.close()

    def clear(self) -> None:
        """Closes the free ones."""
        while self._free:
            self.drop(self._free.pop())


pipes = Pipes()
"""The process's: what the system rations, it rations by user."""

# Buffers for copying; as many as there are threads that copy at the same moment.
_buffers: list[bytearray] = []


async def splice_sockets(
    source: SocketConnection, sink: SocketConnection, moved: Callable[[int], None], most: int | None = None
) -> bool:
    """Moves what *source* has to *sink* until its end, or until *most* bytes have been moved.

    Args:
        source: read from; nothing that was put back may be left in it.
        sink: written to.
        moved: called with the number of bytes after each move, for idle limits.

    Returns:
        True at the end of *source*; False after *most* bytes, or if it cannot go on this way (no pipe to be had,
        or these sockets cannot be spliced), with nothing lost.

    Raises:
        ConnectionLost: one of them broke.
        trio.ClosedResourceError: one of them was closed here.
    """
    assert _splice is not None
    turn = 0
    while True:
        pipe = pipes.take()
        if pipe is None:
            return False
        held = 0
        try:
            while True:
                if source.closed or sink.closed:
                    raise trio.ClosedResourceError
                try:
                    size = pipe.size if most is None else min(pipe.size, most)
                    held = _splice(source.fileno(), pipe.write, size, flags=_FLAGS)
                except BlockingIOError:
                    source.drained()
                    break
                except OSError as error:
                    if error.errno in _NOT_SPLICEABLE:
                        return False
                    raise source.lost(error) from error
                if held == 0:
                    return True
                source.bytes_read += held
                turn += held
                if most is not None:
                    most -= held
                while held:
                    try:
                        count = _splice(pipe.read, sink.fileno(), held, flags=_FLAGS)
                    except BlockingIOError:
                        await wait_writable(sink.fileno())
                        if sink.closed:
                            raise trio.ClosedResourceError from None
                        continue
                    except OSError as error:
                        if error.errno in _NOT_SPLICEABLE:
                            rest = os.read(pipe.read, held)
                            held -= len(rest)
                            await sink.send_all(rest)
                            moved(len(rest))
                            if held == 0:
                                return False
                            continue
                        raise sink.lost(error) from error
                    held -= count
                    sink.bytes_written += count
                    moved(count)
                if most == 0:
                    return False
                if turn >= _TURN:
                    turn = 0
                    await checkpoint()
        finally:
            if held:
                pipes.drop(pipe)
            else:
                pipes.give(pipe)
        turn = 0
        await source.wait_readable()


async def copy_sockets(
    source: SocketConnection, sink: SocketConnection, moved: Callable[[int], None], most: int
) -> bool:
    """Copies through one large buffer until the end of *source*, or until *most* bytes have been moved.

    Arguments and errors are those of :func:`splice_sockets`.

    Returns:
        True at the end of *source*.
    """
    receive_into, send = source.socket.recv_into, sink.socket.send
    turn = total = 0
    while total < most:
        if source.closed or sink.closed:
            raise trio.ClosedResourceError
        # Taken for as long as nothing waits, so that all connections share one.
        buffer = _buffers.pop() if _buffers else bytearray(BUFFER)
        rest = b""
        try:
            try:
                count = receive_into(buffer)
            except BlockingIOError:
                count = -1
            except OSError as error:
                raise source.lost(error) from error
            if count > 0:
                with memoryview(buffer) as view:
                    try:
                        sent = send(view[:count])
                    except BlockingIOError:
                        sent = 0
                    except OSError as error:
                        raise sink.lost(error) from error
                    if sent < count:
                        rest = bytes(view[sent:count])
        finally:
            _buffers.append(buffer)
        if count == 0:
            return True
        if count < 0:
            turn = 0
            await wait_readable(source.fileno())
            continue
        source.bytes_read += count
        sink.bytes_written += sent
        if rest:
            await sink.send_all(rest)
        total += count
        moved(count)
        turn += count
        if turn >= _TURN:
            turn = 0
            await checkpoint()
    return False
