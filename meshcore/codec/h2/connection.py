"""The codec of one connection: scanner in front, engine behind, messages in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.codec.events import (
    Block,
    Event,
    Field,
    Fields,
    InformationalReceived,
    RequestReceived,
    StreamReset,
    TrailersReceived,
)
from meshcore.codec.h2 import frames as f
from meshcore.codec.h2.authority import AuthorityWatch
from meshcore.codec.h2.bulk import Bulk
from meshcore.codec.h2.engine_direct import DirectEngine
from meshcore.codec.h2.frames import MAX_ID
from meshcore.codec.h2.message import Malformed, MessageReader, TooLarge, is_scheme
from meshcore.codec.h2.stream import ENDED, RESET_HERE, Stream
from meshcore.codec.validate import is_authority, is_authority_with_port, is_method, is_path, is_protocol
from meshcore.errors import CANCEL, NO_ERROR, PROTOCOL_ERROR, LocalProtocolError
from meshcore.errors import StreamReset as StreamResetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.h2.engine import Engine, Sink
    from meshcore.codec.limits import H2Limits

__all__ = ["Connection"]

_STATUS: Final[dict[int, Fields]] = {status: [(b":status", b"%d" % status)] for status in range(100, 1000)}
_TOO_LARGE: Final = {status: [*_STATUS[status], (b"content-length", b"0")] for status in (414, 431)}
_NONE: Final[Fields] = []
_CLOSED: Any = None
_pack: Final = f.HEADER.pack
_TARGETS: Final = 32
_TARGET_SIZE: Final = 512


class Connection(Bulk):
    """One HTTP/2 connection in one role, over the engine that *make_engine* gives; see ``H2Codec``."""

    __slots__ = (
        "_closed_for_good",
        "_targets",
        "reader",
    )

    def __init__(self, server: bool, limits: H2Limits, make_engine: Callable[[Sink, bool, H2Limits], Engine]) -> None:
        super().__init__(server, limits)
        self.reader = MessageReader(limits)
        self._targets: dict[tuple[bytes, bytes, bytes, bytes, bytes | None], Fields] = {}
        self._decoder = None
        self._encoder = None
        engine = make_engine(self, server, limits)
        if isinstance(engine, DirectEngine):
            self._decoder = engine.decoder
            self._encoder = engine.encoder
        self._engine = engine
        self._headers_only = engine.headers_only
        self._closed_for_good = False
        if self._engine.wants_authority:
            self._names = AuthorityWatch(limits.hpack_table)

    # -- from the engine ----------------------------------------------------------------------------

    def on_headers(self, stream_id: int, fields: Block, end_stream: bool, /) -> None:
        """Sink."""
        self._seen += 1
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if self._server and not stream.delivered and (stream.injected or stream.recall is not None):
            try:
                request = self._request(stream, list(fields), end_stream)
            except Malformed as error:
                self._stream_error(stream_id, PROTOCOL_ERROR, str(error))
            except TooLarge as excess:
                self._too_large(stream, excess)
            else:
                self._deliver(stream, request, end_stream)
        else:
            found: list[Field] = list(fields)
            self._on_block(stream, found, self.reader.codes(found), end_stream)

    def receive_block(self, stream: Stream, block: bytes, end_stream: bool) -> None:
        """A header block, where it is decoded here."""
        decoder = self._decoder
        assert decoder is not None
        fields = decoder.decode(block)
        self._on_block(stream, fields, decoder.codes, end_stream)

    def _on_block(self, stream: Stream, fields: list[Field], codes: list[int], end_stream: bool) -> None:
        stream_id = stream.id
        try:
            if stream.delivered:
                if not end_stream or stream.length > 0:
                    raise Malformed("trailers without END_STREAM" if not end_stream else "body shorter than declared")
                event: Event = TrailersReceived(stream_id, self.reader.trailers(fields, codes))
            elif self._server:
                event = self.reader.request(stream, fields, codes, end_stream)
            else:
                event = self.reader.response(stream, fields, codes, end_stream)
        except Malformed as error:
            self._stream_error(stream_id, PROTOCOL_ERROR, str(error))
            return
        except TooLarge as excess:
            self._too_large(stream, excess)
            return
        self._deliver(stream, event, end_stream)

    def _deliver(self, stream: Stream, event: Event, end_stream: bool) -> None:
        if stream.refuse >= 0:
            if stream.refuse == PROTOCOL_ERROR:
                self._stream_error(stream.id, PROTOCOL_ERROR, "stream depends on itself")
            else:
                self._refuse(stream)
            return
        if self._server or type(event) is not InformationalReceived:
            stream.delivered = True
        self._events.append(event)
        if end_stream and stream.local_closed:
            self._close(stream, ENDED)

    def _request(self, stream: Stream, fields: list[Field], end_stream: bool) -> RequestReceived:
        """A request of an engine that wants authorities: copied if its header block is one that this connection has
        seen."""
        recall = stream.recall
        if recall is None:
            # The stand-in for the authority that it lacks.
            fields.pop()
            return self.reader.request(stream, fields, self.reader.codes(fields), end_stream)
        stream.recall = None
        known = recall.request
        if known is None or known.end_stream is not end_stream:
            request = self.reader.request(stream, fields, self.reader.codes(fields), end_stream)
            if recall.keeps:
                recall.request = request
                return _copied(request, stream.id)
            return request
        stream.method = known.method
        if known.content_length is not None:
            stream.length = known.content_length
        return _copied(known, stream.id)

    def _too_large(self, stream: Stream, error: TooLarge) -> None:
        """431 or 414 where that can still be said (RFC 9113 §10.5.1, RFC 6585 §5), else RST_STREAM."""
        if not self._server or stream.answered or stream.delivered:
            self._stream_error(stream.id, CANCEL, str(error))
            return
        self._watch.reset(self._now)
        self._engine.send_headers(stream.id, _TOO_LARGE[error.status], end_stream=True)
        if stream.readable:
            self._out.append(self._engine.take())
            self._engine.reset(stream.id, NO_ERROR)
            self._close(stream, RESET_HERE)
        else:
            self._close(stream, ENDED)

    def on_refused(self, stream_id: int, code: int, /) -> None:
        """Sink."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._close(stream, RESET_HERE)
            if stream.delivered or not self._server:
                self._events.append(StreamReset(stream_id, code, False, "malformed message"))
            self._watch.error_reset()

    # -- sending ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Queues the preface (client), SETTINGS, and the WINDOW_UPDATE that opens the connection's window."""
        limits = self._limits
        settings = [(f.HEADER_TABLE_SIZE, limits.hpack_table)] if limits.hpack_table != 4096 else []
        if self._server:
            settings.append((f.MAX_CONCURRENT_STREAMS, limits.max_concurrent_streams))
            if limits.extended_connect:
                settings.append((f.ENABLE_CONNECT_PROTOCOL, 1))
        else:
            self._out.append(f.PREFACE)
            settings.append((f.ENABLE_PUSH, 0))
        if limits.stream_window != 65_535:
            settings.append((f.INITIAL_WINDOW_SIZE, limits.stream_window))
        if self._max_frame != 16_384:
            settings.append((f.MAX_FRAME_SIZE, self._max_frame))
        settings.append((f.MAX_HEADER_LIST_SIZE, limits.header_list_size))
        self._out.append(f.settings_frame(settings))
        if self._connection_window > 65_535:
            self._out.append(f.window_update_frame(0, self._connection_window - 65_535))

    def close(self) -> None:
        """The connection is over: nothing more is read or queued.  Lets the engine go, which would otherwise wait for
        the garbage collector, since it refers back."""
        if not self._closed_for_good:
            self._closed_for_good = self._ended = True
            self._out.clear()
            self._parts.clear()
            self._engine = _CLOSED
            self._decoder = None
            self._encoder = None

    def data_to_send(self) -> bytes:
        """Takes everything queued."""
        self._watch.pending = 0
        out = self._out
        if self._ended:
            data = b"".join(out)
            out.clear()
            return data
        if self._encoder is None:
            self._unsent = False
            if not out:
                return self._engine.take()
            out.append(self._engine.take())
        data = b"".join(out)
        out.clear()
        return data

    def drain_events(self) -> list[Event]:
        """Nothing: refusals are found while receiving."""
        return []

    def send_request(
        self,
        method: bytes,
        scheme: bytes,
        authority: bytes,
        path: bytes,
        headers: Fields,
        /,
        *,
        end_stream: bool,
        protocol: bytes | None = None,
    ) -> int:
        """Opens a stream; its id."""
        if not self.can_open:
            raise LocalProtocolError("no stream can be opened")
        target = (method, scheme, authority, path, protocol)
        fields = self._targets.get(target)
        if fields is None:
            fields = self._target(target)
        elif protocol is not None and not self._peer_extended:
            raise LocalProtocolError("request not valid")
        encoder = self._encoder
        length = self.reader.check_outgoing(headers) if encoder is None else encoder.look(headers)
        if end_stream and length > 0:
            raise LocalProtocolError("content-length without a body")
        if encoder is not None:
            stream_id = self._highest + 2 if self._highest else 1
            self.send_block(stream_id, encoder.block(fields, headers), end_stream)
        else:
            stream_id = self._engine.send_request(fields + headers, end_stream=end_stream)
            self._unsent = True
        stream = Stream(stream_id, self._stream_window, self._peer_window)
        stream.heads = 0
        stream.method = method
        stream.answered = True
        stream.local_closed = end_stream
        stream.send_length = length
        self._streams[stream_id] = stream
        self._highest = stream_id
        self._open += 1
        self._opened += 1
        return stream_id

    def _target(self, target: tuple[bytes, bytes, bytes, bytes, bytes | None]) -> Fields:
        """The pseudo-header fields of a request, valid; remembered, for most requests repeat them."""
        method, scheme, authority, path, protocol = target
        fields: Fields = [(b":method", method)]
        if method == b"CONNECT" and protocol is None:
            valid = is_authority_with_port(authority) and not path
            fields.append((b":authority", authority))
        else:
            valid = (
                is_method(method) and is_scheme(scheme) and (is_path(path) or (path == b"*" and method == b"OPTIONS"))
            )
            fields.append((b":scheme", scheme))
            if authority:
                valid = valid and is_authority(authority)
                fields.append((b":authority", authority))
            fields.append((b":path", path))
            if protocol is not None:
                valid = valid and method == b"CONNECT" and self._peer_extended and is_protocol(protocol)
                fields.append((b":protocol", protocol))
        if not valid:
            raise LocalProtocolError("request not valid")
        if len(path) + len(authority) <= _TARGET_SIZE:
            if len(self._targets) >= _TARGETS:
                self._targets.clear()
            self._targets[target] = fields
        return fields

    def _writable(self, stream_id: int) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.local_closed or self._ended:
            raise StreamResetError("stream is closed")
        return stream

    def send_response(self, stream_id: int, status: int, headers: Fields, /, *, end_stream: bool) -> None:
        """The final response's head."""
        stream = self._writable(stream_id)
        if stream.answered or not 200 <= status <= 999:
            raise LocalProtocolError("not a final response, or a second one")
        encoder = self._encoder
        length = self.reader.check_outgoing(headers) if encoder is None else encoder.look(headers)
        if stream.method != b"HEAD" and status != 304:
            if end_stream and length > 0:
                raise LocalProtocolError("content-length without a body")
            stream.send_length = length
        if encoder is not None:
            self.send_block(stream_id, encoder.block(_STATUS[status], headers), end_stream)
        else:
            self._engine.send_headers(stream_id, _STATUS[status] + headers, end_stream=end_stream)
            self._unsent = True
        stream.answered = True
        if end_stream:
            stream.local_closed = True
            if not stream.readable:
                self._close(stream, ENDED)

    def send_informational(self, stream_id: int, status: int, headers: Fields, /) -> None:
        """A 1xx response other than 101."""
        stream = self._writable(stream_id)
        if stream.answered or not 100 <= status <= 199 or status == 101 or self.reader.check_outgoing(headers) >= 0:
            raise LocalProtocolError("not an informational response, or a late one")
        self._engine.send_informational(stream_id, _STATUS[status] + headers)
        self._unsent = self._encoder is None

    def send_trailers(self, stream_id: int, headers: Fields, /) -> None:
        """Trailer fields; they end the stream."""
        stream = self._writable(stream_id)
        if not stream.answered or stream.send_length > 0:
            raise LocalProtocolError("trailers before the head, or before the end of the body")
        encoder = self._encoder
        length = self.reader.check_outgoing(headers) if encoder is None else encoder.look(headers)
        if length >= 0:
            raise LocalProtocolError("content-length in trailers")
        if encoder is not None and headers:
            self.send_block(stream_id, encoder.block(_NONE, headers), True)
        else:
            if headers:
                self._engine.send_trailers(stream_id, headers)
            else:
                self._engine.end_stream(stream_id)
            self._unsent = encoder is None
        stream.local_closed = True
        if not stream.readable:
            self._close(stream, ENDED)

    def send_block(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        """A header block in as many frames as it needs."""
        size = len(block)
        limit = self._peer_frame
        flags = f.END_STREAM if end_stream else 0
        out = self._out
        if size <= limit:
            out.append(_pack(size << 8 | f.HEADERS, flags | f.END_HEADERS, stream_id) + block)
            return
        out.append(f.frame(f.HEADERS, flags, stream_id, block[:limit]))
        for start in range(limit, size, limit):
            flags = f.END_HEADERS if start + limit >= size else 0
            out.append(f.frame(f.CONTINUATION, flags, stream_id, block[start : start + limit]))

    def reset_stream(self, stream_id: int, code: int, /) -> None:
        """RST_STREAM; does nothing for a stream that is already over."""
        stream = self._streams.get(stream_id)
        if stream is None or self._ended:
            return
        if self._unsent:
            # The fast engine would drop what it had queued for the stream.
            self._unsent = False
            self._out.append(self._engine.take())
        self._engine.reset(stream_id, code)
        self._close(stream, RESET_HERE)

    def ping(self, data: bytes, /) -> None:
        """Queues a PING with 8 bytes."""
        if len(data) != 8:
            raise LocalProtocolError("a PING has 8 bytes")
        if not self._ended:
            self._out.append(f.frame(f.PING, 0, 0, data))

    def goaway(self, code: int = 0, /, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        """Queues GOAWAY; by default with the last stream processed."""
        if self._ended:
            return
        if last_stream_id is None:
            last_stream_id = self._highest if self._server else 0
        self._last_accepted = min(last_stream_id, self._last_accepted)
        self._out.append(self._engine.take())
        self._out.append(f.goaway_frame(self._last_accepted, code, debug))

    def shutdown_notice(self) -> None:
        """Queues the first GOAWAY of a graceful drain."""
        self.goaway(NO_ERROR, last_stream_id=MAX_ID)

    @property
    def open_streams(self) -> int:
        """Streams that are open for either side."""
        return self._open

    @property
    def peer_max_streams(self) -> int:
        """The peer's SETTINGS_MAX_CONCURRENT_STREAMS."""
        return self._peer_streams

    @property
    def can_open(self) -> bool:
        """Client: whether a stream may be opened now."""
        return not (
            self._server
            or self._ended
            or self._remote_goaway
            or self._open >= self._peer_streams
            or self._highest >= MAX_ID
        )

    @property
    def extended_connect(self) -> bool:
        """Whether the peer announced SETTINGS_ENABLE_CONNECT_PROTOCOL."""
        return self._peer_extended


def _copied(request: RequestReceived, stream_id: int) -> RequestReceived:
    """The same request on another stream; its fields may be changed."""
    return RequestReceived(
        stream_id,
        request.method,
        request.scheme,
        request.authority,
        request.path,
        request.headers.copy(),
        request.end_stream,
        20,
        request.content_length,
        request.protocol,
        False,
        request.expect_continue,
    )
