"""Protobuf's wire format by hand, as far as the few messages need it that the proxy itself speaks.

A field is written by ``number``, ``text`` or ``nested``, and read back by :func:`fields`.  Source: the protocol
buffers documentation, "Encoding".  For whole schemas there is the package ``protobuf`` (the extra ``control``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["entries", "fields", "nested", "number", "numbers", "strings", "text"]

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_MASK: Final = (1 << 64) - 1
_SMALL: Final = [bytes((field << 3 | _BYTES, size)) for field in range(16) for size in range(0x80)]
"""The heads of small messages, by their field, shifted by 7 bits, and their size."""


def number(field: int, value: int) -> bytes:
    """An integer, enum or bool (which is 0 where it is not there); negative ones as int32 and int64 have them."""
    return _varint(field << 3 | _VARINT) + _varint(value & _MASK) if value else b""


def text(field: int, value: str | bytes) -> bytes:
    """A string or bytes (which are empty where they are not there)."""
    return nested(field, value.encode() if isinstance(value, str) else value) if value else b""


def nested(field: int, message: bytes) -> bytes:
    """A message, which is there even if it is empty."""
    size = len(message)
    if field < 16 and size < 0x80:
        # As nearly all of them: a byte each.
        return _SMALL[field << 7 | size] + message
    if field < 16 and size < 0x4000:
        return bytes((field << 3 | _BYTES, size & 0x7F | 0x80, size >> 7)) + message
    return _varint(field << 3 | _BYTES) + _varint(size) + message


def entries(field: int, items: Iterable[tuple[str, str]]) -> bytes:
    """A map of strings."""
    return b"".join(nested(field, text(1, key) + text(2, value)) for key, value in items)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order, each with its number: integers, or bytes; fixed-width ones are skipped.

    Raises:
        ValueError: it is no message, or has groups, which nobody has used for twenty years.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _read(message, at)
        field, kind = tag >> 3, tag & 7
        if not 0 < field < 1 << 29:
            raise ValueError("field number out of range")
        if kind == _VARINT:
            value, at = _read(message, at)
            yield field, value
        elif kind == _BYTES:
            length, at = _read(message, at)
            if length > end - at:
                raise ValueError("message is cut off")
            yield field, message[at : at + length]
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            if at > end:
                raise ValueError("message is cut off")
        else:
            raise ValueError(f"unknown wire type {kind}")


def numbers(message: bytes) -> dict[int, int]:
    """The integers of a message by their field; of those that are there twice, the last."""
    return {field: value for field, value in fields(message) if isinstance(value, int)}


def strings(message: bytes) -> dict[int, bytes]:
    """The strings, bytes and messages of a message by their field; of those that are there twice, the last."""
    return {field: value for field, value in fields(message) if isinstance(value, bytes)}


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MASK:
                break
            return value, at
        shift += 7
    raise ValueError("malformed number")
