"""The state of one connection, and the verdicts on frames that are not simply passed on.

What RFC 9113 wants for each is written here once, so that the verdict on the wire is the same
whichever engine runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.codec.events import (
    Event,
    GoAwayReceived,
    PingAcknowledged,
    SettingsChanged,
    StreamReset,
    WindowUpdated,
)
from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.frames import MAX_ID, MAX_WINDOW
from meshcore.codec.h2.stream import ENDED, RESET_HERE, RESET_THERE, Stream
from meshcore.codec.h2.watch import ConnectionFailure, Watch
from meshcore.errors import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)

if TYPE_CHECKING:
    from meshcore.codec.h2.authority import AuthorityWatch
    from meshcore.codec.h2.engine import Engine
    from meshcore.codec.h2.hpack_decoder import HpackDecoder
    from meshcore.codec.h2.hpack_encoder import HpackEncoder
    from meshcore.codec.limits import H2Limits

__all__ = ["FORGIVEN", "Verdicts"]

FORGIVEN = 100
"""Streams refused that may not be held against a client yet that cannot have read our SETTINGS."""


class Verdicts:
    """Streams, windows and counters, and what to do about the frames that need it."""

    __slots__ = (
        "_bulk",
        "_closed",
        "_closed_before",
        "_closed_half",
        "_connection_window",
        "_costly",
        "_credit",
        "_debt",
        "_decoder",
        "_deferred",
        "_encoder",
        "_ended",
        "_engine",
        "_events",
        "_expected",
        "_flow",
        "_have",
        "_headers_only",
        "_highest",
        "_last_accepted",
        "_limits",
        "_max_frame",
        "_max_streams",
        "_muted",
        "_names",
        "_need",
        "_now",
        "_open",
        "_opened",
        "_out",
        "_parts",
        "_peer_extended",
        "_peer_frame",
        "_peer_streams",
        "_peer_window",
        "_preface",
        "_recv_window",
        "_refused",
        "_remote_goaway",
        "_remote_last",
        "_seen",
        "_send_window",
        "_sent",
        "_server",
        "_settings_acked",
        "_settled",
        "_stream_window",
        "_streams",
        "_taken",
        "_unread",
        "_unsent",
        "_watch",
    )

    _engine: Engine
    _headers_only: bool
    # The direct engine's; None where there is another.
    _decoder: HpackDecoder | None
    _encoder: HpackEncoder | None

    def __init__(self, server: bool, limits: H2Limits) -> None:
        self._server = server
        self._limits = limits
        self._now = 0.0
        self._events: list[Event] = []
        self._deferred: list[WindowUpdated] = []
        self._out: list[bytes | memoryview] = []
        self._unsent = False
        self._ended = False

        self._parts: list[bytes] = []
        self._have = 0
        self._need = 9
        self._costly = False
        self._preface = server
        self._settled = False
        self._settings_acked = False
        self._refused = 0
        self._max_frame = max(limits.max_frame_size, 16_384)

        self._streams: dict[int, Stream] = {}
        self._closed: dict[int, int] = {}
        self._closed_before: dict[int, int] = {}
        self._closed_half = limits.closed_streams // 2
        self._open = self._opened = 0
        self._max_streams = limits.max_concurrent_streams
        self._highest = 0
        self._last_accepted = MAX_ID
        self._remote_last = MAX_ID
        self._remote_goaway = False

        # What the peer may still send; the streams' part becomes ours when it acknowledges our SETTINGS.
        window = limits.connection_window
        if window is None:
            window = limits.max_concurrent_streams * limits.stream_window
        self._connection_window = min(max(window, 65_535), MAX_WINDOW)
        self._recv_window = self._connection_window
        self._watch = Watch(limits, self._connection_window)
        self._stream_window = max(limits.stream_window, 65_535)
        self._credit = 0
        # What we may still send.
        self._send_window = 65_535
        self._peer_window = 65_535
        self._peer_frame = 16_384
        # Body bytes that the engine has seen, or sent, since its windows were last settled; and whether it is shown
        # some that are none.
        self._debt = 0
        self._sent = 0
        self._muted = False
        self._peer_streams = MAX_ID
        self._peer_extended = False
        # Between what the scanner passed and what the engine delivered.
        self._expected = self._seen = 0
        self._flow = self._taken = 0
        # Bytes of DATA frames that are not small, since the last small one; body bytes not yet consumed.
        self._bulk = self._unread = 0
        self._names: AuthorityWatch | None = None

    def queue(self, data: bytes) -> None:
        """Sends frames of an engine that keeps none back."""
        self._out.append(data)

    # -- streams ----------------------------------------------------------------------------------

    def _close(self, stream: Stream, how: int) -> None:
        """Takes a stream out of the table and remembers how it ended."""
        stream_id = stream.id
        del self._streams[stream_id]
        if stream.counted:
            stream.counted = False
            self._open -= 1
        stream.readable = False
        stream.local_closed = True
        closed = self._closed
        closed[stream_id] = how
        if len(closed) > self._closed_half:
            # Two generations: taking the oldest out of one dict would cost a walk over the gaps before it.
            self._closed_before = closed
            self._closed = {}
        if stream.fed:
            queued = self._engine.repay(stream_id, stream.fed)
            if queued:
                self._out.append(queued)
        if how == ENDED:
            if stream.end_passed_by:
                # The engine waits for an end that it will not see: a reset that nobody sent ends it without a word.
                self._out.append(self._engine.take())
                self._engine.remote_reset(stream_id, NO_ERROR)
            elif not self._headers_only:
                self._engine.forget(stream_id)

    def _stream_error(self, stream_id: int, code: int, reason: str) -> None:
        """RST_STREAM for what the peer did (RFC 9113 §5.4.2); an event if the stream is known outside."""
        stream = self._streams.get(stream_id)
        if stream is None:
            self._out.append(f.reset_frame(stream_id, code))
        else:
            if stream.readable or not stream.local_closed:
                self._engine.reset(stream_id, code)
            else:  # The engine may have closed it already, and says nothing more on it.
                self._engine.forget(stream_id)
                self._out.append(self._engine.take())
                self._out.append(f.reset_frame(stream_id, code))
            self._close(stream, RESET_HERE)
            if stream.delivered or not self._server:
                self._events.append(StreamReset(stream_id, code, False, reason))
        self._watch.error_reset()

    def _refuse(self, stream: Stream) -> None:
        """A stream above the limit, or after our GOAWAY: not processed, as REFUSED_STREAM says."""
        self._engine.reset(stream.id, REFUSED_STREAM)
        self._close(stream, RESET_HERE)

    def _count_refusal(self) -> None:
        """Before the engine sees the stream, so that its cost is bounded however many one read brings."""
        self._refused += 1
        if self._settings_acked or self._refused > FORGIVEN:
            self._watch.reset(self._now)

    def _is_idle(self, stream_id: int) -> bool:
        """Whether the stream was never opened (RFC 9113 §5.1): even ones never are, nobody pushes."""
        return stream_id > self._highest or not stream_id & 1

    def _return_credit(self, amount: int) -> None:
        """Gives the connection's window back, by WINDOW_UPDATE once half of it has collected."""
        credit = self._credit + amount
        if credit * 2 >= self._connection_window:
            self._out.append(f.window_update_frame(0, credit))
            self._recv_window += credit
            credit = 0
        self._credit = credit

    # -- frames on streams that are not open for them -----------------------------------------------

    def _refuse_data(self, stream_id: int, length: int) -> None:
        """DATA on a stream that is not open for it: its window is returned at once."""
        self._recv_window -= length
        if self._recv_window < 0:
            raise ConnectionFailure(FLOW_CONTROL_ERROR, "connection window exceeded")
        if not stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "DATA on stream 0")
        self._return_credit(length)
        stream = self._streams.get(stream_id)
        if stream is not None:
            if stream.readable:
                self._stream_error(stream_id, PROTOCOL_ERROR, "DATA before HEADERS")
            else:
                self._stream_error(stream_id, STREAM_CLOSED, "DATA after END_STREAM")
        elif self._is_idle(stream_id):
            raise ConnectionFailure(PROTOCOL_ERROR, "DATA on an idle stream")
        else:
            self._late(stream_id, "DATA")

    def _how_closed(self, stream_id: int) -> int | None:
        """How the stream ended; None if it never was, or is forgotten."""
        return self._closed.get(stream_id) or self._closed_before.get(stream_id)

    def _late(self, stream_id: int, kind: str) -> None:
        """DATA or HEADERS on a closed stream (RFC 9113 §5.1, "closed")."""
        how = self._how_closed(stream_id)
        if how == RESET_HERE:
            return
        if how == ENDED:
            raise ConnectionFailure(STREAM_CLOSED, kind + " on a closed stream")
        if how is None and kind == "HEADERS":
            raise ConnectionFailure(PROTOCOL_ERROR, "stream id lower than one seen")
        self._stream_error(stream_id, STREAM_CLOSED, kind + " on a closed stream")

    def _refuse_headers(self, stream_id: int, block: bytes) -> None:
        """HEADERS on a stream that is not open for it: decoded for the table's sake, never delivered."""
        if not stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "HEADERS on stream 0")
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._stream_error(stream_id, STREAM_CLOSED, "HEADERS after END_STREAM")
        elif self._is_idle(stream_id):
            raise ConnectionFailure(PROTOCOL_ERROR, "HEADERS on a stream that the peer may not open")
        else:
            self._late(stream_id, "HEADERS")
        self._watch.control(self._now, "closed_stream")
        self._out.append(self._engine.take())
        self._engine.feed(block)
        self._out.append(self._engine.take_refusals())
        self._seen = self._expected = 0

    # -- windows ------------------------------------------------------------------------------------

    def _window_error(self, stream_id: int, increment: int) -> None:
        """WINDOW_UPDATE that is not simply added (RFC 9113 §6.9, §6.9.1)."""
        if not stream_id:
            if not increment:
                raise ConnectionFailure(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            raise ConnectionFailure(FLOW_CONTROL_ERROR, "connection window overflow")
        if stream_id not in self._streams:
            if self._is_idle(stream_id):
                raise ConnectionFailure(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            if self._how_closed(stream_id) != ENDED:
                self._watch.control(self._now, "closed_stream")
        elif not increment:
            self._stream_error(stream_id, PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        else:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR, "stream window overflow")

    # -- frames that the codec answers itself ---------------------------------------------------------

    def _other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Every frame but DATA, HEADERS and WINDOW_UPDATE; what came before it has been delivered."""
        if kind == f.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == f.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == f.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == f.GOAWAY:
            self._on_goaway(stream_id, payload)
        elif kind == f.PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == f.PUSH_PROMISE:
            raise ConnectionFailure(PROTOCOL_ERROR, "PUSH_PROMISE, and push is not enabled")
        elif kind == f.CONTINUATION:
            raise ConnectionFailure(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:
            self._watch.control(self._now, "unknown_frame")

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionFailure(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._watch.control(self._now, "closed_stream")
            return
        code = int.from_bytes(payload, "big")
        self._engine.remote_reset(stream_id, code)
        self._close(stream, RESET_THERE)
        self._events.append(StreamReset(stream_id, code, True, "", code != REFUSED_STREAM))
        if self._server and not stream.answered:
            self._watch.reset(self._now)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "PING of a wrong size")
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "PING on a stream")
        self._watch.control(self._now, "ping")
        if flags & f.ACK:
            self._events.append(PingAcknowledged(payload))
        else:
            self._watch.acknowledgement("ping")
            self._out.append(f.frame(f.PING, f.ACK, 0, payload))

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        """Deprecated and ignored, apart from its form (RFC 9113 §6.3)."""
        if not stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._watch.control(self._now, "priority")
        self._watch.priority(self._opened)
        if len(payload) != 5:
            code, reason = FRAME_SIZE_ERROR, "PRIORITY of a wrong size"
        elif int.from_bytes(payload[:4], "big") & MAX_ID == stream_id:
            code, reason = PROTOCOL_ERROR, "stream depends on itself"
        else:
            return
        if self._is_idle(stream_id):  # An idle stream may not be reset (RFC 9113 §6.4).
            raise ConnectionFailure(code, reason)
        self._stream_error(stream_id, code, reason)

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "GOAWAY too short")
        self._watch.control(self._now, "goaway")
        last, code = f.TWO_WORDS.unpack_from(payload)
        last = min(last & MAX_ID, self._remote_last)
        self._remote_last = last
        self._remote_goaway = True
        self._events.append(GoAwayReceived(last, code, payload[8:]))
        if self._server:
            return
        above = [stream for stream in self._streams.values() if stream.id > last]
        if above:
            self._engine.remote_goaway(last if last & 1 or not last else last - 1)
            for stream in above:
                self._close(stream, RESET_THERE)
                self._events.append(StreamReset(stream.id, REFUSED_STREAM, False, "goaway", False))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & f.ACK:
            if payload:
                raise ConnectionFailure(FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            self._watch.control(self._now, "settings")
            self._on_settings_ack()
            return
        if len(payload) % 6:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._watch.control(self._now, "settings")
        accepted: list[tuple[int, int]] = []
        for key, value in f.SETTING.iter_unpack(payload):
            self._check_setting(key, value)
            if key == f.INITIAL_WINDOW_SIZE:
                self._change_windows(value)
                if self._headers_only:
                    continue
            elif key == f.HEADER_TABLE_SIZE:
                value = min(value, 4_096)
            elif key == f.MAX_CONCURRENT_STREAMS:
                self._peer_streams = value
                continue
            elif key == f.ENABLE_CONNECT_PROTOCOL:
                self._peer_extended = value == 1
            elif key == f.MAX_FRAME_SIZE:
                self._peer_frame = value
            else:
                continue
            accepted.append((key, value))
        self._settled = True
        self._engine.feed(f.settings_frame(accepted))
        self._watch.acknowledgement("settings")
        self._events.append(SettingsChanged())

    def _check_setting(self, key: int, value: int) -> None:
        """RFC 9113 §6.5.2, RFC 8441 §3."""
        if key == f.ENABLE_PUSH:
            if value > 1 or (value and not self._server):
                raise ConnectionFailure(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH")
        elif key == f.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFailure(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE")
        elif key == f.MAX_FRAME_SIZE:
            if not 16_384 <= value < 1 << 24:
                raise ConnectionFailure(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE")
        elif key == f.ENABLE_CONNECT_PROTOCOL and (value > 1 or (not value and self._peer_extended)):
            raise ConnectionFailure(PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL")

    def _change_windows(self, value: int) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE moves the window of every stream, below 0 if need be (RFC 9113 §6.9.2)."""
        delta = value - self._peer_window
        self._peer_window = value
        for stream in self._streams.values():
            stream.send_window += delta
            if stream.send_window > MAX_WINDOW:
                raise ConnectionFailure(FLOW_CONTROL_ERROR, "stream window overflow by SETTINGS")

    def _on_settings_ack(self) -> None:
        if self._settings_acked:
            return
        self._settings_acked = True
        self._out.append(self._engine.acknowledge_settings())
        delta = self._limits.stream_window - self._stream_window
        if delta:
            self._stream_window = self._limits.stream_window
            for stream in self._streams.values():
                stream.recv_window += delta
