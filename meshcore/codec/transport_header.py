"""What one proxy tells another at the head of a connection: port, name and protocol of what follows (D-19).

On the wire: a line of text and an empty one, the length of a protobuf message (four bytes, big-endian), the
message.  Byte-compatible with linkerd2-proxy's; the message is read and written here by hand, as protobuf's
own documentation of its encoding has it.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

__all__ = ["ALPN", "MAX_MESSAGE", "MESH", "TransportHeader", "decode", "encode"]

ALPN: Final = "transport.l5d.io/v1"
"""The protocol that is negotiated by TLS where the header is to come (RFC 7301)."""

MESH: Final = "mesh.meshcore/1"
"""What a proxy of the mesh offers beside it (RFC 7301), so that another one knows that the connection is meant for it,
whatever name was asked for: it then shows who it is, and the first can say who answered in place of whom it wanted.
Nothing else follows from it, and proxies that do not know it choose another protocol, or none."""

MAX_MESSAGE: Final = 65_536
"""Bytes that the message may have (D-22)."""

_PREFACE: Final = b"transport.l5d.io/v1\r\n\r\n"
_HEAD: Final = len(_PREFACE) + 4
_MAX_GROUPS: Final = 16

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_PORT, _NAME, _SESSION_PROTOCOL = 1, 2, 3
_KINDS: Final = {1: "http/1", 2: "h2"}
_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}

_label = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?").fullmatch


def _check_name(_: object, __: object, name: str) -> None:
    if name and (len(name) > 254 or not all(map(_label, name.removesuffix(".").split(".")))):
        raise ValueError(f"transport header: {name[:80]!r} is not a host name")


def _check_port(_: object, __: object, port: int) -> None:
    if not 0 < port < 65_536:
        raise ValueError(f"transport header: {port} is not a port")


@attrs.frozen
class TransportHeader:
    """Where a connection is to go, told by a proxy that has decided it (D-21).

    Attributes:
        port: the target's.
        name: its host name, for gateways; ``""`` if that is not told.
        protocol: ``"http/1"`` or ``"h2"`` if that is known already; None: opaque.

    Raises:
        ValueError: a port that is none, a name that no host can have.
    """

    port: int = attrs.field(validator=_check_port)
    name: str = attrs.field(default="", validator=_check_name)
    protocol: str | None = attrs.field(default=None, validator=attrs.validators.in_((None, *_NUMBERS)))


def encode(header: TransportHeader) -> bytes:
    """The header as it goes over the wire, in protobuf's canonical order."""
    message = _tag(_PORT, _VARINT) + _number(header.port)
    if header.name:
        message += _tag(_NAME, _BYTES) + _with_length(header.name.encode("ascii"))
    if header.protocol is not None:
        kind = _tag(_NUMBERS[header.protocol], _BYTES) + _with_length(b"")
        message += _tag(_SESSION_PROTOCOL, _BYTES) + _with_length(kind)
    return _PREFACE + len(message).to_bytes(4, "big") + message


def decode(data: bytes | bytearray) -> tuple[TransportHeader, int] | None:
    """The header at the beginning of *data* and how many bytes it took; None: more of it has to come.

    Fields that are not known are skipped, of known ones that come again the last counts.

    Raises:
        ValueError: it is none, from the first byte on that shows it; the message is longer than
            ``MAX_MESSAGE``, malformed, or its port or name cannot be one.
    """
    if data[: len(_PREFACE)] != _PREFACE[: len(data)]:
        raise ValueError("transport header: no preface")
    if len(data) < _HEAD:
        return None
    length = int.from_bytes(data[len(_PREFACE) : _HEAD], "big")
    if length > MAX_MESSAGE:
        raise ValueError(f"transport header: message length {length} exceeds {MAX_MESSAGE}")
    end = _HEAD + length
    if len(data) < end:
        return None
    return _header(bytes(data[_HEAD:end])), end


def _header(message: bytes) -> TransportHeader:
    port, name, protocol = 0, "", None
    for number, value in _fields(message, {_PORT: _VARINT, _NAME: _BYTES, _SESSION_PROTOCOL: _BYTES}):
        if number == _PORT:
            # An int32: what does not fit into it is cut off, and its highest bit is the sign.
            port = value & 0xFFFFFFFF
            port -= (port & 0x80000000) << 1
        elif number == _NAME:
            try:
                name = value.decode()
            except UnicodeDecodeError:
                raise ValueError("transport header: name is not text") from None
        else:
            protocol = _protocol(value, protocol)
    return TransportHeader(port, name, protocol)


def _protocol(message: bytes, protocol: str | None) -> str | None:
    """The kind in a SessionProtocol; one that came before it in another part of the same message stays."""
    for number, value in _fields(message, dict.fromkeys(_KINDS, _BYTES)):
        # An empty message today; what another version has in it must at least be one.
        _fields(value, {})
        protocol = _KINDS[number]
    return protocol


def _fields(message: bytes, known: dict[int, int]) -> list[tuple[int, Any]]:
    """The known fields in their order: integers, or bytes; the others are skipped.

    Args:
        message: a protobuf message.
        known: wire type by field number.
    """
    found: list[tuple[int, Any]] = []
    at = 0
    groups: list[int] = []
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise ValueError("transport header: field number out of range")
        value: int | bytes = b""
        if kind == _VARINT:
            value, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind == _GROUP:
            groups.append(number)
            if len(groups) > _MAX_GROUPS:
                raise ValueError("transport header: groups in groups")
        elif kind == _END_GROUP:
            if not groups or groups.pop() != number:
                raise ValueError("transport header: group ends that has not begun")
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("transport header: unknown wire type")
        if at > len(message):
            raise ValueError("transport header: message is cut off")
        if number in known and len(groups) == (kind == _GROUP) and kind != _END_GROUP:
            if kind != known[number]:
                raise ValueError(f"transport header: field {number} has wire type {kind}")
            found.append((number, value))
    if groups:
        raise ValueError("transport header: message is cut off")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
        if shift > 63:
            break
    raise ValueError("transport header: malformed number")


def _tag(number: int, kind: int) -> bytes:
    return _number(number << 3 | kind)


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _with_length(data: bytes) -> bytes:
    return _number(len(data)) + data
