"""Looking at the trailers of a short response before it is passed on (R-10)."""

from __future__ import annotations

from collections import deque

import trio

from meshcore.errors import MeshError
from meshcore.http.body import Body, EndOfStream

__all__ = ["Peeked", "peek"]


async def peek(body: Body) -> Body:
    """Waits for the first piece of *body*; the body to pass on, which begins with what was taken.

    Its ``end`` is known if there was nothing more: trailers that come after at most one piece, and with it or right
    after it.  Whatever comes later is not waited for.
    """
    # By a name of its own: the compiler would take it that the body's is None from here on.
    end = body.end
    if end is not None:
        return body
    chunks: deque[bytes] = deque()
    try:
        first = await body.receive_some()
        if first:
            chunks.append(first)
            if body.end is None:
                second = body.receive_nowait()
                if second:
                    chunks.append(second)
    except (trio.WouldBlock, MeshError):
        # Nothing more there yet; or it broke, which whoever reads on finds out.
        pass
    except BaseException:
        body.abort()
        raise
    return Peeked(body, chunks)


class Peeked(Body):
    """A body of which something was taken already.

    Attributes:
        known: how it ends, where that is known after at most one piece; None otherwise.
    """

    __slots__ = ("_aborting", "_chunks", "_inner", "known")

    def __init__(self, inner: Body, chunks: deque[bytes]) -> None:
        super().__init__(inner.size_hint)
        self._inner = inner
        self._chunks = chunks
        self._aborting = False
        self.known: EndOfStream | None = inner.end if len(chunks) < 2 else None
        if inner.end is None or not chunks:
            inner.on_end(self._inner_ended)

    def _inner_ended(self, end: EndOfStream) -> None:
        # With something left of what was taken, the end comes after that.
        if not self._chunks and not self._aborting:
            self._ended(end)

    def receive_nowait(self) -> bytes:
        """The next chunk: first what was taken."""
        end = self.end
        if end is not None:
            if end.error is not None:
                raise end.error
            return b""
        inner = self._inner
        if self._chunks:
            data = self._chunks.popleft()
        else:
            try:
                data = inner.receive_nowait()
            except MeshError as error:
                self._ended(inner.end or EndOfStream([], error))
                raise
        if data and self._on_first_data is not None:
            self._data_taken()
        end = inner.end
        if end is not None and not self._chunks and (end.error is None or not data):
            self._ended(end)
        return data

    async def receive_some(self) -> bytes:
        """The next chunk, waiting for one if need be."""
        if self._chunks or self.end is not None:
            return self.receive_nowait()
        inner = self._inner
        try:
            data = await inner.receive_some()
        except MeshError as error:
            self._ended(inner.end or EndOfStream([], error))
            raise
        if data and self._on_first_data is not None:
            self._data_taken()
        end = inner.end
        if end is not None and (end.error is None or not data):
            self._ended(end)
        return data

    def _ended(self, end: EndOfStream) -> None:
        # It may have been given up meanwhile.
        if self.end is None:
            self._finish(end)

    def _release(self, error: BaseException | None) -> None:
        self._aborting = True
        self._chunks.clear()
        self._inner.abort(error)
