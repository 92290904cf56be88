"""Large reads: one buffer for all connections, taken for as long as nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from typing import Self

    from meshcore.codec.events import Event
    from meshcore.transport.http2 import Http2Link
    from meshcore.transport.socket import SocketConnection

__all__ = ["BULK_SIZE", "BulkRead"]

BULK_SIZE: Final = 524_288
"""Bytes of one large read at most."""


# As many as there are threads that read at the same moment.
_buffers: Final[list[memoryview]] = []


class BulkRead:
    """One large read of an HTTP/2 connection, as a context in which nothing may wait.

    Bytes of 64 KiB and more that are made anew for each read cost more in page faults than the read itself, and
    a buffer kept for each connection costs memory; so there is one, and what it holds has been sent, or copied,
    when the context ends.
    """

    __slots__ = ("_link", "_socket", "_view", "size")

    def __init__(self, link: Http2Link[Any], socket: SocketConnection) -> None:
        self._link = link
        self._socket = socket

    def __enter__(self) -> Self:
        try:
            self._view = _buffers.pop()
        except IndexError:
            self._view = memoryview(bytearray(BULK_SIZE))
        return self

    def read(self) -> list[Event] | None:
        """The events of what can be read at once; None at the end of the stream.  ``size`` is its number of bytes.

        Raises:
            ConnectionLost: the connection broke.
            trio.ClosedResourceError: it was closed here.
        """
        view, codec = self._view, self._link.codec
        begun = codec.take_partial()
        start = len(begun)
        view[:start] = begun
        try:
            self.size = size = self._socket.receive_into(view[start:])
        except trio.WouldBlock:
            self.size = size = 0
        else:
            if not size:
                return None
        return codec.receive_bulk(view[: start + size], trio.current_time(), self._link.takers)

    def __exit__(self, *_: object) -> None:
        if self._link.relayed:
            self._link.flush_relayed()
        _buffers.append(self._view)
