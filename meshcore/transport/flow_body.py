"""The body of an HTTP/2 message that comes in: bounded by the window, whose credit goes back as it is consumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.http.body import Chunks

if TYPE_CHECKING:
    from meshcore.codec.events import DataReceived, Fields
    from meshcore.transport.http2 import Http2Link
    from meshcore.transport.relay import Relay

__all__ = ["FlowBody"]


class FlowBody(Chunks):
    """What a connection's reader pushes and somebody else takes.

    Credit is returned chunk by chunk as it is taken, and a flush caused only where that made a WINDOW_UPDATE; what
    is thrown away returns its credit too (trap 2).  Once abandoned it goes on swallowing what comes, so that the
    other direction of the stream can still be finished.

    Attributes:
        activity: counts chunks, for idle limits.
        size: bytes that have come.
        link: the connection's codec and socket.
        stream_id: the stream.
    """

    __slots__ = ("_relay", "activity", "link", "size", "stream_id")

    def __init__(self, link: Http2Link[Any], stream_id: int, size_hint: int | None) -> None:
        super().__init__(size_hint)
        self.activity = self.size = 0
        self.link = link
        self.stream_id = stream_id
        self._relay: Relay | None = None

    @property
    def complete(self) -> bool:
        """Whether the peer has sent all of it."""
        return self._last is not None

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for more of it."""
        return self._wakeup is not None and self._wakeup.waiting

    def received(self, event: DataReceived) -> None:
        """Takes what came off the wire, its end too."""
        data = event.data
        self.size += event.flow
        relay = self._relay
        if relay is not None:
            if data and not event.end_stream and relay.take(data):
                # What is queued by this is flushed by the reader.
                link = self.link
                link.codec.acknowledge(self.stream_id, event.flow)
                link.takers[self.stream_id] = relay.take_frame
                return
            self._stop_relay()
        self.activity += 1
        unwanted = event.flow
        if data and self.end is None:
            self._chunks.append(data)
            unwanted -= len(data)
        if unwanted:
            self.acknowledge(unwanted)
        if event.end_stream:
            self.push_end()
        else:
            self._wake()

    def push_end(self, trailers: Fields | None = None) -> None:
        """The peer has sent all of it."""
        if self.end is None:
            Chunks.push_end(self, trailers)
        else:
            # Abandoned before; only noted, so that the stream need not be reset.
            self._last = self.end

    def acknowledge(self, size: int) -> None:
        """Returns credit."""
        if self.link.codec.acknowledge(self.stream_id, size):
            self.link.flush_soon()

    async def receive_by(self, relay: Relay) -> bytes:
        """As ``receive_some``; what comes meanwhile goes to *relay* as far as it takes it, and counts as taken."""
        try:
            while not self._chunks and self.end is None:
                self._relay = relay
                self.link.takers[self.stream_id] = relay.take_frame
                await self._news()
        finally:
            self._stop_relay()
        return self.receive_nowait()

    def _stop_relay(self) -> None:
        if self._relay is not None:
            self._relay = None
            self.link.takers.pop(self.stream_id, None)

    def receive_nowait(self) -> bytes:
        """The oldest chunk; its credit is returned."""
        if not self._chunks:
            return Chunks.receive_nowait(self)
        data = self._next()
        if self.link.codec.acknowledge(self.stream_id, len(data)):
            self.link.flush_soon()
        if self._on_first_data is not None:
            self._data_taken()
        if not self._chunks and self._last is not None:
            self._finish(self._last)
        return data

    def _drop(self) -> None:
        self._stop_relay()
        size = self.buffered
        Chunks._drop(self)
        if size:
            self.acknowledge(size)
