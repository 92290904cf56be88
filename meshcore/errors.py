"""The error tree: small, named, and each says whose fault it is and how it is answered.

Two levels deep: every error is a :class:`MeshError`.  Class attributes carry the hints that
``Rescue`` turns into a response (table 6.1 of the reference, E-01 to E-07): ``code`` is the stable
name that ``x-meshcore-error`` and ``meshcore explain`` use.  Messages are lower case, name the
target, have no full stop, and are chained with ``from``.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from meshcore._chains import again, caused, chain, inside, leaves
from meshcore._mesh_error import MeshError

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "AuthorizationUnavailable",
    "BodyAbandoned",
    "CircuitOpen",
    "ConfigError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLost",
    "FailFastError",
    "GoAway",
    "GrpcError",
    "IdentityError",
    "InjectedFailure",
    "KeysUnavailable",
    "LoadShedError",
    "LocalProtocolError",
    "LoopDetected",
    "MeshError",
    "NoEndpoints",
    "NoRoute",
    "NotReady",
    "RateLimitError",
    "Redirected",
    "RemoteProtocolError",
    "RequestBodyError",
    "ResponseTimeout",
    "StreamReset",
    "StreamTimeout",
    "TlsError",
    "TlsRefused",
    "UpstreamProtocolError",
    "again",
    "caused",
    "chain",
    "inside",
    "leaves",
]

# HTTP/2 error codes (RFC 9113 §7) that errors hint at.
NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD


class ConnectError(MeshError):
    """No connection could be made to an endpoint (refused, unreachable, reset: 502)."""

    code = "connect-failed"
    kind = "i/o"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class ConnectTimeout(ConnectError):
    """An endpoint did not accept a connection in time (B-19: 504)."""

    code = "connect-timeout"
    status_hint = 504
    grpc_hint = 4


class TlsError(ConnectError):
    """A TLS handshake failed; never downgraded to plaintext (T-17: 502).

    Attributes:
        reason: what went wrong, in one word for a metric's label: ``"expired"``, ``"timeout"`` and the like.
    """

    code = "tls-failed"
    status_hint = 502

    def __init__(self, message: str = "", *, retryable: bool = True, reason: str = "failed") -> None:
        super().__init__(message, retryable=retryable)
        self.reason = reason

    @property
    def lasting(self) -> bool:
        """Whether another try would fail in the same way until somebody does something about it: a certificate was
        looked at and refused."""
        return self.reason not in _PASSING


_PASSING = frozenset({"failed", "timeout", "closed", "protocol", "not certified"})


class IdentityError(MeshError):
    """The peer is not who was required (T-19: 502)."""

    code = "identity-mismatch"
    kind = "identity required"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"


class ConnectionLost(MeshError):
    """A connection broke in the middle of an exchange (502).

    ``retryable`` is true where no byte of the request can have been processed, such as a kept-alive
    connection that its peer had closed.
    """

    code = "connection-lost"
    kind = "i/o"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"


class TlsRefused(TlsError, ConnectionLost):
    """The peer refused our certificate after our side of the handshake was done, as TLS 1.3 has it: the connection
    is lost, and nothing that was sent on it has been processed."""


class NoRoute(MeshError):
    """No route matches the request (R-24: 404)."""

    code = "no-route"
    status_hint = 404
    grpc_hint = 5
    source = "proxy"
    closes = False


class Redirected(MeshError):
    """A route sends its requests elsewhere (R-25: 301, or what the route says).

    Attributes:
        status: the HTTP status.
        location: where to.
    """

    code = "redirect"
    status_hint = 301
    grpc_hint = 5
    closes = False

    def __init__(self, message: str = "redirected", *, status: int = 301, location: bytes = b"/") -> None:
        super().__init__(message)
        self.status = status
        self.location = location


class InjectedFailure(MeshError):
    """A route fails some of its requests on purpose (R-25: the status that it says).

    Attributes:
        status: the HTTP status; 200 where the failure is one of gRPC.
        grpc_status: the gRPC status.
    """

    code = "injected-failure"
    status_hint = 503
    grpc_hint = 9
    closes = False

    def __init__(
        self, message: str = "injected failure", *, status: int | None = None, grpc_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status or (self.status_hint if grpc_status is None else 200)
        self.grpc_status = self.grpc_hint if grpc_status is None else grpc_status


class NoEndpoints(MeshError):
    """The backend has no endpoint at all (503)."""

    code = "no-endpoints"
    kind = "failfast"
    status_hint = 503
    grpc_hint = 14
    source = "upstream"

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class FailFastError(MeshError):
    """No endpoint became ready in time: the service is in fail-fast (B-09: 504)."""

    code = "fail-fast"
    kind = "failfast"
    status_hint = 504
    grpc_hint = 4
    source = "upstream"

    def __init__(self, message: str = "service in fail-fast", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class NotReady(MeshError):
    """A gate before an endpoint is shut (B-14): the request is for another one.  ``Balance`` finds that, so this is
    seen only in stacks without it (503)."""

    code = "not-ready"
    status_hint = 503
    grpc_hint = 14
    source = "upstream"

    def __init__(self, message: str = "endpoint is not ready", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class CircuitOpen(NotReady):
    """An endpoint is left alone for a while because it failed (B-14, B-17: 503 where there is no other one)."""

    code = "circuit-open"


class LoadShedError(MeshError):
    """The proxy refuses what it would have to make wait (B-10, B-12: 503)."""

    code = "load-shed"
    kind = "loadshed"
    status_hint = 503
    grpc_hint = 14

    def __init__(self, message: str = "service unavailable", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class ResponseTimeout(MeshError):
    """No response headers came in time (R-18: 504, connection kept)."""

    code = "response-timeout"
    kind = "response timeout"
    status_hint = 504
    grpc_hint = 4
    h2_hint = CANCEL
    source = "upstream"
    closes = False


class StreamTimeout(MeshError):
    """An exchange exceeded its total or idle limit (R-17, R-18: 504, or a reset after headers)."""

    code = "stream-timeout"
    kind = "response timeout"
    status_hint = 504
    grpc_hint = 4
    h2_hint = CANCEL
    source = "upstream"
    closes = False

    @property
    def limit(self) -> str:
        """Which limit it was, by the message's first word: ``"request"``, ``"response"``, ``"idle"``, or ``""``."""
        word = str(self).partition(" ")[0]
        return word if word in ("request", "response", "idle") else ""


class RequestBodyError(MeshError):
    """The client's request body broke before its end (400)."""

    code = "request-body"
    kind = "i/o"
    status_hint = 400
    grpc_hint = 1
    h2_hint = CANCEL
    source = "client"


class StreamReset(MeshError):
    """An HTTP/2 stream was reset; carries the peer's error code (E-02: propagated; D-28: 502)."""

    code = "stream-reset"
    kind = "i/o"
    status_hint = 502
    grpc_hint = 14
    source: ClassVar[Literal["client", "upstream", "proxy"]] = "upstream"

    def __init__(self, message: str = "", *, h2_code: int = CANCEL, retryable: bool | None = None) -> None:
        """Note: a REFUSED_STREAM was not processed (RFC 9113 §8.7), so it is retryable by default."""
        super().__init__(message, retryable=h2_code == REFUSED_STREAM if retryable is None else retryable)
        self.h2_code = h2_code


class BodyAbandoned(StreamReset):
    """Whoever consumed a body gave it up before its end: nobody's failure, least of all the upstream's."""

    source = "client"

    def __init__(self, message: str = "body was abandoned") -> None:
        super().__init__(message, h2_code=CANCEL)


class GoAway(MeshError):
    """The peer's GOAWAY says that this stream was not processed (RFC 9113 §6.8: retryable)."""

    code = "goaway"
    kind = "i/o"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message, retryable=retryable)


class LocalProtocolError(MeshError):
    """This side tried to send what the protocol forbids (500): a bug in a layer or a service."""

    code = "local-protocol"
    status_hint = 500


class RemoteProtocolError(MeshError):
    """The peer broke the protocol.

    Attributes:
        status: how to answer a client on HTTP/1: 400, 408, 414, 417, 431, 501 or 505; 502 where an
            upstream broke it.
        h2_code: the HTTP/2 error code for a GOAWAY or RST_STREAM.
    """

    code = "bad-request"
    kind = "i/o"
    status_hint = 400
    grpc_hint = 13
    h2_hint = PROTOCOL_ERROR
    source = "client"

    def __init__(self, message: str = "", *, status: int = 400, h2_code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.status = status
        self.h2_code = h2_code


class UpstreamProtocolError(MeshError):
    """The upstream's answer broke the protocol (502)."""

    code = "bad-response"
    kind = "i/o"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"


class AuthorizationError(MeshError):
    """The client may not do this (R-31: 403, connection kept)."""

    code = "unauthorized"
    status_hint = 403
    grpc_hint = 7
    source = "client"
    closes = False


class AuthenticationError(MeshError):
    """The client has not shown who it is (401, connection kept).

    Attributes:
        invalid: what it has shown was not accepted; it has shown nothing otherwise.
    """

    code = "unauthenticated"
    status_hint = 401
    grpc_hint = 16
    source = "client"
    closes = False

    def __init__(self, message: str = "", *, invalid: bool = False) -> None:
        super().__init__(message)
        self.invalid = invalid

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """``www-authenticate`` (RFC 6750 §3)."""
        return [(b"www-authenticate", b'Bearer error="invalid_token"' if self.invalid else b"Bearer")]


class KeysUnavailable(MeshError):
    """Who the client is cannot be found out now: the keys of an issuer could not be had yet (503, connection kept)."""

    code = "no-keys"
    status_hint = 503
    grpc_hint = 14
    closes = False


class AuthorizationUnavailable(MeshError):
    """The service that decides about requests did not answer, and without it none may pass (503, connection kept)."""

    code = "authorization-unavailable"
    status_hint = 503
    grpc_hint = 14
    closes = False


class RateLimitError(MeshError):
    """The client asks for more than it may (R-36: 429, connection kept).

    Attributes:
        retry_after: seconds until there is room for one more request.
    """

    code = "rate-limited"
    status_hint = 429
    grpc_hint = 8
    source = "client"
    closes = False

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """``retry-after`` in whole seconds (RFC 6585 §4)."""
        return [(b"retry-after", b"%d" % max(1, math.ceil(self.retry_after)))]


class GrpcError(MeshError):
    """A gRPC call that this process made itself ended with a status that is not OK (502).

    Attributes:
        status: the status code; compares with :class:`~meshcore.http.grpc.GrpcStatus`.
        message: what the other side, or this one, says of it; may be empty.
        details: ``grpc-status-details-bin`` as sent, a ``google.rpc.Status``; ``b""`` without.
        metadata: the trailing metadata.
    """

    code = "grpc-status"
    status_hint = 502
    grpc_hint = 14
    source = "upstream"
    closes = False

    def __init__(
        self,
        text: str = "",
        *,
        status: int = 2,
        message: str = "",
        details: bytes = b"",
        metadata: tuple[tuple[bytes, bytes], ...] = (),
        retryable: bool = False,
    ) -> None:
        super().__init__(text, retryable=retryable)
        self.status = status
        self.message = message
        self.details = details
        self.metadata = metadata


class LoopDetected(MeshError):
    """The request would come back to this proxy (A-22, D-40: 508)."""

    code = "loop-detected"
    kind = "gateway loop"
    status_hint = 508
    grpc_hint = 10


class ConfigError(MeshError):
    """A configuration or a command line is wrong; ``problems`` has one line for each mistake."""

    code = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
