"""Writes heads: the fields as given, the framing anew."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from meshcore.codec.h1.control import plain_length
from meshcore.codec.validate import (
    CONNECTION_FIELDS,
    VOLATILE,
    check_fields,
    is_field_name,
    is_field_value,
    is_volatile_value,
    join_fields,
    parse_content_length,
)
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
    parts: list[bytes] = []
    length: int | None = None
    for field in headers:
        line = _written.get(field)
        if line is None:
            if field[0] == VOLATILE:
                if not is_volatile_value(field[1]):
                    break
                line = b"traceparent: %b\r\n" % field[1]
            elif field[0] == b"content-length" and keep_length and length is None:
                length = plain_length([field])
                if length is None:
                    break
                line = b"content-length: %b\r\n" % field[1]
            else:
                line = _write(field)
                if line is None:
                    break
        parts.append(line)
    else:
        return b"".join(parts), length
    return _write_all(headers, keep_length)


# Fields that have been found good more than once, as they are written: those that come again, for what is another one
# each time (identifiers, dates) would only take the place of others.
_MOST: Final = 4_096
_LONGEST: Final = 256
_written: Final[dict[tuple[bytes, bytes], bytes]] = {}
_once: Final[set[int]] = set()
"""The hashes of those that have been found good once."""


def _write(field: tuple[bytes, bytes]) -> bytes | None:
    """The line of one ordinary field, remembered if it comes again; None for any other."""
    name, value = field
    if name in _OWN or not is_field_name(name) or not is_field_value(value):
        return None
    line = b"%b: %b\r\n" % field
    if len(line) <= _LONGEST:
        known = hash(field)
        if known in _once:
            _once.discard(known)
            if len(_written) >= _MOST:
                _written.clear()
            _written[field] = line
        else:
            if len(_once) >= _MOST:
                _once.clear()
            _once.add(known)
    return line


def _write_all(headers: Fields, keep_length: bool) -> tuple[bytes, int | None]:
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
