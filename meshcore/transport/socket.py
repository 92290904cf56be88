"""A connection on a plain non-blocking socket: read and written directly, no checkpoint where none is needed.

With ``_wakeup.py`` the data path's only importer of ``trio.lowlevel``.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from meshcore._native import mypyc_attr
from meshcore.errors import ConnectionLost, caused
from meshcore.transport.connection import READ_SIZE, Connection

if TYPE_CHECKING:
    from meshcore.transport.readiness import Poller, Readiness
    from meshcore.transport.target import Address

__all__ = ["SHORT", "SocketConnection", "address_of", "notify_closing", "wait_readable", "wait_writable"]


_TURNS = 16
"""Reads in a row without a wait before others get a turn."""


SHORT: Final = 8_192
"""Bytes of a read that are copied from a place that all connections of a nursery have in common."""

_MOST_PARTS = 1_000
"""Below what a system takes in one ``sendmsg`` (IOV_MAX)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SocketConnection(Connection):
    """A connected, non-blocking stream socket; owns it."""

    __slots__ = ("_fd", "_long", "_readiness", "_turns", "socket")

    def __init__(self, sock: socket.socket, local: Address | None = None, peer: Address | None = None) -> None:
        if sock.gettimeout() != 0.0:
            sock.setblocking(False)
        super().__init__(local or address_of(sock.getsockname()), peer or _peer_of(sock))
        self.socket = sock
        self._fd = sock.fileno()
        self._readiness: Readiness | None = None
        self._turns = 0
        # Whether the last read brought much.
        self._long = False

    def __repr__(self) -> str:
        return f"<SocketConnection {self.local} <-> {self.peer}{' closed' if self.closed else ''}>"

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return -1 if self.closed else self._fd

    def poll_with(self, poller: Poller) -> None:
        """See :class:`Connection`."""
        if self._readiness is None and not self.closed:
            self._readiness = poller.add(self._fd)

    def leave_poller(self) -> None:
        """Waits through Trio again: for whoever reads past this object, and whom edges would only disturb.
        Not while another task reads."""
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.close()

    async def wait_readable(self) -> None:
        """Waits until a read may bring something (or the connection is closed); mostly a checkpoint."""
        readiness = self._readiness
        if readiness is None:
            await wait_readable(self._fd)
        elif not readiness.ready:
            self._turns = 0
            await readiness.wait()
        else:
            # Always something to read, and never a wait: others want their turn, too.
            self._turns += 1
            if self._turns >= _TURNS:
                self._turns = 0
                await checkpoint()

    async def wait_for(self, count: int) -> None:
        """Waits until *count* bytes can be read, or until the end; where the system cannot keep so many, or has
        other reasons, until fewer can.

        Whoever looks at bytes and leaves them where they are has to wait by this: to any other wait they are
        news for ever.  SO_RCVLOWAT is what is set for it, and 1 again afterwards.
        """
        if self.closed:
            raise trio.ClosedResourceError
        readiness = self._readiness
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self.drained()
            await self.wait_readable()
        except OSError as error:
            raise self.lost(error) from error
        finally:
            if not self.closed:
                # Fewer than were waited for may be there, of which no edge has told.
                if readiness is not None:
                    readiness.ready = True
                with contextlib.suppress(OSError):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def drained(self) -> None:
        """A read found less than it had room for: whoever reads by ``wait_readable`` waits for more."""
        if self._readiness is not None:
            self._readiness.drained()

    def plain_socket(self) -> SocketConnection | None:
        """Itself, once what was put back has been read."""
        return None if self._prefix else self

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        try:
            data = self.socket.recv(max_bytes)
        except BlockingIOError:
            self.drained()
            raise trio.WouldBlock from None
        except OSError as error:
            raise self.lost(error) from error
        self.bytes_read += len(data)
        return data

    def peek_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """What could be read at once, and is left to be read; ``b""`` at the end.  Not what was put back.

        Raises:
            trio.WouldBlock: nothing is there.
            ConnectionLost: the connection broke.
        """
        try:
            return self.socket.recv(max_bytes, socket.MSG_PEEK)
        except BlockingIOError:
            raise trio.WouldBlock from None
        except OSError as error:
            raise self.lost(error) from error

    def receive_into(self, buffer: memoryview) -> int:
        """Reads into *buffer* what can be read at once: at least one byte; 0 at the end of the stream.  Not while
        bytes that were put back are still to come.

        Raises:
            trio.WouldBlock: nothing is there.
            ConnectionLost: the connection broke.
            trio.ClosedResourceError: it was closed here.
        """
        if self.closed:
            raise trio.ClosedResourceError
        try:
            size = self.socket.recv_into(buffer)
        except BlockingIOError:
            self.drained()
            raise trio.WouldBlock from None
        except OSError as error:
            raise self.lost(error) from error
        if size < len(buffer):
            self.drained()
        self.bytes_read += size
        return size

    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`.  Waits first and reads then: under load what arrives meanwhile is
        read in one piece, and a failed attempt to read is a system call saved."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        readiness = self._readiness
        while True:
            if self.closed:
                raise trio.ClosedResourceError
            if readiness is None:
                await wait_readable(self._fd)
            elif readiness.ready:
                await self.wait_readable()
            else:
                self._turns = 0
                await readiness.wait()
            room = max_bytes
            try:
                if readiness is not None and max_bytes >= SHORT and not self._long:
                    # Most of what is read is short: to make a place of 64 KiB for it, and to cut that, costs more than
                    # to copy it.
                    room = SHORT
                    size: int = self.socket.recv_into(readiness.buffer)
                    data: bytes = readiness.buffer[:size].tobytes()
                    self._long = size == SHORT
                else:
                    data = self.socket.recv(max_bytes)
                    size = len(data)
                    self._long = size >= SHORT
            except BlockingIOError:
                if readiness is not None:
                    readiness.ready = False
                continue
            except OSError as error:
                raise self.lost(error) from error
            if readiness is not None and size < room and not readiness.ended:
                readiness.ready = False
            self.bytes_read += size
            return data

    def send_nowait(self, data: bytes) -> int:
        """See :class:`Connection`."""
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.lost(error) from error
        self.bytes_written += sent
        return sent

    def send_parts_nowait(self, parts: list[bytes | memoryview]) -> int:
        """See :class:`Connection`."""
        if len(parts) > _MOST_PARTS:
            return super().send_parts_nowait(parts)
        try:
            sent = self.socket.sendmsg(parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.lost(error) from error
        self.bytes_written += sent
        return sent

    async def send_all(self, data: bytes) -> None:
        """See :class:`Connection`.  Not a checkpoint where the socket takes everything at once."""
        sent = self.send_nowait(data)
        if sent == len(data):
            return
        view = memoryview(data)
        while sent < len(data):
            if self.closed:
                raise trio.ClosedResourceError
            await wait_writable(self._fd)
            try:
                count = self.socket.send(view[sent:])
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.lost(error) from error
            self.bytes_written += count
            sent += count

    async def send_eof(self) -> None:
        """Shuts the writing side down."""
        if self.closed:
            raise trio.ClosedResourceError
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the socket; whoever waits on it gets ``trio.ClosedResourceError``."""
        if not self.closed:
            self.closed = True
            if self._readiness is not None:
                self._readiness.close()
            notify_closing(self._fd)
            self.socket.close()

    def reset(self) -> None:
        """Closes so that the peer sees a reset rather than an end (RFC 9112 §9.6 after a cut body)."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close()

    def lost(self, error: OSError) -> Exception:
        """What to raise for an error of this socket, which is remembered."""
        if self.closed:
            return trio.ClosedResourceError()
        self.error = error.with_traceback(None)
        host, port = self.peer
        return caused(ConnectionLost(f"connection to {host}:{port}: {error.strerror or error}"), error)


def address_of(name: object) -> Address:
    """``(host, port)`` of what the socket module returns; a Unix path becomes ``(path, 0)``, an IPv4 address
    mapped into IPv6 itself."""
    if isinstance(name, tuple) and len(name) >= 2:
        host = str(name[0])
        return (host[7:] if host.startswith("::ffff:") and "." in host else host, int(name[1]))
    return (name.decode(errors="replace") if isinstance(name, bytes) else str(name), 0)


def _peer_of(sock: socket.socket) -> Address:
    try:
        return address_of(sock.getpeername())
    except OSError:
        return ("", 0)
