"""Messages in a body: five bytes before each say whether it is compressed, and how long it is.

The gRPC protocol's "Length-Prefixed-Message".  Messages are sent uncompressed and nothing else is offered, so that
a compressed one is an error.
"""

from __future__ import annotations

import struct
from typing import Final

from meshcore.grpc.status import failure
from meshcore.http.grpc import GrpcStatus

__all__ = ["LARGEST", "MessageReader", "frame"]

LARGEST: Final = 4 << 20
"""Bytes of a message that are taken unless somebody says otherwise (4 MiB, as everywhere)."""

_PREFIX: Final = struct.Struct(">BI")


def frame(message: bytes) -> bytes:
    """*message* with its prefix.

    Raises:
        GrpcError: RESOURCE_EXHAUSTED: it has 4 GiB or more, which a prefix cannot say.
    """
    if len(message) > 0xFFFFFFFF:
        raise failure(GrpcStatus.RESOURCE_EXHAUSTED, f"a message of {len(message)} bytes cannot be sent")
    return _PREFIX.pack(0, len(message)) + message


class MessageReader:
    """Finds the messages in the chunks of a body, however those are cut.

    What waits in it is never more than the largest message, its prefix, and the chunk that was put in last.

    Args:
        largest: bytes of a message that are taken.
    """

    __slots__ = ("_buffer", "_largest", "_wanted")

    def __init__(self, largest: int = LARGEST) -> None:
        self._buffer = bytearray()
        self._largest = largest
        # The length of the message that has begun; -1 before its prefix is there.
        self._wanted = -1

    def __repr__(self) -> str:
        return f"<MessageReader buffered={len(self._buffer)}>"

    def receive_data(self, data: bytes) -> None:
        """Puts a chunk in; all messages before it have to be taken out first."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """The next message; None where more has to come first.

        Raises:
            GrpcError: RESOURCE_EXHAUSTED for a message that is too large, before any of it is kept; INTERNAL for one
                that is compressed, or for what is no prefix.  There is no going on after it.
        """
        buffer = self._buffer
        if self._wanted < 0:
            if len(buffer) < _PREFIX.size:
                return None
            compressed, length = _PREFIX.unpack_from(buffer)
            if compressed:
                raise failure(
                    GrpcStatus.INTERNAL,
                    "a compressed message came, and compression was not offered"
                    if compressed == 1
                    else f"malformed message: flags {compressed}",
                )
            if length > self._largest:
                raise failure(
                    GrpcStatus.RESOURCE_EXHAUSTED, f"a message of {length} bytes came; the limit is {self._largest}"
                )
            del buffer[: _PREFIX.size]
            self._wanted = length
        wanted = self._wanted
        if len(buffer) < wanted:
            return None
        self._wanted = -1
        if len(buffer) == wanted:
            message = bytes(buffer)
            buffer.clear()
        else:
            with memoryview(buffer) as view:
                message = bytes(view[:wanted])
            del buffer[:wanted]
        return message

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended: the body must not end here."""
        return self._wanted >= 0 or bool(self._buffer)
