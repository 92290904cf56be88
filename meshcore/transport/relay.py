"""Handing a body on from one HTTP/2 connection to another without waking the task that sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.errors import LocalProtocolError, StreamReset

if TYPE_CHECKING:
    from meshcore.transport.flow_body import FlowBody
    from meshcore.transport.http2 import Http2Link, Sending

__all__ = ["BATCH", "Relay"]

BATCH: Final = 262_144
"""Bytes that may be queued for a socket that has taken everything until now: large sends cost less, and one that
does not take them has no more than this waiting, once."""


class Relay:
    """The way from a body whose sender waits for more of it to the stream that it is sent on.

    It does at once what the sender would do once it ran, and nothing that the sender would have to wait for: what
    it does not take goes the ordinary way, and finds the sender awake.  So windows, backpressure and errors have
    one place, ``send_body``.

    Args:
        body: whose sender waits; nothing of it is waiting to be taken meanwhile.
        link: the connection that it is sent on.
        stream: the stream that it is sent on.
        high_water: bytes that may wait on *link* before bodies have to, once its socket is behind.
    """

    __slots__ = ("_body", "_high_water", "_link", "_relayed", "_stream")

    def __init__(self, body: FlowBody, link: Http2Link[Any], stream: Sending, high_water: int) -> None:
        self._body = body
        self._link = link
        self._stream = stream
        self._high_water = high_water
        self._relayed = body.link.relayed

    def take(self, data: bytes) -> bool:
        """Queues a chunk; the reader of the body's connection flushes it (``Http2Link.flush_relayed``).  False, and
        nothing done, where the sender has to see to it."""
        try:
            if not self._open() or not self._link.codec.try_send(self._stream.stream_id, data, False):
                return False
        except (StreamReset, LocalProtocolError):
            return False
        self._link.queued += len(data)
        if self._link not in self._relayed:
            self._relayed.append(self._link)
        self._stream.activity += 1
        self._body.activity += 1
        if self._body._on_first_data is not None:
            self._body._data_taken()
        return True

    def take_frame(self, frame: memoryview) -> bool:
        """``take`` for a whole DATA frame in a buffer that is used again after the flush."""
        link, stream, body = self._link, self._stream, self._body
        queued = link.queued
        if queued >= BATCH or link.unsent:
            if not self._open():
                return False
            queued = link.queued
        if stream.over or link.error is not None or not link.codec.forward(stream.stream_id, frame):
            return False
        link.queued = queued + len(frame)
        if link not in self._relayed:
            self._relayed.append(link)
        stream.activity += 1
        body.activity += 1
        if body._on_first_data is not None:
            body._data_taken()
        return True

    def _open(self) -> bool:
        link = self._link
        if self._stream.over or link.error is not None:
            return False
        if link.queued + link.unsent >= (self._high_water if link.unsent else BATCH):
            link.flush_parts()
            return link.unsent < self._high_water and link.error is None
        return True
