"""A body that passes as it is, and of which somebody keeps a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.http.body import Body, EndOfStream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OverheardBody"]


class OverheardBody(Body):
    """Passes another body on and keeps what has passed, up to *limit* bytes.

    Args:
        inner: the body.
        limit: of what is kept.
        heard: called once at the end, with all of it; None: it was longer.
    """

    __slots__ = ("_aborting", "_heard", "_inner", "_kept", "_left")

    def __init__(self, inner: Body, limit: int, heard: Callable[[bytes | None, EndOfStream], None]) -> None:
        super().__init__(inner.size_hint)
        self._inner = inner
        self._aborting = False
        self._kept: list[bytes] | None = []
        self._left = limit
        self._heard = heard
        self.on_end(self._tell)
        inner.on_end(self._ended)

    def _ended(self, end: EndOfStream) -> None:
        # A good end comes with the last chunk and is told once that has been kept.
        if end.error is not None and self.end is None and not self._aborting:
            self._finish(end)

    def _tell(self, end: EndOfStream) -> None:
        kept, self._kept = self._kept, None
        self._heard(None if kept is None else b"".join(kept), end)

    def receive_nowait(self) -> bytes:
        """See ``Body``."""
        return self._keep(self._inner.receive_nowait())

    async def receive_some(self) -> bytes:
        """See ``Body``."""
        return self._keep(await self._inner.receive_some())

    def _keep(self, data: bytes) -> bytes:
        if data:
            if self._kept is not None:
                self._left -= len(data)
                if self._left < 0:
                    self._kept = None
                else:
                    self._kept.append(data)
            if self._on_first_data is not None:
                self._data_taken()
        end = self._inner.end
        if end is not None and self.end is None:
            self._finish(end)
        return data

    def _release(self, error: BaseException | None) -> None:
        self._aborting = True
        self._inner.abort(error)
