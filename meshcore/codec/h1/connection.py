"""What both roles of an HTTP/1 codec share: the buffer, reading bodies, writing bodies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from meshcore.codec.events import (
    NEED_DATA,
    PAUSED,
    ConnectionClosed,
    DataReceived,
    Event,
    Fields,
    Sentinel,
    TrailersReceived,
)
from meshcore.codec.h1.chunked import ChunkedBody
from meshcore.codec.h1.control import SPECIAL
from meshcore.codec.h1.scan import LineScan, split_fields
from meshcore.codec.h1.write import write_fields
from meshcore.codec.validate import check_trailers
from meshcore.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.h1.engines import Engine, Split
    from meshcore.codec.limits import H1Limits

__all__ = ["Codec"]

# What is being read.
HEAD, LENGTH, CHUNKED, UNTIL_EOF, TRAILERS, DONE, FAILED = range(7)

# What is being sent: HEAD, LENGTH, CHUNKED, UNTIL_EOF and DONE again, and:
NO_BODY: Final = 7
RAW: Final = 8


class Codec(ABC):
    """One connection in one role; see :class:`meshcore.codec.h1.interface.H1Codec`."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_engine",
        "_eof",
        "_error",
        "_keep_alive",
        "_left",
        "_limits",
        "_lines",
        "_reading",
        "_sending",
        "_start",
        "_to_send",
    )

    def __init__(self, limits: H1Limits, engine: Engine) -> None:
        self._limits = limits
        self._engine = engine
        self._buffer = b""
        self._start = 0
        self._eof = False
        self._reading = HEAD
        self._sending = HEAD
        self._left = 0
        self._to_send = 0
        self._keep_alive = False
        self._chunks: ChunkedBody | None = None
        self._lines: LineScan | None = None
        self._error: RemoteProtocolError | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(engine={self._engine.name!r})"

    # -- receiving ----------------------------------------------------------------------------

    def receive_data(self, data: bytes, /) -> None:
        """Stores what was read; ``b""`` is the end of the peer's bytes."""
        if not data:
            self._eof = True
        elif self._start == len(self._buffer):
            self._buffer = data
            self._start = 0
        else:
            self._buffer = self._buffer[self._start :] + data
            self._start = 0

    def next_event(self) -> Event | Sentinel:
        """The next event, ``NEED_DATA`` or ``PAUSED``; raises :class:`RemoteProtocolError`."""
        reading = self._reading
        try:
            if reading == HEAD:
                return self._read_head()
            if reading == LENGTH:
                return self._read_length()
            if reading == DONE:
                return PAUSED
            if reading == CHUNKED:
                return self._read_chunked()
            if reading == UNTIL_EOF:
                return self._read_until_eof()
            if reading == TRAILERS:
                self._reading = DONE
                return TrailersReceived(1, self._trailers())
        except RemoteProtocolError as error:
            self._fail(error)
            raise
        assert self._error is not None
        raise self._error

    def trailing_data(self) -> bytes:
        """Takes the bytes received beyond the current message."""
        data = self._buffer[self._start :] if self._start else self._buffer
        self._buffer = b""
        self._start = 0
        return data

    @property
    def buffered(self) -> int:
        """Bytes received and not yet parsed."""
        return len(self._buffer) - self._start

    @abstractmethod
    def _read_head(self) -> Event | Sentinel: ...

    def _fail(self, error: RemoteProtocolError) -> None:
        self._reading = FAILED
        self._error = error
        self._keep_alive = False

    def _scan_lines(self, kind: int) -> int:
        """The end of a head that did not match at once, or -1."""
        lines = self._lines
        if lines is None:
            lines = self._lines = LineScan(self._limits, kind)
        end = lines.scan(self._buffer, self._start)
        if end >= 0:
            self._lines = None
        return end

    def _split(self, head: bytes, method: bytes) -> tuple[Split, ValueError | None]:
        """The fields of a scanned head, and why the engine refused it, if it did.

        An engine refuses some of what the rules have a better status for, so the rules judge such a
        head too, taken apart without it.  It is held to the number of lines that the scan saw.
        """
        count = head.count(b"\n") - 2
        if count > self._limits.header_count:
            raise RemoteProtocolError("too many fields", status=431)
        try:
            split = self._split_engine(head, method)
            if len(split[0]) == count:
                return split, None
            refusal = ValueError("fields lost or merged")
        except ValueError as error:
            refusal = error
        fields = split_fields(head)
        return (fields, [field for field in fields if field[0] in SPECIAL]), refusal

    @abstractmethod
    def _split_engine(self, head: bytes, method: bytes) -> Split: ...

    def _read_body(self, chunked: bool, length: int, count: int) -> None:
        """Sets what follows a head with *count* fields."""
        if chunked:
            self._chunks = ChunkedBody(self._limits, count)
            self._reading = CHUNKED
        elif length:
            self._left = length
            self._reading = LENGTH
        else:
            self._reading = DONE

    def _read_length(self) -> Event | Sentinel:
        buffer, start, left = self._buffer, self._start, self._left
        size = len(buffer) - start
        if not size:
            return self._need_body()
        if size <= left:
            data = buffer[start:] if start else buffer
            self._buffer = b""
            self._start = 0
        else:
            size = left
            data = buffer[start : start + left]
            self._start = start + left
        self._left = left = left - size
        if left:
            return DataReceived(1, data, 0, False)
        self._reading = DONE
        return DataReceived(1, data, 0, True)

    def _read_chunked(self) -> Event | Sentinel:
        chunks = self._chunks
        assert chunks is not None
        try:
            self._start = chunks.read(self._buffer, self._start)
        except RemoteProtocolError as error:
            # What came before the mistake is still good; the mistake is told next.
            if data := chunks.take():
                self._fail(error)
                return DataReceived(1, data, 0, False)
            raise
        data = chunks.take()
        if chunks.ended:
            if chunks.trailers:
                if data:
                    self._reading = TRAILERS
                    return DataReceived(1, data, 0, False)
                self._reading = DONE
                return TrailersReceived(1, self._trailers())
            self._chunks = None
            self._reading = DONE
            return DataReceived(1, data, 0, True)
        if data:
            return DataReceived(1, data, 0, False)
        return self._need_body()

    def _read_until_eof(self) -> Event | Sentinel:
        if data := self.trailing_data():
            return DataReceived(1, data, 0, False)
        if not self._eof:
            return NEED_DATA
        self._reading = DONE
        return DataReceived(1, b"", 0, True)

    @property
    def left_to_read(self) -> int:
        """See :class:`meshcore.codec.h1.interface.H1Codec`."""
        return self._left if self._reading == LENGTH and self._start == len(self._buffer) else 0

    def read_past(self, count: int, /) -> None:
        """See :class:`meshcore.codec.h1.interface.H1Codec`."""
        if not 0 <= count < self.left_to_read:
            raise LocalProtocolError("more than is to come of the body")
        self._left -= count

    def _trailers(self) -> Fields:
        chunks = self._chunks
        assert chunks is not None
        self._chunks = None
        return chunks.trailers

    def _need_body(self) -> Sentinel:
        if self._eof:
            raise RemoteProtocolError("connection closed before the end of the body")
        return NEED_DATA

    def _need_head(self) -> Event | Sentinel:
        if not self._eof:
            return NEED_DATA
        if self._start < len(self._buffer):
            raise RemoteProtocolError("connection closed inside a head")
        self._keep_alive = False
        return ConnectionClosed()

    # -- sending ------------------------------------------------------------------------------

    def send_data(self, data: bytes, /, *, end_stream: bool = False) -> bytes:
        """The bytes on the wire for a piece of the body; raises :class:`LocalProtocolError`."""
        sending = self._sending
        if sending == LENGTH:
            self._to_send = left = self._to_send - len(data)
            if left < 0:
                raise LocalProtocolError("body longer than its content-length")
            if end_stream:
                if left:
                    raise LocalProtocolError("body shorter than its content-length")
                self._sending = DONE
            return data
        if sending == CHUNKED:
            if not end_stream:
                return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self._sending = DONE
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        if sending in (UNTIL_EOF, RAW):
            if end_stream:
                self._sending = DONE
            return data
        if sending == NO_BODY:
            if end_stream:
                self._sending = DONE
            return b""
        if sending == DONE and not data:
            return b""
        raise LocalProtocolError("body before a head, or after its end")

    @property
    def left_to_send(self) -> int:
        """See :class:`meshcore.codec.h1.interface.H1Codec`."""
        return self._to_send if self._sending == LENGTH else 0

    def sent_past(self, count: int, /) -> None:
        """See :class:`meshcore.codec.h1.interface.H1Codec`."""
        if not 0 <= count <= self.left_to_send:
            raise LocalProtocolError("body longer than its content-length")
        self._to_send -= count

    @property
    def cut_shows(self) -> bool:
        """See :class:`meshcore.codec.h1.interface.H1Codec`."""
        return self._sending == CHUNKED or (self._sending == LENGTH and self._to_send > 0)

    def send_trailers(self, trailers: Fields, /) -> bytes:
        """Ends the body; the trailers are dropped where the framing has no place for them."""
        if self._sending != CHUNKED:
            return self.send_data(b"", end_stream=True)
        fields, _ = write_fields(check_trailers(trailers, LocalProtocolError))
        self._sending = DONE
        return b"0\r\n%b\r\n" % fields

    def start_next_cycle(self) -> bool:
        """Ready for the next message on this connection; False where it must be closed instead."""
        if self._reading != DONE or self._sending != DONE or not self._keep_alive:
            return False
        self._reading = HEAD
        self._sending = HEAD
        self._keep_alive = False
        return True
