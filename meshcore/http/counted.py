"""A body whose bytes are counted, for those whose size nobody declared."""

from __future__ import annotations

from meshcore.http.body import Body, EndOfStream

__all__ = ["CountedBody"]


class CountedBody(Body):
    """Passes another body on and counts its bytes.

    Attributes:
        counted: bytes taken until now.
    """

    __slots__ = ("_aborting", "_inner", "counted")

    def __init__(self, inner: Body) -> None:
        super().__init__(inner.size_hint)
        self._inner = inner
        self._aborting = False
        self.counted = 0
        inner.on_end(self._ended)

    def _ended(self, end: EndOfStream) -> None:
        # A good end comes with the last chunk and is told once that has been counted.
        if end.error is not None and self.end is None and not self._aborting:
            self._finish(end)

    def receive_nowait(self) -> bytes:
        """See ``Body``."""
        return self._count(self._inner.receive_nowait())

    async def receive_some(self) -> bytes:
        """See ``Body``."""
        return self._count(await self._inner.receive_some())

    def _count(self, data: bytes) -> bytes:
        if data:
            self.counted += len(data)
            if self._on_first_data is not None:
                self._data_taken()
        end = self._inner.end
        if end is not None and self.end is None:
            self._finish(end)
        return data

    def _release(self, error: BaseException | None) -> None:
        self._aborting = True
        self._inner.abort(error)
