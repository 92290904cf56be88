"""Request bodies that can be sent again: kept while they are read, up to a limit."""

from __future__ import annotations

import trio

from meshcore._wakeup import WakeupQueue
from meshcore.errors import MeshError, StreamReset
from meshcore.http.body import Body, EndOfStream, Full

__all__ = ["REPLAY_LIMIT", "Replay", "ReplayBody", "Whole"]

REPLAY_LIMIT = 65_536
"""Bytes of a request body that are kept for another try (R-07)."""


class Replay:
    """Keeps what is read of a body, so that a further try can begin with it again.

    Each try reads a :class:`ReplayBody` of its own, from the first byte, while the body itself may still be
    arriving.  Once *limit* bytes have passed, or after ``commit``, nothing is kept any more.  Aborting one
    try's body does not abort the body itself before ``commit``.

    Attributes:
        replayable: whether another try can still be made.
    """

    __slots__ = (
        "_aborted",
        "_chunks",
        "_committed",
        "_inner",
        "_limit",
        "_readers",
        "_reading",
        "_size",
        "_view",
        "replayable",
    )

    def __init__(self, inner: Body, limit: int = REPLAY_LIMIT) -> None:
        self._inner = inner
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._reading = False
        self._readers = WakeupQueue()
        self._committed = False
        self._aborted: BaseException | None = None
        self._view: ReplayBody | None = None
        self.replayable = inner.size_hint is None or inner.size_hint <= limit

    def body(self) -> ReplayBody:
        """The body of the next try, from the first byte; the one before it breaks off.

        Raises:
            RuntimeError: it is too late for that.
        """
        if self._view is not None and not self.replayable:
            raise RuntimeError("this body cannot be replayed any more")
        before, self._view = self._view, None
        if before is not None:
            before.detach()
        self._aborted = None
        self._view = ReplayBody(self, self._inner.size_hint)
        self._readers.wake_all()
        return self._view

    @property
    def complete(self) -> bool:
        """Whether the body itself has been read to its end."""
        return self._inner.end is not None

    def commit(self) -> None:
        """There will be no further try: nothing more is kept, and an abort of the last one's body counts."""
        if self._committed:
            return
        self._committed = True
        self.replayable = False
        view = self._view
        if view is None or view.position >= len(self._chunks):
            self._forget(view)
        if self._aborted is not None:
            self._inner.abort(self._aborted)

    def _forget(self, view: ReplayBody | None) -> None:
        self._chunks.clear()
        if view is not None:
            view.position = 0

    def take(self, view: ReplayBody) -> bytes:
        """The next chunk for *view*; see ``Body.receive_nowait``."""
        chunks = self._chunks
        if view.position < len(chunks):
            data = chunks[view.position]
            view.position += 1
        else:
            if self._reading:
                raise trio.WouldBlock
            data = self._inner.receive_nowait()
            if data:
                self._keep(view, data)
        if not self.replayable and view.position >= len(chunks):
            self._forget(view)
        return data

    async def wait(self, view: ReplayBody) -> None:
        """Waits until ``take`` may have something for *view*."""
        if self._reading:
            # A try that broke off is still waiting for the chunk: it leaves it in the list.
            await self._readers.wait()
            return
        self._reading = True
        try:
            data = await self._inner.receive_some()
        finally:
            self._reading = False
            self._readers.wake_all()
        if data:
            self._append(data)

    def _append(self, data: bytes) -> None:
        """Keeps a chunk for whichever view comes to it."""
        self._size += len(data)
        self._chunks.append(data)
        if self._size > self._limit:
            self.replayable = False

    def _keep(self, view: ReplayBody, data: bytes) -> None:
        if self.replayable:
            self._append(data)
            view.position = len(self._chunks)

    def ended(self, view: ReplayBody) -> EndOfStream | None:
        """How the body ended, once *view* has had all of it."""
        return self._inner.end if view.position >= len(self._chunks) else None

    def aborted(self, view: ReplayBody, error: BaseException | None) -> None:
        """*view* was given up: so is the body, unless another try may come."""
        if view is not self._view:
            return
        if self._committed:
            self._inner.abort(error)
        else:
            self._aborted = error


class Whole:
    """What stands for a :class:`Replay` where the body had come whole, in one chunk, before the first try.

    Attributes:
        replayable: it is.
        complete: it is.
    """

    __slots__ = ("_data", "complete", "replayable")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.complete = self.replayable = True

    def body(self) -> Body:
        """The body of the next try."""
        return Full(self._data)

    def commit(self) -> None:
        """There is nothing to let go of."""


class ReplayBody(Body):
    """One try's view of a body that is kept for further tries; made by :class:`Replay`."""

    __slots__ = ("_replay", "position")

    def __init__(self, replay: Replay, size_hint: int | None) -> None:
        super().__init__(size_hint)
        self._replay = replay
        self.position = 0

    def receive_nowait(self) -> bytes:
        """The next chunk, from what was kept or from the body."""
        end = self.end
        if end is not None:
            if end.error is not None:
                raise end.error
            return b""
        replay = self._replay
        try:
            data = replay.take(self)
        except MeshError as error:
            self._finish(replay.ended(self) or EndOfStream([], error))
            raise
        if data and self._on_first_data is not None:
            self._data_taken()
        end = replay.ended(self)
        if end is not None and (end.error is None or not data):
            self._finish(end)
        return data

    async def receive_some(self) -> bytes:
        """The next chunk, waiting for one if need be."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                pass
            try:
                await self._replay.wait(self)
            except MeshError:
                # The body broke; everyone who reads on finds out by `receive_nowait`.
                continue

    def abort(self, error: BaseException | None = None) -> None:
        """Gives it up, unless it has come to its end without anybody's having looked."""
        end = self._replay.ended(self) if self.end is None else None
        if end is not None and end.error is None:
            self._finish(end)
        else:
            super().abort(error)

    def detach(self) -> None:
        """Breaks off: another try has taken over."""
        if self.end is None:
            self._finish(EndOfStream([], StreamReset("another try has taken over the request body")))

    def _release(self, error: BaseException | None) -> None:
        self._replay.aborted(self, error)
