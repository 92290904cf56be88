"""A connection over any ``trio.abc.Stream``: memory streams in tests, whatever an embedder brings."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import trio

from meshcore.errors import ConnectionLost
from meshcore.transport.connection import READ_SIZE, Connection
from meshcore.transport.socket import SocketConnection

if TYPE_CHECKING:
    from meshcore.transport.target import Address

__all__ = ["StreamConnection", "close_at_once", "connection_over"]

_PIECE: Final = 16_384
_NOWHERE: Final = ("memory", 0)


class StreamConnection(Connection):
    """The adapter: a stream can neither be read nor written without waiting, so the ``_nowait`` forms say so."""

    __slots__ = ("stream",)

    def __init__(self, stream: trio.abc.Stream, local: Address = _NOWHERE, peer: Address = _NOWHERE) -> None:
        super().__init__(local, peer)
        self.stream = stream

    def __repr__(self) -> str:
        return f"<StreamConnection {self.local} <-> {self.peer}{' closed' if self.closed else ''}>"

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`: only what was put back."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        raise trio.WouldBlock

    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        if self.closed:
            raise trio.ClosedResourceError
        try:
            data = bytes(await self.stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise self._lost(error) from error
        self.bytes_read += len(data)
        return data

    def send_nowait(self, data: bytes) -> int:
        """See :class:`Connection`: takes nothing."""
        return 0

    async def send_all(self, data: bytes) -> None:
        """See :class:`Connection`."""
        if self.closed:
            raise trio.ClosedResourceError
        try:
            # In pieces, so that it can be seen that a slow reader takes some.
            for offset in range(0, len(data), _PIECE):
                piece = data[offset : offset + _PIECE] if len(data) > _PIECE else data
                await self.stream.send_all(piece)
                self.bytes_written += len(piece)
        except trio.BrokenResourceError as error:
            raise self._lost(error) from error

    async def send_eof(self) -> None:
        """Half-closes, where the stream can; closes it otherwise (TLS streams)."""
        if self.closed:
            raise trio.ClosedResourceError
        if isinstance(self.stream, trio.abc.HalfCloseableStream):
            try:
                await self.stream.send_eof()
            except trio.BrokenResourceError as error:
                raise self._lost(error) from error
        else:
            self.close()

    def close(self) -> None:
        """Closes at once, synchronously."""
        if not self.closed:
            self.closed = True
            close_at_once(self.stream)

    def reset(self) -> None:
        """Closes so that the peer sees a reset, where the stream has a ``reset``."""
        reset = getattr(self.stream, "reset", None)
        if not self.closed and callable(reset):
            reset()
        self.close()

    def _lost(self, error: BaseException) -> ConnectionLost:
        self.error = error
        return ConnectionLost(f"connection to {self.peer[0]}:{self.peer[1]}: {error}")


def connection_over(stream: trio.abc.Stream | Connection) -> Connection:
    """The connection over any stream; the socket of a socket's stream is taken out of it and used directly.

    A stream that knows its addresses has them as ``local`` and ``peer``.
    """
    if isinstance(stream, Connection):
        return stream
    if isinstance(stream, trio.SocketStream):
        found = stream.socket
        return SocketConnection(socket.socket(found.family, found.type, found.proto, fileno=found.detach()))
    return StreamConnection(
        stream, getattr(stream, "local", None) or _NOWHERE, getattr(stream, "peer", None) or _NOWHERE
    )


def close_at_once(stream: object) -> None:
    """Closes a stream or a listener without waiting.

    Those in memory, those of sockets and the halves of a stapled stream have a way that does not wait.  For any
    other, ``aclose`` is run up to its first wait, which Trio's contract obliges it to treat as a
    cancellation: it must close all the same.
    """
    if isinstance(stream, trio.StapledStream):
        close_at_once(stream.send_stream)
        close_at_once(stream.receive_stream)
    elif isinstance(stream, trio.SocketStream | trio.SocketListener):
        stream.socket.close()
    elif callable(close := getattr(stream, "close", None)):
        close()
    elif isinstance(stream, trio.abc.AsyncResource):
        closing = stream.aclose()
        send = getattr(closing, "send", None)
        if send is not None:
            try:
                send(None)
            except (StopIteration, trio.BrokenResourceError):
                return
            closing.close()
