"""Writes heads: the fields as given, the framing anew."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import CONNECTION_FIELDS, check_fields, parse_content_length
from meshcore.errors import LocalProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["status_line", "write_fields"]

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_LINES: Final = {
    (status, version): b"HTTP/1.%d %d %b\r\n" % (version - 10, status, reason)
    for status, reason in _REASONS.items()
    for version in (10, 11)
}
_OWN: Final = CONNECTION_FIELDS | {b"content-length", b"expect"}


def status_line(status: int, version: int) -> bytes:
    """The first line of a response; the reason phrase is empty where the status has no name."""
    line = _LINES.get((status, version))
    return b"HTTP/1.%d %d \r\n" % (version - 10, status) if line is None else line


def write_fields(lines: list[bytes], headers: Fields, *, keep_length: bool = True) -> int | None:
    """Appends a line for each field, fields of the connection and ``expect`` left out; the content-length, if any.

    Raises:
        LocalProtocolError: a name or value is not valid, or the content-length is not one number.
    """
    check_fields(headers, LocalProtocolError)
    length: int | None = None
    for field in headers:
        if field[0] in _OWN:
            if field[0] == b"content-length" and keep_length:
                number = parse_content_length(field[1])
                if number is None or length is not None:
                    raise LocalProtocolError("content-length not one number")
                length = number
                lines.append(b"content-length: %d\r\n" % number)
            continue
        lines.append(b"%b: %b\r\n" % field)
    return length
