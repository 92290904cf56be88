"""The clients of the admin server, and how many of them there may be: who asks slowly must not keep others from asking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from meshcore.admin.page import text_page
from meshcore.http.body import Body, EndOfStream, Full
from meshcore.http.message import Request, Response, Timeouts

if TYPE_CHECKING:
    import trio

    from meshcore.abc import HttpService, NewAccept, Service
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Address

__all__ = ["Crowd", "Pieces"]

T = TypeVar("T")

PIECE = 65_536
"""Bytes of a large answer that are handed out at a time."""
_TIME = Timeouts(response=30.0)
"""For an answer that is all there."""
_PROBES = (b"/live", b"/ready")


class Crowd:
    """Bounds the connections and the answers under way.

    A connection that is one too many takes the place of the one that has been without a request for longest; where all
    are at work it is closed.  So probes are answered although somebody opens connections and leaves them.

    Args:
        connections: at a time.
        answers: of more than one piece, at a time; further ones are answered 503.  Streams are not among them.
    """

    def __init__(self, connections: int = 64, answers: int = 8) -> None:
        self._connections = connections
        self._answers = answers
        # By the client's address, in the order in which they have become idle or have come.
        self._guests: dict[Address, _Guest] = {}
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<Crowd connections={len(self._guests)} answers={self._under_way}>"

    def guarding(self, inner: NewAccept[T]) -> NewAccept[T]:
        """Serves the connections that there is room for."""
        return _NewGuests(self, inner)

    def enter(self, connection: Connection) -> _Guest | None:
        """Makes room for a connection; None: there is none."""
        if len(self._guests) >= self._connections:
            idle = next((each for each in self._guests.values() if not each.busy), None)
            if idle is None:
                return None
            del self._guests[idle.connection.peer]
            idle.connection.close()
        guest = self._guests[connection.peer] = _Guest(connection)
        return guest

    def leave(self, guest: _Guest) -> None:
        """The connection is over."""
        if self._guests.get(guest.connection.peer) is guest:
            del self._guests[guest.connection.peer]

    def answering(self, service: HttpService) -> HttpService:
        """*service*, which answers so much at a time; what it answers is handed out in pieces, and in time."""

        async def answer(request: Request) -> Response:
            connection = request.connection
            guest = self._guests.get(connection.peer) if connection is not None else None
            if guest is not None:
                guest.busy += 1
            try:
                response = self._bounded(request, await service(request))
            except BaseException:
                if guest is not None:
                    self._idle(guest)
                raise
            if guest is not None:
                response.body.on_end(lambda _: self._idle(guest))
            return response

        return answer

    def _idle(self, guest: _Guest) -> None:
        guest.busy -= 1
        peer = guest.connection.peer
        if self._guests.get(peer) is guest:
            # To the end of the line.
            del self._guests[peer]
            self._guests[peer] = guest

    def _bounded(self, request: Request, response: Response) -> Response:
        body = response.body
        if not isinstance(body, Full) or body.end is not None:
            return response
        request.timeouts = _TIME
        if (body.size_hint or 0) <= PIECE:
            return response
        if self._under_way >= self._answers and request.path not in _PROBES:
            body.abort()
            response = text_page(503, "busy: too many large answers are being read\n")
            response.headers.add(b"retry-after", b"1")
            return response
        self._under_way += 1
        response.body = Pieces(body.receive_nowait())
        response.body.on_end(self._over)
        return response

    def _over(self, end: EndOfStream) -> None:
        self._under_way -= 1


class _Guest:
    """A connection.

    Attributes:
        connection: it.
        busy: requests under way on it.
    """

    __slots__ = ("busy", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.busy = 0


class _NewGuests(Generic[T]):
    """Makes services for connections that there is room for."""

    def __init__(self, crowd: Crowd, inner: NewAccept[T]) -> None:
        self._crowd = crowd
        self._inner = inner

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves one connection."""
        inner = self._inner.new_service(target, nursery)

        async def serve(connection: Connection) -> None:
            guest = self._crowd.enter(connection)
            if guest is None:
                connection.close()
                return
            try:
                await inner(connection)
            finally:
                self._crowd.leave(guest)

        return serve


class Pieces(Body):
    """Bytes that are all there, handed out piece by piece: the end comes when the last one is taken, so that whoever
    counts bodies sees how far the client has read."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data
        self._at = 0
        if not data:
            self.end = EndOfStream()

    def receive_nowait(self) -> bytes:
        """The next piece; see ``Body``."""
        if self.end is not None:
            if self.end.error is not None:
                raise self.end.error
            return b""
        piece = self._data[self._at : self._at + PIECE]
        self._at += len(piece)
        self._data_taken()
        if self._at >= len(self._data):
            self._data = b""
            self._finish(EndOfStream())
        return piece

    async def receive_some(self) -> bytes:
        """The next piece, at once."""
        return self.receive_nowait()

    def _release(self, error: BaseException | None) -> None:
        self._data = b""


