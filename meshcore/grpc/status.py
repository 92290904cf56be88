"""How a call ended: from the fields of a response, from its HTTP status, or from what broke it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.errors import GrpcError, MeshError, StreamReset
from meshcore.grpc.metadata import decode_metadata
from meshcore.http.grpc import GrpcStatus, decode_message, status_of

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["broken", "failure", "http_failure", "http_status", "outcome"]

# The gRPC documentation's "HTTP to gRPC Status Code Mapping".
_HTTP: Final = {
    400: GrpcStatus.INTERNAL,
    401: GrpcStatus.UNAUTHENTICATED,
    403: GrpcStatus.PERMISSION_DENIED,
    404: GrpcStatus.UNIMPLEMENTED,
    429: GrpcStatus.UNAVAILABLE,
    502: GrpcStatus.UNAVAILABLE,
    503: GrpcStatus.UNAVAILABLE,
    504: GrpcStatus.UNAVAILABLE,
}

# The gRPC protocol's "Errors", by the code of an RST_STREAM; others are INTERNAL.
_RESET: Final = {
    0x7: GrpcStatus.UNAVAILABLE,
    0x8: GrpcStatus.CANCELLED,
    0xB: GrpcStatus.RESOURCE_EXHAUSTED,
    0xC: GrpcStatus.PERMISSION_DENIED,
}


def failure(
    status: int,
    message: str,
    *,
    details: bytes = b"",
    metadata: tuple[tuple[bytes, bytes], ...] = (),
    retryable: bool = False,
) -> GrpcError:
    """An error whose text names the status: ``not found: no such user``."""
    name = GrpcStatus(status).name.replace("_", " ").lower()
    return GrpcError(
        f"{name}: {message}" if message else name,
        status=GrpcStatus(status),
        message=message,
        details=details,
        metadata=metadata,
        retryable=retryable,
    )


def outcome(fields: Fields) -> GrpcError | None:
    """What the fields that end a call say: None for OK.

    Fields that name no status are UNKNOWN: nobody said that it went well.
    """
    status = status_of(fields)
    if status == GrpcStatus.OK:
        return None
    if status is None:
        return failure(GrpcStatus.UNKNOWN, "the answer ended without a grpc-status", metadata=_metadata(fields))
    message = b""
    for name, value in fields:
        if name == b"grpc-message":
            message = value
            break
    metadata = _metadata(fields)
    details = next((value for name, value in metadata if name == b"grpc-status-details-bin"), b"")
    return failure(status, decode_message(message), details=details, metadata=metadata)


def http_failure(status: int) -> GrpcError:
    """What an answer that is not gRPC's is: something in between, or another kind of server."""
    return failure(http_status(status), f"HTTP status {status} where gRPC was expected")


def http_status(status: int) -> GrpcStatus:
    """The status of gRPC that an HTTP status is taken for."""
    return _HTTP.get(status, GrpcStatus.UNKNOWN)


def broken(error: MeshError) -> GrpcError:
    """What an error of the way there is for the call; it is chained as the cause."""
    if isinstance(error, GrpcError):
        return error
    status = _RESET.get(error.h2_code, GrpcStatus.INTERNAL) if isinstance(error, StreamReset) else error.grpc_hint
    found = failure(status, "", retryable=error.retryable)
    found.message = str(error)
    found.__cause__ = error
    return found


def _metadata(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(decode_metadata(fields, details=True))
