"""One HTTP/2 connection's way out: codec and socket joined, what is queued leaving in as few writes as possible.

Shared by the accepted and the connecting side (RFC 9113).  Tasks append frames to the codec and say so; who
writes is decided here.  With one stream open there is nothing to batch, so its task writes at once, without
waiting; with more, the writer task is woken once and, a scheduler pass later, sends every stream's frames in one
piece.  What the socket does not take is left to the writer, and while more than ``HIGH_WATER`` bytes are waiting
nobody adds a body's bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio

from meshcore._wakeup import Wakeup, WakeupQueue, checkpoint
from meshcore.errors import MeshError, StreamReset
from meshcore.transport.flow_body import FlowBody
from meshcore.transport.relay import Relay

if TYPE_CHECKING:
    from meshcore.codec.h2.connection import Connection as Codec
    from meshcore.codec.h2.interface import TakeFrame
    from meshcore.http.body import Body
    from meshcore.transport.connection import Connection

__all__ = ["HIGH_WATER", "READER_WATER", "Http2Link", "Sending", "send_body", "send_ready"]

HIGH_WATER = 65_536
"""Bytes that may wait for the socket before body senders have to (the heads and control frames of a connection
come on top; the reader stops at ``READER_WATER``)."""

READER_WATER = 8 * HIGH_WATER

TURNS = 16
"""Chunks of a body after which its sender yields to others although it need not wait."""

RELAY_AFTER = 1
"""Chunks of a body that its sender sends itself before it lets the reader of the body's connection do it."""

S = TypeVar("S")


class Http2Link(Generic[S]):
    """Codec, socket and the streams of one connection.

    Attributes:
        codec: the connection's codec.
        connection: its socket.
        streams: the exchanges under way, by stream.
        queued: body bytes in the codec that nobody has taken out yet.
        unsent: bytes taken out of the codec that the socket has not taken yet.
        flushes: how often something was given to the socket, so that it can be told whether a head has left.
        opened: streams begun so far.
        relayed: connections that were given what has come on this one, and not flushed yet.
        takers: by stream, who takes the DATA frames of large reads as they come.
        error: what broke the connection, if writing did.
    """

    __slots__ = (
        "_drained",
        "_due",
        "_parts",
        "_wakeup",
        "codec",
        "connection",
        "error",
        "flushes",
        "opened",
        "queued",
        "relayed",
        "streams",
        "takers",
        "unsent",
        "writing",
    )

    def __init__(self, codec: Codec, connection: Connection) -> None:
        self.codec = codec
        self.connection = connection
        self.streams: dict[int, S] = {}
        self.relayed: list[Http2Link[Any]] = []
        self.takers: dict[int, TakeFrame] = {}
        self.queued = 0
        self.unsent = 0
        self.flushes = 0
        self.opened = 0
        self.writing = False
        self.error: BaseException | None = None
        self._parts: list[bytes] = []
        self._due = False
        self._wakeup = Wakeup()
        self._drained = WakeupQueue()

    def flush_turn(self) -> None:
        """What is queued may leave: at once if one stream is open, with the others' in a moment if more are."""
        if len(self.streams) > 1:
            if not self._due:
                self._due = True
                self._wakeup.wake()
        else:
            self.flush()

    def flush_soon(self) -> None:
        """The writer shall send what is queued; for callers that are not to run into a system call."""
        if not self._due:
            self._due = True
            self._wakeup.wake()

    def flush(self) -> None:
        """Gives everything queued to the socket now; the writer sends what it does not take.  Never raises: a
        connection that breaks is closed, which its reader notices, and ``crash`` says if that was not to be
        expected."""
        data = self.codec.data_to_send()
        self.queued = 0
        if not data or self.error is not None:
            return
        if self.writing:
            self._parts.append(data)
            self.unsent += len(data)
            return
        try:
            sent = self.connection.send_nowait(data)
        except Exception as error:
            self.broke(error)
            return
        self.flushes += 1
        if sent < len(data):
            self._parts.append(data[sent:] if sent else data)
            self.unsent = len(data) - sent
            self.writing = True
            self._wakeup.wake()

    def flush_relayed(self) -> None:
        """For this connection's reader, when all that it has read is dealt with: flushes those to which some of it
        went."""
        for link in self.relayed:
            link.flush_parts()
        self.relayed.clear()

    def flush_parts(self) -> None:
        """``flush`` for large pieces: they are not joined first."""
        if self.writing or self.error is not None:
            self.flush()
            return
        parts = self.codec.take_parts()
        self.queued = 0
        unsent = sum(map(len, parts))
        if not unsent:
            return
        try:
            unsent -= self.connection.send_parts_nowait(parts)
        except Exception as error:
            self.broke(error)
            return
        self.flushes += 1
        if unsent:
            self._parts.append(b"".join(parts)[-unsent:])
            self.unsent = unsent
            self.writing = True
            self._wakeup.wake()

    async def write(self) -> None:
        """The writer task: runs until cancelled or until the connection breaks, which it does not raise."""
        try:
            while True:
                await self._wakeup.wait()
                self._due = False
                self.flush()
                while self._parts:
                    data = b"".join(self._parts)
                    self._parts.clear()
                    self.flushes += 1
                    await self.connection.send_all(data)
                    self.unsent -= len(data)
                    self.flush()
                    if self.unsent < HIGH_WATER:
                        self._drained.wake_all()
                self.writing = False
                self._drained.wake_all()
        except Exception as error:
            self.broke(error)

    def broke(self, error: BaseException) -> None:
        """Notes that writing failed, and closes."""
        if self.error is None:
            self.error = error.with_traceback(None)
        self._parts.clear()
        self.unsent = 0
        self.connection.close()
        self._drained.wake_all()

    @property
    def crash(self) -> BaseException | None:
        """What broke writing, if it was nothing that a network does."""
        expected = (MeshError, trio.ClosedResourceError, trio.BrokenResourceError)
        return None if isinstance(self.error, expected) else self.error

    @property
    def congested(self) -> bool:
        """Whether so much waits for the socket that bodies have to wait."""
        return self.unsent + self.queued >= HIGH_WATER

    async def wait_drained(self) -> None:
        """Waits until the socket has taken enough; flushes first.  Always a checkpoint: a body that is always there
        and a peer that always takes it do not keep the others waiting."""
        self.flush()
        if self.unsent < HIGH_WATER:
            await checkpoint()
        while self.unsent >= HIGH_WATER and self.error is None:
            await self._drained.wait()

    async def wait_sent(self) -> None:
        """Waits until the socket has taken everything; at once if the connection broke."""
        self.flush()
        while self.unsent and self.error is None:
            await self._drained.wait()

    async def wait_readable(self) -> None:
        """Waits while the peer takes so little that reading more requests from it would only pile up answers."""
        while self.unsent >= READER_WATER and self.error is None:
            await self._drained.wait()


class Sending(Protocol):
    """A stream that a body is sent on.

    Attributes:
        stream_id: its number.
        over: the stream has been reset, or its connection is gone.
        credit: woken when its window, or the connection's, may have grown, and when it is over.
        activity: counts chunks, for idle limits.
    """

    stream_id: int
    over: bool
    credit: Wakeup
    activity: int


def send_ready(link: Http2Link[S], stream: Sending, body: Body) -> bytes | None:
    """Sends what is there of *body* without waiting for anything.

    Returns:
        None where END_STREAM was sent, or the stream is over; else the part of a chunk that was taken and did not
        fit the window, for ``send_body`` to go on with: mostly ``b""``.

    Raises:
        MeshError: the body broke, or its trailers cannot be sent.
    """
    codec = link.codec
    stream_id = stream.stream_id
    while link.queued + link.unsent < HIGH_WATER:
        try:
            data = body.receive_nowait()
        except trio.WouldBlock:
            return b""
        end = body.end
        try:
            if not data:
                if end is not None and end.trailers:
                    codec.send_trailers(stream_id, end.trailers)
                else:
                    codec.send_data(stream_id, b"", end_stream=True)
                return None
            last = end is not None and end.error is None and not end.trailers
            if not codec.try_send(stream_id, data, last):
                return data
        except StreamReset:
            return None
        link.queued += len(data)
        stream.activity += 1
        if last:
            return None
    return b""


async def send_body(link: Http2Link[S], stream: Sending, body: Body, data: bytes = b"") -> bool:
    """Sends *body* with its trailers on *stream* and ends it: as it comes, within the windows, everything that is
    there before anything is waited for.  *data* was taken from it before.  A checkpoint only where it has to wait,
    and once in ``TURNS`` chunks.

    Returns:
        Whether END_STREAM was sent: False where the stream was over before (trap 3: between a reset and the
        cancellation a task may run once more).

    Raises:
        MeshError: the body broke, or its trailers cannot be sent.
    """
    codec = link.codec
    stream_id = stream.stream_id
    relay: Relay | None = None
    while True:
        if not data:
            try:
                data = body.receive_nowait()
            except trio.WouldBlock:
                link.flush_turn()
                if stream.activity < RELAY_AFTER or not isinstance(body, FlowBody):
                    data = await body.receive_some()
                else:
                    if relay is None:
                        relay = Relay(body, link, stream, HIGH_WATER)
                    data = await body.receive_by(relay)
        if stream.over or link.error is not None:
            return False
        end = body.end
        if not data:
            try:
                if end is not None and end.trailers:
                    codec.send_trailers(stream_id, end.trailers)
                else:
                    codec.send_data(stream_id, b"", end_stream=True)
            except StreamReset:
                return False
            return True
        stream.activity += 1
        last = end is not None and end.error is None and not end.trailers
        try:
            if codec.try_send(stream_id, data, last):
                link.queued += len(data)
            elif not await _send_pieces(link, stream, data, last):
                return False
        except StreamReset:
            return False
        if last:
            return True
        data = b""
        if link.queued + link.unsent >= HIGH_WATER:
            await link.wait_drained()
        elif not stream.activity % TURNS:
            await checkpoint()


async def _send_pieces(link: Http2Link[S], stream: Sending, data: bytes, last: bool) -> bool:
    """Sends a chunk that is larger than the window, piece by piece as the window grows."""
    codec = link.codec
    offset, size = 0, len(data)
    while True:
        allowed = codec.window(stream.stream_id)
        if allowed > 0:
            piece = data[offset : offset + allowed]
            offset += len(piece)
            codec.send_data(stream.stream_id, piece, end_stream=last and offset == size)
            link.queued += len(piece)
            stream.activity += 1
            if offset == size:
                return True
            if link.queued + link.unsent >= HIGH_WATER:
                await link.wait_drained()
        else:
            link.flush_turn()
            await stream.credit.wait()
        if stream.over:
            return False
