"""The strict scan of a head that comes before either engine, and gives its verdict by itself.

A head is judged line by line in the order of the bytes, so that the verdict is the same however
they were cut.  Refused are: a line not ended by CR LF, a control character but tab (NUL, bare CR
and bare LF among them), white space before a colon or at the start of a line (obs-fold), a method
or name that is no token, a target with white space or fragment, and any version but HTTP/1.0 and
HTTP/1.1 (RFC 9112 §2.2, §3, §5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshcore.errors import RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.codec.limits import H1Limits

__all__ = ["FIELD_LINES", "LineScan", "request_head", "response_head", "split_fields"]

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
_FIELDS: Final = rb"(?:%b++:%b*+\r\n)*+\r\n" % (_TOKEN, _TEXT)
_REQUEST_LINE: Final = rb"(%b{1,64}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n" % _TOKEN
_STATUS_LINE: Final = rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: %b*+)?\r\n" % _TEXT

request_head: Final = re.compile(_REQUEST_LINE + _FIELDS).match
"""Matches a whole request head at a position: method, target, minor version."""

response_head: Final = re.compile(_STATUS_LINE + _FIELDS).match
"""Matches a whole response head at a position: minor version, status."""

_request_line: Final = re.compile(_REQUEST_LINE).fullmatch
_status_line: Final = re.compile(_STATUS_LINE).fullmatch
_field_line: Final = re.compile(rb"%b++:%b*+\r\n" % (_TOKEN, _TEXT)).fullmatch
_long_method: Final = re.compile(rb"%b{65,} [\x21\x22\x24-\x7e]++ HTTP/1\.[01]\r\n" % _TOKEN).fullmatch
_any_version: Final = re.compile(
    rb"(?:%b++ [\x21-\x7e]++ )?HTTP/(?!1\.[01][^0-9])[0-9]+(?:\.[0-9]+)?(?: %b*+)?\r\n" % (_TOKEN, _TEXT)
).fullmatch
_fields: Final = re.compile(rb"(%b++):(%b*+)\r\n" % (_TOKEN, _TEXT)).findall

REQUEST_LINE: Final = 0
STATUS_LINE: Final = 1
FIELD_LINES: Final = 2


class LineScan:
    """Where the scan of a head or trailer section that came in pieces stands.

    Each byte is looked at once however many pieces there are.

    Attributes:
        offset: bytes of the section found good so far, whole lines.
        count: fields among them.
    """

    __slots__ = ("_limits", "_next", "count", "offset")

    def __init__(self, limits: H1Limits, kind: int, count: int = 0) -> None:
        self._limits = limits
        self._next = kind
        self.count = count
        self.offset = 0

    def scan(self, buffer: bytes, start: int) -> int:
        """The offset in *buffer* just after the section that begins at *start*, or -1: not all there.

        Raises:
            RemoteProtocolError: 400, 414, 431, 501 or 505, by the first line that is wrong.
        """
        head_size = self._limits.head_size
        at = start + self.offset
        while (end := buffer.find(b"\n", at) + 1) > 0:
            if self._next != FIELD_LINES:
                if end - at > self._limits.request_line + 2:
                    raise RemoteProtocolError("first line too long", status=414)
                if end - start > head_size:
                    raise RemoteProtocolError("head too large", status=431)
                _check_first_line(buffer[at:end], self._next)
                self._next = FIELD_LINES
            else:
                if end - start > head_size:
                    raise RemoteProtocolError("head too large", status=431)
                if end - at == 2 and buffer[at] == 0x0D:
                    return end
                self.count += 1
                if self.count > self._limits.header_count:
                    raise RemoteProtocolError("too many fields", status=431)
                if _field_line(buffer, at, end) is None:
                    raise RemoteProtocolError(_line_problem(buffer[at:end]))
            at = end
            self.offset = at - start
        if self._next != FIELD_LINES and len(buffer) - at > self._limits.request_line + 2:
            raise RemoteProtocolError("first line too long", status=414)
        if len(buffer) - start > head_size:
            raise RemoteProtocolError("head too large", status=431)
        return -1


def split_fields(section: bytes) -> Fields:
    """The fields of a scanned section, names in lower case, a first line left out."""
    return [(name.lower(), value.strip(b" \t")) for name, value in _fields(section)]


def _check_first_line(line: bytes, kind: int) -> None:
    if (_request_line if kind == REQUEST_LINE else _status_line)(line) is not None:
        return
    if _long_method(line) is not None:
        raise RemoteProtocolError("method too long", status=501)
    if _any_version(line) is not None:
        raise RemoteProtocolError("HTTP version not supported", status=505)
    what = "request line" if kind == REQUEST_LINE else "status line"
    raise RemoteProtocolError(f"{what} malformed: {line[:64]!r}")


def _line_problem(line: bytes) -> str:
    if not line.endswith(b"\r\n"):
        return "line not ended by CR LF"
    if line[0] in b" \t":
        return "folded field line"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "field line without a colon"
    if name[-1:] in (b" ", b"\t"):
        return "white space before the colon of a field"
    if re.fullmatch(rb"%b+" % _TOKEN, name) is None:
        return f"field name not valid: {name[:64]!r}"
    return f"control character in the value of {name[:64]!r}"
