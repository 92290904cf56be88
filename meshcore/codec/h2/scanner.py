"""The one look at every frame, before either engine: what RFC 9113 says of it, and what the limits say.

The scanner feeds the engine runs of frames that are in order, in one call a run; it answers, drops or
refuses the others itself (``verdicts``).
"""

from __future__ import annotations

import contextlib
from typing import Final

from meshcore.codec.events import ConnectionTerminated, Event, WindowUpdated
from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.authority import STAND_IN
from meshcore.codec.h2.bodies import Bodies
from meshcore.codec.h2.engine import EngineFailure
from meshcore.codec.h2.frames import MAX_ID, MAX_WINDOW
from meshcore.codec.h2.stream import Stream
from meshcore.codec.h2.watch import ConnectionFailure
from meshcore.errors import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
)

__all__ = ["BUDGET", "Scanner"]

BUDGET: Final = 8_192
"""What one call of ``receive_data`` may cost, in bytes of header blocks; the last block may exceed it."""

_BLOCK: Final = 100
"""What a header block costs apart from its bytes."""

_FRAME: Final = 32
"""What a small frame costs: one that brings next to nothing, so that a read may hold thousands of them."""

_TABLE_UPDATES: Final = 2
"""Dynamic table size updates at the start of a block: the smallest size since the last one, and the final one
(RFC 7541 §4.2)."""

_unpack: Final = f.HEADER.unpack_from


class Scanner(Bodies):
    """The receiving half of a codec."""

    __slots__ = ()

    def receive_data(self, data: bytes, now: float, /) -> list[Event]:
        if self._ended:
            return []
        events = self._events = []
        self._now = now
        if self._have:
            if data:
                self._parts.append(data)
                self._have += len(data)
            if self._have < self._need:
                self._costly = False
                return events
            data = b"".join(self._parts)
            self._parts = []
        if self._unsent:
            self._unsent = False
            self._out.append(self._engine.take())
        try:
            done = self._scan(data)
        except (ConnectionFailure, EngineFailure) as failure:
            if isinstance(failure, EngineFailure):
                self._out.append(failure.queued)
            self._terminate(failure.code, str(failure), failure.abuse)
            return events
        if done < len(data):
            rest = data[done:] if done else data
            self._parts.append(rest)
            self._have = len(rest)
        else:
            self._have = 0
        return events

    def receive_block(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        """A header block, where it is decoded here."""
        raise NotImplementedError

    @property
    def unfinished(self) -> bool:
        """Whether the last call stopped at its budget: whole frames wait for the next one, which may be of ``b""``."""
        return not self._need and not self._ended

    @property
    def costly(self) -> bool:
        """Whether the last call used its budget up."""
        return self._costly and not self._ended

    def _terminate(self, code: int, reason: str, abuse: str) -> None:
        """Queues GOAWAY; nothing is read or written after it."""
        self._ended = True
        with contextlib.suppress(Exception):  # An engine that has given up has nothing more to say.
            self._out.append(self._engine.take())
        last = min(self._highest, self._last_accepted) if self._server else 0
        self._out.append(f.goaway_frame(last, code, reason.encode()))
        self._events.append(ConnectionTerminated(code, reason, abuse))

    def _flush(self, data: bytes, run: int, pos: int) -> int:
        """Feeds the engine the frames from *run* to *pos*; returns *pos*."""
        if pos > run:
            try:
                self._engine.feed(data if not run and pos == len(data) else memoryview(data)[run:pos])
                if self._expected != self._seen:
                    self._out.append(self._engine.take_refusals())
            except ConnectionFailure as failure:
                failure.fed = True
                raise
            self._expected = self._seen = 0
            if self._flow != self._taken:
                self._return_credit(self._flow - self._taken)
            self._flow = self._taken = 0
        if self._deferred:
            streams = self._streams
            for event in self._deferred:
                if not event.stream_id or event.stream_id in streams:
                    self._events.append(event)
            self._deferred.clear()
        return pos

    def _scan(self, data: bytes) -> int:
        """Looks at every whole frame; returns how many bytes are done with."""
        pos = 0
        end = len(data)
        if self._preface:
            if data[:24] != f.PREFACE[:end]:
                raise ConnectionFailure(PROTOCOL_ERROR, "connection preface")
            if end < 24:
                self._need = 24
                return 0
            self._preface = False
            pos = 24
        run = pos
        budget = BUDGET
        server = self._server
        streams = self._streams
        find = streams.get
        max_frame = self._max_frame
        names = self._names
        headers_only = self._headers_only
        direct = self._decoder is not None
        max_heads = self._limits.informational + 2
        need = 9
        word: int
        flags: int
        stream_id: int
        try:
            while end - pos >= 9:
                if budget <= 0:
                    need = 0
                    break
                word, flags, stream_id = _unpack(data, pos)
                length = word >> 8
                if length > max_frame:
                    raise ConnectionFailure(FRAME_SIZE_ERROR, "frame too large")
                stop = pos + 9 + length
                kind = word & 0xFF
                if stream_id > MAX_ID:
                    stream_id &= MAX_ID
                if not self._settled and (kind != f.SETTINGS or flags & f.ACK):
                    raise ConnectionFailure(PROTOCOL_ERROR, "first frame is not SETTINGS")
                if stop > end:
                    need = 9 + length
                    break

                if kind == f.DATA:
                    stream = find(stream_id)
                    if stream is None or not stream.readable or not stream.heads:
                        budget -= _FRAME
                        run = self._flush(data, run, pos)
                        self._refuse_data(stream_id, length)
                        run = stop
                    else:
                        self._recv_window -= length
                        if self._recv_window < 0:
                            raise ConnectionFailure(FLOW_CONTROL_ERROR, "connection window exceeded")
                        stream.recv_window -= length
                        size = length
                        if flags & f.PADDED:
                            if not length:
                                raise ConnectionFailure(FRAME_SIZE_ERROR, "DATA without its padding length")
                            size -= data[pos + 9] + 1
                            if size < 0:
                                raise ConnectionFailure(PROTOCOL_ERROR, "padding too long")
                            stream.credit += length - size
                        if stream.recv_window < 0:
                            run = self._flush(data, run, pos)
                            self._stream_error(stream_id, FLOW_CONTROL_ERROR, "stream window exceeded")
                            self._return_credit(length)
                            run = stop
                        else:
                            past = direct or (
                                headers_only and stream.delivered and (stream.passed_by or not flags & f.END_STREAM)
                            )
                            if not past:
                                self._flow += length
                                self._expected += 1
                            if flags & f.END_STREAM:
                                stream.readable = False
                                if stream.local_closed:
                                    stream.counted = False
                                    self._open -= 1
                            elif size < 64:
                                budget -= _FRAME
                                self._watch.small_data(size, self._bulk)
                                self._bulk = 0
                            else:
                                self._bulk += size
                            if past:
                                run = self._flush(data, run, pos)
                                run = stop
                                if find(stream_id) is stream:
                                    at = pos + 10 if flags & f.PADDED else pos + 9
                                    self._pass_by(stream, data[at : at + size], length, flags & f.END_STREAM != 0)
                                else:
                                    self._return_credit(length)

                elif kind == f.HEADERS:
                    budget -= length + _BLOCK
                    if not flags & f.END_HEADERS:
                        stop = self._block_end(data, stop, stream_id, length)
                        if stop > end:
                            need = stop - pos
                            break
                        budget -= stop - pos - length
                    stream = find(stream_id)
                    refuse = -1
                    block = b""
                    plain = flags & (f.PADDED | f.HAS_PRIORITY | f.END_HEADERS) == f.END_HEADERS
                    if not plain and self._depends(data, pos + 9, length, flags) == stream_id:
                        refuse = PROTOCOL_ERROR
                    fragment = data[pos + 9 : stop] if plain else f.header_block(data, pos, stop)
                    if refuse >= 0 or flags & f.PADDED:
                        # Not every engine takes a HEADERS of padding alone, or one that depends on itself.
                        block = _rebuilt(data, pos, stop, b"")
                    if fragment and fragment[0] & 0xE0 == 0x20:
                        _check_table_updates(fragment)
                    recall = names and names.look(fragment)
                    if stream is not None and stream.readable:
                        stream.heads += 1
                        if stream.heads > max_heads:
                            run = self._flush(data, run, pos)
                            if stream_id in streams:
                                self._stream_error(stream_id, ENHANCE_YOUR_CALM, "too many informational responses")
                            self._refuse_headers(stream_id, block or data[pos:stop])
                            run = pos = stop
                            continue
                        if stream.passed_by and stream.length >= 0 and not direct:
                            run = self._flush(data, run, pos)
                            self._catch_up(stream)
                    elif stream is None and server and stream_id & 1 and stream_id > self._highest:
                        self._opened += 1
                        self._highest = stream_id
                        stream = Stream(stream_id, self._stream_window, self._peer_window)
                        streams[stream_id] = stream
                        if recall:
                            stream.recall = recall
                        elif names:
                            stream.injected = True
                            block = _rebuilt(data, pos, stop, STAND_IN)
                        if self._open >= self._max_streams or stream_id > self._last_accepted:
                            stream.counted = False
                            if refuse < 0:
                                refuse = REFUSED_STREAM
                                self._count_refusal()
                        else:
                            self._open += 1
                    else:
                        run = self._flush(data, run, pos)
                        self._refuse_headers(stream_id, block or data[pos:stop])
                        run = pos = stop
                        continue
                    self._expected += 1
                    if flags & f.END_STREAM:
                        stream.readable = False
                        if stream.local_closed:
                            stream.counted = False
                            self._open -= 1
                    if refuse >= 0:
                        stream.refuse = refuse
                    if direct:
                        self._expected = 0
                        run = self._flush(data, run, pos)
                        run = stop
                        self.receive_block(stream, fragment, flags & f.END_STREAM != 0)
                    elif block:
                        self._expected -= 1
                        run = self._flush(data, run, pos)
                        self._expected += 1
                        self._flush(block, 0, len(block))
                        run = stop

                elif kind == f.WINDOW_UPDATE:
                    if length != 4:
                        raise ConnectionFailure(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
                    budget -= _FRAME
                    self._watch.window_update(self._opened)
                    increment = int.from_bytes(data[pos + 9 : stop], "big")
                    if headers_only:
                        run = self._flush(data, run, pos)
                        run = stop
                        increment &= MAX_WINDOW
                        if not self._window_update(stream_id, increment):
                            self._window_error(stream_id, increment)
                    elif increment > MAX_WINDOW or not self._window_update(stream_id, increment):
                        run = self._flush(data, run, pos)
                        run = stop
                        self._odd_window_update(stream_id, increment & MAX_WINDOW)

                else:
                    budget -= _FRAME
                    run = self._flush(data, run, pos)
                    run = stop
                    self._other(kind, flags, stream_id, data[pos + 9 : stop])
                pos = stop
        except ConnectionFailure as failure:
            if not failure.fed:
                self._flush(data, run, min(pos, end))
            raise
        self._need = need
        self._costly = budget <= 0
        self._flush(data, run, pos)
        return pos

    def _window_update(self, stream_id: int, increment: int) -> bool:
        """Adds to a send window; False where the frame is not for the engine."""
        if not increment:
            return False
        if not stream_id:
            window = self._send_window + increment
            if window > MAX_WINDOW:
                return False
            self._send_window = window
        else:
            stream = self._streams.get(stream_id)
            if stream is None:
                return False
            window = stream.send_window + increment
            if window > MAX_WINDOW:
                return False
            stream.send_window = window
        self._deferred.append(WindowUpdated(stream_id))
        return True

    def _odd_window_update(self, stream_id: int, increment: int) -> None:
        """One with the reserved bit set, which not every engine ignores, or one that is not for the engine."""
        if self._window_update(stream_id, increment):
            self._engine.feed(f.window_update_frame(stream_id, increment))
        else:
            self._window_error(stream_id, increment)

    def _block_end(self, data: bytes, at: int, stream_id: int, size: int) -> int:
        """Where the header block ends whose HEADERS ends at *at*; beyond the data if it has not come whole."""
        end = len(data)
        if at > end:
            return at
        limits = self._limits
        count = 0
        while True:
            if end - at < 9:
                return at + 9
            word, flags, other = _unpack(data, at)
            length = word >> 8
            if word & 0xFF != f.CONTINUATION or other & MAX_ID != stream_id:
                raise ConnectionFailure(PROTOCOL_ERROR, "expected CONTINUATION")
            if length > self._max_frame:
                raise ConnectionFailure(FRAME_SIZE_ERROR, "frame too large")
            count += 1
            size += length
            if count > limits.continuation_frames or size > 2 * limits.header_list_size + 16_384:
                raise ConnectionFailure(ENHANCE_YOUR_CALM, "header block too long", "continuation")
            at += 9 + length
            if at > end or flags & f.END_HEADERS:
                return at

    def _depends(self, data: bytes, at: int, length: int, flags: int) -> int:
        """Checks padding and priority of a HEADERS payload at *at*; the stream it depends on, or -1."""
        room = length
        if flags & f.PADDED:
            room -= 1 + (data[at] if length else 0)
            at += 1
        if length < (1 if flags & f.PADDED else 0) + (5 if flags & f.HAS_PRIORITY else 0):
            raise ConnectionFailure(FRAME_SIZE_ERROR, "HEADERS too short")
        if flags & f.HAS_PRIORITY:
            room -= 5
        if room < 0:
            raise ConnectionFailure(PROTOCOL_ERROR, "padding too long")
        return int.from_bytes(data[at : at + 4], "big") & MAX_ID if flags & f.HAS_PRIORITY else -1


def _check_table_updates(block: bytes) -> None:
    """Refuses a header block that begins with more updates than can mean anything: each costs its decoder a call,
    and a block has room for a hundred thousand."""
    pos = 0
    for _ in range(_TABLE_UPDATES + 1):
        if pos >= len(block) or block[pos] & 0xE0 != 0x20:
            return
        more = block[pos] & 0x1F == 0x1F
        pos += 1
        while more and pos < len(block):
            more = block[pos] >= 0x80
            pos += 1
    raise ConnectionFailure(COMPRESSION_ERROR, "too many table size updates")


def _rebuilt(data: bytes, pos: int, stop: int, more: bytes) -> bytes:
    """The same header block and *more* in one HEADERS frame without padding and priority."""
    _, flags, stream_id = _unpack(data, pos)
    block = f.header_block(data, pos, stop) + more
    return f.frame(f.HEADERS, flags & f.END_STREAM | f.END_HEADERS, stream_id & MAX_ID, block)
