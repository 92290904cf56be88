"""DATA frames that go on as they are: from a large read to another connection, their bytes not copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.scanner import Scanner

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from meshcore.codec.events import Event
    from meshcore.codec.h2.interface import TakeFrame
    from meshcore.codec.h2.stream import Stream

__all__ = ["Bulk"]

_unpack: Final = f.HEADER.unpack_from
_pack_into: Final = f.HEADER.pack_into

_MARKED: Final = f.END_STREAM | f.PADDED
_SMALL: Final = 64
"""Frames below this are watched one by one (``Watch.small_data``)."""


class Bulk(Scanner):
    """The part of a codec that reads from, and writes to, a buffer that is used again afterwards."""

    __slots__ = ()

    def take_partial(self) -> bytes:
        """Takes the bytes received of a frame that has not come whole; ``receive_bulk`` wants them in front."""
        if not self._have:
            return b""
        data = b"".join(self._parts)
        self._parts.clear()
        self._have = 0
        return data

    def receive_bulk(self, view: memoryview, now: float, takers: MutableMapping[int, TakeFrame], /) -> list[Event]:
        """See :class:`~meshcore.codec.h2.interface.H2Codec`."""
        events: list[Event] = []
        if not self._headers_only:
            return self.receive_data(bytes(view), now)
        find = self._streams.get
        taker = takers.get
        max_frame = self._max_frame
        half = (self._stream_window + 1) // 2
        # Windows grow when all has been looked at, as where there are events: the peer cannot have known before.
        grown: list[tuple[Stream, int]] = []
        room = self._recv_window
        # Within a header block, and once the connection is over, nothing may be taken.
        shut = self._ended or self._have > 0
        pos = run = taken = 0
        end = len(view)
        while end - pos >= 9:
            word, flags, stream_id = _unpack(view, pos)
            length = word >> 8
            stop = pos + 9 + length
            if stop > end or length > max_frame:
                break
            if not word & 0xFF:
                take = taker(stream_id)
                if take is not None:
                    if run < pos:
                        # They may change what is to be said of this one.
                        self._bulk += self._recv_window - room
                        self._recv_window = room
                        events += self.receive_data(bytes(view[run:pos]), now)
                        run = pos
                        room = self._recv_window
                        shut = self._ended or self._have > 0
                    stream = find(stream_id)
                    if (
                        not shut
                        and not flags & _MARKED
                        and _SMALL <= length <= room
                        and stream is not None
                        and stream.readable
                        and length <= stream.recv_window
                        and not 0 <= (left := stream.length) < length
                        and take(view[pos:stop])
                    ):
                        if left > 0:
                            stream.length = left - length
                        stream.recv_window -= length
                        stream.passed_by += length
                        credit = stream.credit + length
                        if credit >= half:
                            grown.append((stream, credit))
                            credit = 0
                        stream.credit = credit
                        room -= length
                        taken += length
                        run = pos = stop
                        continue
                    # What comes for it now has to wait for the event that this becomes.
                    takers.pop(stream_id, None)
            pos = stop
        self._bulk += self._recv_window - room
        self._recv_window = room
        if run < end:
            events += self.receive_data(bytes(view[run:]), now)
        if taken and not self._ended:
            self._consume(taken, grown)
        return events

    def _consume(self, size: int, grown: list[tuple[Stream, int]]) -> None:
        """Returns the credit of *size* bytes that were taken: to the connection, and to the streams in *grown*."""
        out = self._out
        self._return_credit(size)
        for stream, credit in grown:
            if stream.readable:
                out.append(f.window_update_frame(stream.id, credit))
                stream.recv_window += credit
        if not self._unread:
            self._watch.consumed(_SMALL, 0)

    def forward(self, stream_id: int, frame: memoryview, /) -> bool:
        """See :class:`~meshcore.codec.h2.interface.H2Codec`."""
        size = len(frame) - 9
        stream = self._streams.get(stream_id)
        if (
            stream is None
            or stream.local_closed
            or self._ended
            or not stream.answered
            or size > stream.send_window
            or size > self._send_window
            or size > self._peer_frame
            or 0 <= stream.send_length < size
        ):
            return False
        if not self._headers_only:
            return self.try_send(stream_id, bytes(frame[9:]), False)
        if stream.send_length > 0:
            stream.send_length -= size
        stream.send_window -= size
        self._send_window -= size
        self._watch.data_sent += 1 + (size >> 14)
        if self._unsent:
            self._unsent = False
            self._out.append(self._engine.take())
        _pack_into(frame, 0, size << 8 | f.DATA, 0, stream_id)
        self._out.append(frame)
        return True

    def take_parts(self) -> list[bytes | memoryview]:
        """``data_to_send`` in the pieces that were queued."""
        self._watch.pending = 0
        parts, self._out = self._out, []
        if not self._ended and self._encoder is None:
            self._unsent = False
            parts.append(self._engine.take())
        return parts
