"""Success or failure: what a response counts as once it has ended (R-20, R-21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import (
    BodyAbandoned,
    ConnectTimeout,
    FailFastError,
    GoAway,
    LoadShedError,
    MeshError,
    NoEndpoints,
    ResponseTimeout,
    StreamReset,
    StreamTimeout,
)
from meshcore.http.grpc import GrpcStatus, status_of

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["GRPC_FAILURES", "error_label", "grpc_outcome", "is_failure", "status_error"]

GRPC_FAILURES: frozenset[int] = frozenset(
    {
        GrpcStatus.UNKNOWN,
        GrpcStatus.DEADLINE_EXCEEDED,
        GrpcStatus.PERMISSION_DENIED,
        GrpcStatus.INTERNAL,
        GrpcStatus.UNAVAILABLE,
        GrpcStatus.DATA_LOSS,
    }
)
"""gRPC statuses that are the server's failure (R-20)."""

_H2_REASONS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


def is_failure(status: int) -> bool:
    """Whether an HTTP status is the server's failure: 500 to 599 (R-20)."""
    return 500 <= status <= 599


def grpc_outcome(headers: Fields, trailers: Fields) -> tuple[int, bool]:
    """A gRPC response's status, and whether it is a failure, from the headers (trailers-only) or the
    trailers.  A complete response that names none is a success with UNKNOWN (R-20)."""
    status = status_of(headers)
    if status is None:
        status = status_of(trailers)
        if status is None:
            return GrpcStatus.UNKNOWN, False
    return status, status in GRPC_FAILURES


def error_label(error: BaseException) -> str:
    """The ``error`` label of what broke an exchange (R-21): ``timeout``, ``h2(REASON)``, the error's code,
    ``cancelled`` where the client gave up, ``unclassified`` for what is not one of ours."""
    if isinstance(error, BodyAbandoned) or not isinstance(error, Exception):
        return "cancelled"
    if isinstance(error, StreamReset):
        code = error.h2_code
        return f"h2({_H2_REASONS[code]})" if 0 <= code < len(_H2_REASONS) else "h2(UNKNOWN)"
    if isinstance(error, ResponseTimeout | StreamTimeout | ConnectTimeout):
        return "timeout"
    return error.code if isinstance(error, MeshError) else "unclassified"


def status_error(error: BaseException) -> str:
    """The ``error`` label of what broke an exchange where its status is counted (M-10): ``FAIL_FAST``, ``LOAD_SHED``,
    a timeout by its limit, what a stream was reset with, ``GO_AWAY``, ``IO``; ``CANCEL`` where the client gave up,
    ``UNKNOWN`` for all else."""
    if isinstance(error, BodyAbandoned) or not isinstance(error, Exception):
        return "CANCEL"
    if isinstance(error, StreamReset):
        return _RESETS.get(error.h2_code, "RESET")
    if isinstance(error, StreamTimeout):
        return _LIMITS.get(error.limit, "UNKNOWN")
    for kind, label in _KINDS:
        if isinstance(error, kind):
            return label
    return "IO" if isinstance(error, MeshError) and error.kind == "i/o" else "UNKNOWN"


_RESETS = {7: "REFUSED", 8: "CANCEL", 11: "ENHANCE_YOUR_CALM"}
_LIMITS = {"request": "REQUEST_TIMEOUT", "response": "RESPONSE_STREAM_TIMEOUT", "idle": "IDLE_TIMEOUT"}
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (FailFastError, "FAIL_FAST"),
    (NoEndpoints, "FAIL_FAST"),
    (LoadShedError, "LOAD_SHED"),
    (ResponseTimeout, "RESPONSE_HEADERS_TIMEOUT"),
    (GoAway, "GO_AWAY"),
)
