"""Which failed requests may be tried again.  Pure."""

from __future__ import annotations

from meshcore.errors import (
    ConnectError,
    ConnectionLost,
    FailFastError,
    GoAway,
    InjectedFailure,
    LoadShedError,
    MeshError,
    ResponseTimeout,
    StreamReset,
    UpstreamProtocolError,
)
from meshcore.http.retry_on import RetryOn

__all__ = ["IDEMPOTENT", "may_repeat", "may_retry"]

IDEMPOTENT: frozenset[bytes] = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods that may be carried out twice (RFC 9110 §9.2.2)."""

_TRANSPORT = (ConnectionLost, GoAway, ResponseTimeout, StreamReset, UpstreamProtocolError)
_USUAL = RetryOn()


def may_repeat(method: bytes, on: RetryOn, *, grpc: bool) -> bool:
    """Whether a request may be carried out twice: by its method; or because whoever lists gRPC statuses, whose requests
    are all POST, has said so."""
    return method in IDEMPOTENT or (grpc and bool(on.grpc))


def may_retry(method: bytes, error: MeshError, on: RetryOn = _USUAL, *, grpc: bool = False) -> bool:
    """Whether a request that failed with *error*, before any response headers, may be tried again.

    Any method where nothing of it was processed (``error.retryable``); one that may be carried out twice where the
    connection or its peer broke, or nothing came in time, too.  Not what was shed (R-10), nor what failed fast: whoever
    tries the same backend again at once is told the same.

    Args:
        method: the request's.
        error: what the try ended with.
        on: what is tried again.
        grpc: whether it is a gRPC request.
    """
    if isinstance(error, LoadShedError | FailFastError):
        return False
    if isinstance(error, InjectedFailure):
        # It stands for a response.
        return (error.grpc_status in on.grpc) if grpc else (error.status in on.statuses)
    if not error.retryable and not (isinstance(error, _TRANSPORT) and may_repeat(method, on, grpc=grpc)):
        return False
    # Whoever wants the status that the client would be told to be tried again wants its cause to be.
    if (error.grpc_hint in on.grpc) if grpc else (error.status_hint in on.statuses):
        return True
    if isinstance(error, ConnectError) and not isinstance(error, ConnectionLost):
        return on.connect_failure
    if isinstance(error, ResponseTimeout):
        return on.timeout
    return on.reset or (on.refused and error.retryable)
