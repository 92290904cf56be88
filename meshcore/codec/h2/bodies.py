"""DATA in both directions: the bytes that need the engine least, and so pass it by where it can do without."""

from __future__ import annotations

from typing import Final

from meshcore.codec.events import DataReceived
from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.stream import ENDED, Stream
from meshcore.codec.h2.verdicts import Verdicts
from meshcore.errors import PROTOCOL_ERROR, LocalProtocolError
from meshcore.errors import StreamReset as StreamResetError

__all__ = ["Bodies"]

_SETTLE_AT: Final = 1 << 28
# Where writing frames here is cheaper than having the engine copy them twice.
_LARGE: Final = 2_048
_WIDEN_AT: Final = 1 << 29
_ZEROS: Final = bytes(16_384)
_pack: Final = f.HEADER.pack


class Bodies(Verdicts):
    """The part of a codec that moves bodies and keeps their windows."""

    __slots__ = ()

    # -- receiving ----------------------------------------------------------------------------------

    def on_data(self, stream_id: int, data: bytes, end_stream: bool, /) -> None:
        """Sink."""
        self._seen += 1
        stream = self._streams.get(stream_id)
        if stream is None or stream.refuse >= 0 or self._muted:
            return
        size = len(data)
        if stream.length >= 0:
            stream.length -= size
            if stream.length < 0 or (end_stream and stream.length):
                self._stream_error(stream_id, PROTOCOL_ERROR, "body differs from content-length")
                return
        if not stream.delivered:
            self._stream_error(stream_id, PROTOCOL_ERROR, "DATA before the final response")
            return
        if size:
            stream.fed += size
            self._taken += size
            self._unread += size
            self._debt += size
            if self._debt >= _SETTLE_AT:
                self._settle()
            self._events.append(DataReceived(stream_id, data, size, end_stream))
        elif end_stream:
            self._events.append(DataReceived(stream_id, data, 0, True))
        if end_stream and stream.local_closed:
            self._close(stream, ENDED)

    def _pass_by(self, stream: Stream, data: bytes, length: int, end_stream: bool) -> None:
        """Body bytes that the engine is not shown: of a frame of *length* bytes, padding included."""
        size = len(data)
        if stream.length >= 0:
            stream.length -= size
            if stream.length < 0 or (end_stream and stream.length):
                self._stream_error(stream.id, PROTOCOL_ERROR, "body differs from content-length")
                self._return_credit(length)
                return
        if not stream.delivered:
            # An engine that was shown it would have said so.
            self._stream_error(stream.id, PROTOCOL_ERROR, "DATA before the final response")
            self._return_credit(length)
            return
        if length != size:
            self._return_credit(length - size)
        stream.passed_by += size
        if size:
            self._unread += size
            self._events.append(DataReceived(stream.id, data, size, end_stream))
        elif end_stream:
            self._events.append(DataReceived(stream.id, data, 0, True))
        if end_stream:
            stream.end_passed_by = self._decoder is None
            if stream.local_closed:
                self._close(stream, ENDED)

    def _catch_up(self, stream: Stream) -> None:
        """Shows the engine as many bytes as have passed it by: it compares them with the content-length once
        trailers come, which they hardly ever do after one."""
        left, stream.passed_by = stream.passed_by, 0
        self._muted = True
        while left > 0:
            size = min(left, len(_ZEROS))
            left -= size
            self._engine.feed(f.frame(f.DATA, 0, stream.id, _ZEROS[:size]))
            stream.fed += size
            self._debt += size
            if self._debt >= _SETTLE_AT:
                self._settle()
        self._muted = False
        self._seen = self._expected = 0

    def _settle(self) -> None:
        """Gives the engine the window back that it keeps behind ours."""
        debts = [(stream.id, stream.fed) for stream in self._streams.values() if stream.fed]
        for stream in self._streams.values():
            stream.fed = 0
        self._debt = 0
        self._out.append(self._engine.settle(debts))

    def acknowledge(self, stream_id: int, amount: int, /) -> bool:
        """Returns window credit for consumed bytes; whether there is something to flush."""
        if self._ended:
            return False
        credit = self._credit + amount
        if credit * 2 >= self._connection_window:
            self._out.append(f.window_update_frame(0, credit))
            self._recv_window += credit
            credit = 0
        self._credit = credit
        self._unread -= amount
        if amount < 64 or not self._unread:
            self._watch.consumed(amount, self._unread)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.readable:
            credit = stream.credit + amount
            if credit * 2 >= self._stream_window:
                self._out.append(f.window_update_frame(stream_id, credit))
                stream.recv_window += credit
                credit = 0
            stream.credit = credit
        return bool(self._out)

    def window(self, stream_id: int, /) -> int:
        """Bytes that may be sent on the stream now."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_closed or self._ended:
            return 0
        return max(0, min(stream.send_window, self._send_window))

    # -- sending ------------------------------------------------------------------------------------

    def send_data(self, stream_id: int, data: bytes, /, *, end_stream: bool) -> None:
        """At most ``window(stream_id)`` bytes."""
        if not self.try_send(stream_id, data, end_stream):
            raise LocalProtocolError("more than the window")

    def try_send(self, stream_id: int, data: bytes, end_stream: bool, /) -> bool:
        """``send_data`` where the windows allow all of it; False, and nothing done, where they do not."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_closed or self._ended:
            raise StreamResetError("stream is closed")
        size = len(data)
        if size:
            if size > stream.send_window or size > self._send_window:
                return False
        elif not end_stream:
            return True
        if not stream.answered:
            raise LocalProtocolError("body before the head")
        if stream.send_length >= 0:
            stream.send_length -= size
            if stream.send_length < 0 or (end_stream and stream.send_length):
                raise LocalProtocolError("body differs from content-length")
        if size:
            stream.send_window -= size
            self._send_window -= size
            self._watch.data_sent += 1 + (size >> 14)
            if self._encoder is not None:
                self._write_body(stream_id, data, size, end_stream)
                if end_stream:
                    stream.local_closed = True
                    if not stream.readable:
                        self._close(stream, ENDED)
                return True
            if self._headers_only:
                if size >= _LARGE:
                    data = self._write_frames(stream_id, data, size, end_stream)
                    size = len(data)
                self._sent += size
                stream.sent += size
                if self._sent >= _WIDEN_AT or stream.sent >= _WIDEN_AT:
                    self._widen(stream)
            if size:
                self._engine.send_data(stream_id, data, end_stream=end_stream)
        else:
            self._engine.end_stream(stream_id)
        self._unsent = self._encoder is None
        if end_stream:
            stream.local_closed = True
            if not stream.readable:
                self._close(stream, ENDED)
        return True

    def _write_body(self, stream_id: int, data: bytes, size: int, end_stream: bool) -> None:
        """Queues the DATA frames of *data*, where no engine keeps any back."""
        out = self._out
        limit = self._peer_frame
        flags = f.END_STREAM if end_stream else 0
        if size <= limit:
            out.append(_pack(size << 8 | f.DATA, flags, stream_id))
            out.append(data)
            return
        view = memoryview(data)
        for start in range(0, size, limit):
            piece = view[start : start + limit]
            out.append(_pack(len(piece) << 8 | f.DATA, flags if start + limit >= size else 0, stream_id))
            out.append(piece)

    def _write_frames(self, stream_id: int, data: bytes, size: int, end_stream: bool) -> bytes:
        """Queues DATA frames past the engine, after all that it has queued; returns the last piece of a body, whose
        END_STREAM the engine has to know of."""
        out = self._out
        if self._unsent:
            out.append(self._engine.take())
        limit = self._peer_frame
        if size <= limit:
            if end_stream:
                return data
            out.append(_pack(size << 8 | f.DATA, 0, stream_id))
            out.append(data)
            return b""
        view = memoryview(data)
        offset = 0
        while size - offset > limit or (size > offset and not end_stream):
            piece = view[offset : offset + limit]
            out.append(_pack(len(piece) << 8 | f.DATA, 0, stream_id))
            out.append(piece)
            offset += len(piece)
        return bytes(view[offset:])

    def _widen(self, stream: Stream) -> None:
        """Keeps the engine's windows wide: what goes through it makes them narrower."""
        if self._sent >= _WIDEN_AT:
            self._engine.widen(0, self._sent)
            self._sent = 0
        if stream.sent >= _WIDEN_AT:
            self._engine.widen(stream.id, stream.sent)
            stream.sent = 0
