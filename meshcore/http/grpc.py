"""gRPC on HTTP/2: what it looks like, its status codes, and statuses and deadlines as fields.

Field layout: the gRPC protocol's "Requests" (``grpc-timeout``) and "Responses" (``grpc-status``, percent-encoded
``grpc-message``).
"""

from __future__ import annotations

import enum
import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.http.message import Request

__all__ = [
    "GrpcStatus",
    "decode_message",
    "encode_message",
    "encode_timeout",
    "format_timeout",
    "is_grpc",
    "parse_timeout",
    "pass_on_deadline",
    "status_fields",
    "status_of",
    "timeout_of",
]

_MOST_DIGITS = 8
_UNRESERVED = frozenset(range(0x20, 0x7F)) - {0x25}
_LONGEST_MESSAGE = 1_024
_ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"n": 1e-9, b"u": 1e-6, b"m": 1e-3, b"S": 1.0, b"M": 60.0, b"H": 3_600.0}
_MOST = 99_999_999


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


def is_grpc(fields: Fields) -> bool:
    """Whether a message's ``content-type`` is ``application/grpc``, with or without a suffix (E-04)."""
    for name, value in fields:
        if name == b"content-type":
            if value == b"application/grpc":
                return True
            rest = value[16:17]
            return value[:16].lower() == b"application/grpc" and (not rest or rest in b"+;-")
    return False


def status_of(fields: Fields) -> int | None:
    """The ``grpc-status`` among the fields; UNKNOWN for one that is no code, None where there is none."""
    for name, value in fields:
        if name == b"grpc-status":
            if value == b"0":
                return 0
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


def decode_message(value: bytes) -> str:
    """The text of a ``grpc-message``.  What is no valid escape stays as it is, and no valid UTF-8 is replaced, for
    the message of an error must not become another one."""
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), value).decode("utf-8", "replace")


def format_timeout(seconds: float) -> bytes:
    """*seconds* for ``grpc-timeout``: in the finest unit whose eight digits suffice, rounded up; nothing is left of
    what is not above 0."""
    if seconds <= 0:
        return b"0n"
    for unit, size in _UNITS.items():
        # A trillionth less, so that 0.2 s are not 200,000,001 ns.
        count = math.ceil(seconds / size - 1e-12 * (seconds / size)) if seconds < _MOST * size else _MOST + 1
        if count <= _MOST:
            return b"%d%b" % (count, unit)
    return b"%dH" % _MOST


def parse_timeout(value: bytes) -> float | None:
    """The seconds that a ``grpc-timeout`` says; None where it says none."""
    match = _TIMEOUT.fullmatch(value)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def status_fields(status: int, message: str = "") -> Fields:
    """``grpc-status``, and ``grpc-message`` unless it is empty."""
    fields: Fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", encode_message(message)))
    return fields


def timeout_of(fields: Fields) -> float | None:
    """Seconds that a gRPC client gives, by ``grpc-timeout``: at most eight digits and a unit; None without a valid
    one."""
    for name, value in fields:
        if name == b"grpc-timeout":
            return parse_timeout(value)
    return None


def encode_timeout(seconds: float) -> bytes:
    """*seconds* for ``grpc-timeout``: in the finest unit of milliseconds and up that has room for it, rounded down, so
    that nobody is given more time than there is."""
    for unit, size in ((b"m", 1e-3), (b"S", 1.0), (b"M", 60.0), (b"H", 3_600.0)):
        count = int(max(seconds, 0.0) / size + 1e-6)
        if count < 10**_MOST_DIGITS:
            return b"%d%s" % (count, unit)
    return b"99999999H"


def pass_on_deadline(request: Request, now: float) -> None:
    """Shortens a gRPC request's ``grpc-timeout`` to what is left of its limit (R-19); without either, nothing."""
    limits = request.timeouts
    if limits is None or limits.request is None or request.started is None:
        return
    fields = request.headers.raw
    for index, (name, _) in enumerate(fields):
        if name == b"grpc-timeout":
            fields[index] = (name, encode_timeout(request.started + limits.request - now))
            return
