"""Looking at the first bytes of a connection without taking them from whoever reads it next."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from meshcore.transport.connection import Connection
    from meshcore.transport.socket import SocketConnection

__all__ = ["Lookahead"]


class Lookahead:
    """The first bytes of a connection, while nobody else reads it.

    On a TCP socket they are peeked at and stay in the system's hands, so that OpenSSL, or the kernel's
    splicing, finds them there.  Anywhere else, and where a wait for more of them brought none (the end, or a
    system that wakes for less), they are read, and put back by :meth:`put_back`.

    Attributes:
        data: what has been seen so far.
        ended: whether the peer will send no more.
    """

    __slots__ = ("_connection", "_most", "_socket", "data", "ended")

    def __init__(self, connection: Connection, most: int) -> None:
        plain = connection.plain_socket()
        if plain is not None and plain.socket.family not in (socket.AF_INET, socket.AF_INET6):
            # SO_RCVLOWAT is TCP's.
            plain = None
        self._connection = connection
        self._socket: SocketConnection | None = plain
        self._most = most
        self.data = b""
        self.ended = False

    def look(self) -> None:
        """Sees what is there at once, at most so many bytes as this was made for.

        Raises:
            ConnectionLost: the connection broke.
        """
        try:
            if self._socket is not None:
                self.data = self._socket.peek_nowait(self._most)
                self.ended = not self.data
            else:
                self._took(self._connection.receive_nowait(self._most))
        except trio.WouldBlock:
            pass

    async def wait_for(self, count: int) -> None:
        """Waits until *count* bytes have been seen, or until the end.  Cancelled, it has lost none.

        Raises:
            ConnectionLost: the connection broke.
        """
        while len(self.data) < count and not self.ended:
            if self._socket is None:
                self._took(await self._connection.receive_some(self._most))
                continue
            await self._socket.wait_for(count)
            self.look()
            if len(self.data) < count:
                # To wait for them again might be to spin.
                self._socket = None
                self.data = b""
                self.ended = False

    def put_back(self) -> None:
        """Leaves what was read to the next reader.  To be called once, at the end."""
        if self._socket is None and self.data:
            self._connection.unread(self.data)

    def _took(self, data: bytes) -> None:
        self.data += data
        self.ended = not data
