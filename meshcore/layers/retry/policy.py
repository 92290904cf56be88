"""Which failed requests may be tried again.  Pure."""

from __future__ import annotations

from meshcore.errors import (
    ConnectionLost,
    FailFastError,
    GoAway,
    LoadShedError,
    MeshError,
    ResponseTimeout,
    StreamReset,
    UpstreamProtocolError,
)

__all__ = ["IDEMPOTENT", "may_retry"]

IDEMPOTENT: frozenset[bytes] = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods that may be carried out twice (RFC 9110 §9.2.2)."""

_TRANSPORT = (ConnectionLost, GoAway, ResponseTimeout, StreamReset, UpstreamProtocolError)


def may_retry(method: bytes, error: MeshError) -> bool:
    """Whether a request that failed with *error*, before any response headers, may be tried again.

    Any method where nothing of it was processed (``error.retryable``); an idempotent one where the
    connection or its peer broke, too.  Not what was shed (R-10), nor what failed fast: whoever tries the same
    backend again at once is told the same.
    """
    if isinstance(error, LoadShedError | FailFastError):
        return False
    return error.retryable or (method in IDEMPOTENT and isinstance(error, _TRANSPORT))
