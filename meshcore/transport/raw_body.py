"""Bodies whose bytes lie in a socket as they are, so that they can be moved on unread."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

import trio

from meshcore.errors import ConnectionLost
from meshcore.http.body import Body
from meshcore.transport.splice import splice_sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.transport.socket import SocketConnection

__all__ = ["WORTH_MOVING", "RawBody", "move"]

WORTH_MOVING: Final = 1 << 18
"""Bytes to come below which a body is read and written as ever."""

_LAST: Final = 1 << 14


class RawBody(Body):
    """A body of which it may be known that so many bytes of a socket are its next ones."""

    __slots__ = ()

    @abstractmethod
    def raw(self) -> tuple[SocketConnection, int] | None:
        """The socket, and how many bytes are still to come of it; None where that cannot be said."""

    @abstractmethod
    def passed(self, count: int) -> None:
        """So many of those bytes, never all of them, have been moved on past this body."""


async def move(body: RawBody, sink: SocketConnection, most: int, sent: Callable[[int], None]) -> None:
    """Moves what is to come of *body* to *sink* in the kernel, all but its last bytes.

    Args:
        body: nothing that has been taken from it is waiting to be sent.
        sink: where it goes.
        most: bytes that may be sent there.
        sent: called with the number of bytes after each move.

    However far that goes, the body is read on as ever afterwards, and says itself if its connection is broken.

    Raises:
        ConnectionLost: *sink* is broken.
        trio.ClosedResourceError: *sink* was closed here.
    """
    raw = body.raw()
    if raw is None:
        return
    source, left = raw
    left = min(left, most) - _LAST
    if left < WORTH_MOVING:
        return

    def moved(count: int) -> None:
        body.passed(count)
        sent(count)

    try:
        await splice_sockets(source, sink, moved, left)
    except (ConnectionLost, trio.ClosedResourceError):
        if sink.closed or sink.error is not None:
            raise
