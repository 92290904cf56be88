"""Writes heads: the fields as given, the framing anew."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from meshcore.codec.h1.control import plain_length
from meshcore.codec.validate import CONNECTION_FIELDS, check_fields, join_fields, parse_content_length
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


def write_fields(headers: Fields, *, keep_length: bool = True) -> tuple[bytes, int | None]:
    """The lines of the fields, fields of the connection and ``expect`` left out; the content-length, if any.

    Raises:
        LocalProtocolError: a name or value is not valid, or the content-length is not one number.
    """
    block = join_fields(headers)
    if block is None:
        check_fields(headers, LocalProtocolError)
    own = [field for field in headers if field[0] in _OWN]
    length: int | None = None
    if own:
        length = plain_length(own) if keep_length else None
        if length is None:
            block, length = _rewrite(headers, keep_length)
    assert block is not None
    return block.replace(b"\n", b"\r\n").replace(b"\0", b": "), length


def _rewrite(headers: Fields, keep_length: bool) -> tuple[bytes | None, int | None]:
    """Without the fields of the connection, and with the content-length in its shortest form."""
    kept: Fields = []
    length: int | None = None
    for field in headers:
        if field[0] == b"content-length":
            number = parse_content_length(field[1])
            if number is None or length is not None:
                raise LocalProtocolError("content-length not one number")
            length = number
            if keep_length:
                kept.append((b"content-length", b"%d" % number))
        elif field[0] not in _OWN:
            kept.append(field)
    return join_fields(kept), length if keep_length else None
