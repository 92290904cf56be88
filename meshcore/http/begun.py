"""A body whose beginning somebody has read already."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from meshcore.http.body import Body, EndOfStream

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BegunBody"]


class BegunBody(Body):
    """Gives what was read of a body again, and then the rest of it as it comes.

    Args:
        chunks: what was read; none of them empty.
        inner: the body, with one consumer from now on: this one.
    """

    __slots__ = ("_aborting", "_begun", "_inner")

    def __init__(self, chunks: Iterable[bytes], inner: Body) -> None:
        super().__init__(inner.size_hint)
        self._begun = deque(chunks)
        self._inner = inner
        self._aborting = False
        if inner.end is None:
            inner.on_end(self._ended)
        elif not self._begun:
            self.end = inner.end

    def _ended(self, end: EndOfStream) -> None:
        # A good end comes after what was read; a bad one cannot wait for somebody to ask.
        if end.error is not None and self.end is None and not self._aborting:
            self._begun.clear()
            self._finish(end)

    def receive_nowait(self) -> bytes:
        """See :class:`~meshcore.http.body.Body`."""
        if self._begun:
            return self._take(self._begun.popleft())
        return self._take(self._inner.receive_nowait())

    async def receive_some(self) -> bytes:
        """See :class:`~meshcore.http.body.Body`."""
        if self._begun:
            return self._take(self._begun.popleft())
        return self._take(await self._inner.receive_some())

    def _take(self, data: bytes) -> bytes:
        if data and self._on_first_data is not None:
            self._data_taken()
        end = self._inner.end
        if end is not None and self.end is None and not self._begun:
            self._finish(end)
        return data

    def unwanted(self) -> None:
        """See :class:`~meshcore.http.body.Body`."""
        self._inner.unwanted()

    def _release(self, error: BaseException | None) -> None:
        self._aborting = True
        self._begun.clear()
        self._inner.abort(error)
