"""Bodies: bytes that arrive over time, their end, and who hears of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from meshcore._native import mypyc_attr
from meshcore._wakeup import Wakeup
from meshcore.errors import BodyAbandoned, MeshError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["Body", "Chunks", "Empty", "EndOfStream", "Full", "read_all"]


class EndOfStream:
    """How a body ended.

    Attributes:
        trailers: the trailer fields; ``[]`` for none.
        error: None for a complete body; what broke it otherwise.
    """

    __slots__ = ("error", "trailers")

    def __init__(self, trailers: Fields | None = None, error: BaseException | None = None) -> None:
        self.trailers: Fields = [] if trailers is None else trailers
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EndOfStream) and self.trailers == other.trailers and self.error == other.error

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"EndOfStream(trailers={self.trailers!r}, error={self.error!r})"


_COMPLETE = EndOfStream()

_MANY: Final = 64
"""Chunks that have been taken, and are worth moving the others for."""

EndCallback: TypeAlias = Callable[[EndOfStream], None]


@mypyc_attr(allow_interpreted_subclasses=True)
class Body(ABC):
    """A stream of bytes with an end that may carry trailers or an error.

    One consumer.  ``end`` is None until the consumer has taken the last byte (or somebody aborted)
    and is set exactly once; it may be set together with the last chunk, so that a sender can put
    END_STREAM on it.  ``on_end`` replaces handles that must be dropped: metrics, load, permits and
    logs hear of the end once, synchronously, in reverse order of registration, at no cost per chunk.

    Subclasses call ``_data_taken`` when they hand out the first chunk and ``_finish`` at the end.
    """

    __slots__ = ("__weakref__", "_on_end", "_on_first_data", "end", "size_hint")

    def __init__(self, size_hint: int | None = None) -> None:
        self.end: EndOfStream | None = None
        self.size_hint = size_hint
        self._on_end: list[EndCallback] | None = None
        self._on_first_data: list[Callable[[], None]] | None = None

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """The next chunk, which is never empty; ``b""`` at the end.

        Raises:
            trio.WouldBlock: nothing is there yet.
            MeshError: the body broke (the same error again on every further call).
        """

    @abstractmethod
    async def receive_some(self) -> bytes:
        """As ``receive_nowait``, but waits; not a checkpoint where a chunk is there already."""

    @abstractmethod
    def _release(self, error: BaseException | None) -> None:
        """Gives back what the body holds, at ``abort``: resets the stream, returns unread credit.
        Called once, before the callbacks.  Must not raise or wait."""

    def abort(self, error: BaseException | None = None) -> None:
        """Gives the body up: nothing more will be read.  Synchronous, idempotent, never raises.

        *error* is what its end says (default: a cancellation).  Whoever does not return a response
        aborts its body.
        """
        if self.end is None:
            reason = error if error is not None else BodyAbandoned()
            self._release(reason)
            self._finish(EndOfStream([], reason))

    def on_end(self, callback: EndCallback) -> None:
        """Calls *callback* once with the :class:`EndOfStream`; at once if it has ended already."""
        if self.end is not None:
            callback(self.end)
        elif self._on_end is None:
            self._on_end = [callback]
        else:
            self._on_end.append(callback)

    def on_first_data(self, callback: Callable[[], None]) -> None:
        """Calls *callback* once, when the first chunk is taken, or at the end of a body that had none
        (the sample of latency ends here: B-03)."""
        if self.end is not None:
            callback()
        elif self._on_first_data is None:
            self._on_first_data = [callback]
        else:
            self._on_first_data.append(callback)

    def unwanted(self) -> None:
        """The message that it belongs to is answered to its end, or its stream is over, although nobody has given it
        up: a hook for bodies that somebody fills, who would wait for it to be read.  Synchronous, never raises."""

    def observe(self, first_data: Callable[[], None], ended: EndCallback) -> None:
        """``on_first_data`` and ``on_end`` in one call, for layers that want both of every response."""
        end = self.end
        if end is not None:
            first_data()
            ended(end)
            return
        if self._on_first_data is None:
            self._on_first_data = [first_data]
        else:
            self._on_first_data.append(first_data)
        if self._on_end is None:
            self._on_end = [ended]
        else:
            self._on_end.append(ended)

    @property
    def is_end_stream(self) -> bool:
        """Nothing more will come, and all of it has been taken."""
        return self.end is not None

    def _data_taken(self) -> None:
        callbacks = self._on_first_data
        if callbacks is not None:
            self._on_first_data = None
            for callback in reversed(callbacks):
                callback()

    def _finish(self, end: EndOfStream) -> None:
        self.end = end
        if self._on_first_data is not None:
            self._data_taken()
        callbacks = self._on_end
        if callbacks is not None:
            self._on_end = None
            for callback in reversed(callbacks):
                callback(end)

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.receive_some()
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Empty(Body):
    """A body without bytes, ended from the start."""

    __slots__ = ()

    def __init__(self, trailers: Fields | None = None) -> None:
        super().__init__(0)
        self.end = EndOfStream(trailers) if trailers else _COMPLETE

    def receive_nowait(self) -> bytes:
        """``b""``."""
        return b""

    async def receive_some(self) -> bytes:
        """``b""``, at once."""
        return b""

    def _release(self, error: BaseException | None) -> None:
        pass


class Full(Body):
    """A body whose bytes are all there."""

    __slots__ = ("_data", "_trailers")

    def __init__(self, data: bytes, trailers: Fields | None = None) -> None:
        super().__init__(len(data))
        self._data = data
        self._trailers = trailers
        if not data:
            self.end = EndOfStream(trailers) if trailers else _COMPLETE

    def receive_nowait(self) -> bytes:
        """All of it, once."""
        end = self.end
        if end is not None:
            if isinstance(end.error, MeshError):
                raise end.error
            return b""
        data, self._data = self._data, b""
        self._data_taken()
        self._finish(EndOfStream(self._trailers) if self._trailers else _COMPLETE)
        return data

    async def receive_some(self) -> bytes:
        """All of it, at once."""
        return self.receive_nowait()

    def _release(self, error: BaseException | None) -> None:
        self._data = b""


@mypyc_attr(allow_interpreted_subclasses=True)
class Chunks(Body):
    """A body that somebody fills while another consumes: the queue of an HTTP/2 stream, or of a test.

    It does not bound itself: whoever pushes is bounded by the protocol's window, whose credit
    ``_consumed`` returns when the consumer takes a chunk.
    """

    __slots__ = ("_chunks", "_last", "_taken", "_wakeup")

    def __init__(self, size_hint: int | None = None) -> None:
        super().__init__(size_hint)
        # A list, for most bodies are one chunk: those taken stay in it, empty, until it is worth moving the rest.
        self._chunks: list[bytes] = []
        self._taken = 0
        self._last: EndOfStream | None = None
        # Made by the first who waits: mostly nobody has to.
        self._wakeup: Wakeup | None = None

    def push(self, data: bytes) -> None:
        """Appends a chunk (not empty); ignored once the body has ended."""
        if self.end is None:
            self._chunks.append(data)
            self._wake()

    def _wake(self) -> None:
        """Something has changed for whoever waits."""
        if self._wakeup is not None:
            self._wakeup.wake()

    def _news(self) -> Awaitable[None]:
        """Waits for the next ``_wake``; whoever waits has looked just before whether there is a need to."""
        wakeup = self._wakeup
        if wakeup is None:
            wakeup = self._wakeup = Wakeup()
        return wakeup.wait()

    def _next(self) -> bytes:
        """Takes the oldest chunk; there has to be one."""
        chunks = self._chunks
        place = self._taken
        data = chunks[place]
        place += 1
        if place == len(chunks):
            chunks.clear()
            place = 0
        elif place >= _MANY and place * 2 >= len(chunks):
            del chunks[:place]
            place = 0
        else:
            chunks[place - 1] = b""
        self._taken = place
        return data

    def push_end(self, trailers: Fields | None = None) -> None:
        """No more chunks; the trailers come with the end."""
        if self._last is None and self.end is None:
            self._last = EndOfStream(trailers) if trailers else _COMPLETE
            if not self._chunks:
                self._finish(self._last)
            self._wake()

    def push_error(self, error: BaseException) -> None:
        """The producer broke: what was not taken is dropped, and the consumer gets the error."""
        if self.end is None:
            self._drop()
            self._finish(EndOfStream([], error))
            self._wake()

    def receive_nowait(self) -> bytes:
        """The oldest chunk."""
        if self._chunks:
            data = self._next()
            self._consumed(data)
            if self._on_first_data is not None:
                self._data_taken()
            if not self._chunks and self._last is not None:
                self._finish(self._last)
            return data
        end = self.end
        if end is None:
            raise trio.WouldBlock
        if end.error is not None:
            raise end.error
        return b""

    async def receive_some(self) -> bytes:
        """The oldest chunk, waiting for one if need be."""
        while not self._chunks and self.end is None:
            await self._news()
        return self.receive_nowait()

    def take_whole(self, limit: int) -> bytes | None:
        """What is left of it, where that has come in one chunk of at most *limit* bytes, without trailers; else None,
        and nothing is taken."""
        last = self._last
        chunks = self._chunks
        if last is None or last.trailers or len(chunks) - self._taken != 1 or len(chunks[-1]) > limit:
            return None
        return self.receive_nowait()

    @property
    def buffered(self) -> int:
        """Bytes pushed and not yet taken."""
        return sum(map(len, self._chunks))

    def _consumed(self, data: bytes) -> None:
        """The consumer took *data*: where credit is returned."""

    def _drop(self) -> None:
        """Throws away what was not taken; subclasses return its credit."""
        self._chunks.clear()
        self._taken = 0

    def _release(self, error: BaseException | None) -> None:
        self._drop()
        self._wake()


async def read_all(body: Body, limit: int = 1 << 20) -> bytes:
    """The whole body as one value, for small ones.

    Raises:
        ValueError: it is longer than *limit* bytes; the body is aborted.
        MeshError: it broke.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        chunk = await body.receive_some()
        if not chunk:
            return b"".join(parts)
        size += len(chunk)
        if size > limit:
            body.abort()
            raise ValueError(f"body is longer than {limit} bytes")
        parts.append(chunk)
