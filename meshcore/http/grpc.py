"""gRPC on HTTP/2: what it looks like, its status codes, and statuses as fields.

Field layout: the gRPC protocol's "Responses" (``grpc-status``, percent-encoded ``grpc-message``).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.codec.events import Fields

__all__ = ["GrpcStatus", "encode_message", "is_grpc", "status_fields", "status_of"]

_UNRESERVED = frozenset(range(0x20, 0x7F)) - {0x25}
_LONGEST_MESSAGE = 1_024


class GrpcStatus(enum.IntEnum):
    """The status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def is_grpc(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a message's ``content-type`` is ``application/grpc``, with or without a suffix (E-04)."""
    for name, value in fields:
        if name == b"content-type":
            rest = value[16:17]
            return value[:16].lower() == b"application/grpc" and (not rest or rest in b"+;-")
    return False


def status_of(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The ``grpc-status`` among the fields; UNKNOWN for one that is no code, None where there is none."""
    for name, value in fields:
        if name == b"grpc-status":
            if len(value) <= 2 and value.isdigit() and int(value) <= 16:
                return int(value)
            return GrpcStatus.UNKNOWN
    return None


def encode_message(message: str) -> bytes:
    """*message* for ``grpc-message``: UTF-8, percent-encoded where it is not printable ASCII, cut at 1 KiB."""
    encoded = bytearray()
    for byte in message.encode()[:_LONGEST_MESSAGE]:
        if byte in _UNRESERVED:
            encoded.append(byte)
        else:
            encoded += b"%%%02X" % byte
    return bytes(encoded).strip()


def status_fields(status: int, message: str = "") -> Fields:
    """``grpc-status``, and ``grpc-message`` unless it is empty."""
    fields: Fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", encode_message(message)))
    return fields
