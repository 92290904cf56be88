"""A strict, bounded decoder of ``transfer-encoding: chunked`` (RFC 9112 §7.1).

Chunk sizes are 1 to 16 hexadecimal digits below 2⁶³; extensions must be well formed, are bounded
one by one and altogether, and are dropped; every line ends with CR LF.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshcore.codec.h1.scan import FIELD_LINES, LineScan, split_fields
from meshcore.codec.validate import check_trailers
from meshcore.errors import RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.codec.limits import H1Limits

__all__ = ["BATCH", "ChunkedBody"]

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'

_size_line: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)\r\n").match
_extended_line: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)((?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+)\r\n" % (_TOKEN, _TOKEN, _QUOTED)
).fullmatch

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)
_SIZE_END: Final = 1 << 63

# The size lines of one digit, where a chunk costs the most for its bytes.
_short_size: Final = {b"%b\r\n" % digit: int(digit, 16) for digit in map(bytes, zip(b"123456789abcdefABCDEF"))}.get

BATCH: Final = 64
"""Chunks decoded in a row: what a reader does between two occasions to let others have their turn is bounded
by this, not by how small a peer makes its chunks."""


class ChunkedBody:
    """The decoder of one message's body.

    Attributes:
        ended: the last chunk and the trailer section have been read.
        trailers: those that may be passed on.
    """

    __slots__ = ("_extensions", "_left", "_limits", "_lines", "_pieces", "_state", "ended", "trailers")

    def __init__(self, limits: H1Limits, count: int) -> None:
        """*count*: fields in the message's head, since trailers count with them."""
        self._limits = limits
        self._state = _SIZE
        self._left = 0
        self._extensions = 0
        self._pieces: list[bytes] = []
        self._lines = LineScan(limits, FIELD_LINES, count)
        self.ended = False
        self.trailers: Fields = []

    def take(self) -> bytes:
        """The bytes decoded since the last call."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    def read(self, buffer: bytes, start: int) -> int:
        """Decodes what there is in *buffer* from *start* on, ``BATCH`` chunks at the most; where the rest begins.
        Not called once it has ended.

        Raises:
            RemoteProtocolError: 400, or 431 for the trailers; what was decoded before is there to
                be taken.
        """
        while True:
            state = self._state
            if state == _DATA:
                left = self._left
                piece = buffer[start : start + left]
                if not piece:
                    return start
                self._pieces.append(piece)
                start += len(piece)
                self._left = left = left - len(piece)
                if left:
                    return start
                self._state = _DATA_END
            elif state == _SIZE:
                start = self._read_whole(buffer, start)
                if len(self._pieces) >= BATCH:
                    return start
                match = _size_line(buffer, start)
                if match is None:
                    end = self._check_size_line(buffer, start)
                    if end < 0:
                        return start
                else:
                    end = match.end()
                    self._left = int(match[1], 16)
                if self._left >= _SIZE_END:
                    raise RemoteProtocolError("chunk too large")
                start = end
                self._state = _DATA if self._left else _TRAILERS
            elif state == _DATA_END:
                if not buffer.startswith(b"\r\n", start):
                    if len(buffer) - start < 2 and b"\r".startswith(buffer[start:]):
                        return start
                    raise RemoteProtocolError("chunk not ended by CR LF")
                start += 2
                self._state = _SIZE
            else:
                end = self._lines.scan(buffer, start)
                if end < 0:
                    return start
                if end - start > 2:
                    self.trailers = check_trailers(split_fields(buffer[start:end]))
                self.ended = True
                return end

    def _read_whole(self, buffer: bytes, start: int) -> int:
        """Takes the plain chunks that are there from the size to the CR LF; stops at any other."""
        pieces = self._pieces
        for _ in range(BATCH - len(pieces)):
            size = _short_size(buffer[start : start + 3])
            if size is not None:
                data = start + 3
            else:
                match = _size_line(buffer, start)
                if match is None:
                    break
                data = match.end()
                size = int(match[1], 16)
            end = data + size
            if not size or buffer[end : end + 2] != b"\r\n":
                break
            pieces.append(buffer[data:end])
            start = end + 2
        return start

    def _check_size_line(self, buffer: bytes, start: int) -> int:
        """The end of a size line with extensions, -1 where it is not all there."""
        end = buffer.find(b"\n", start) + 1
        if (end or len(buffer)) - start > self._limits.chunk_line:
            raise RemoteProtocolError("size line of a chunk too long")
        if not end:
            return -1
        match = _extended_line(buffer, start, end)
        if match is None:
            raise RemoteProtocolError("size line of a chunk malformed")
        self._extensions += len(match[2])
        if self._extensions > self._limits.head_size:
            raise RemoteProtocolError("too many chunk extensions")
        self._left = int(match[1], 16)
        return end
