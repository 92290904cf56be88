"""What spans tell of a request and its answer: OpenTelemetry's names where it has one, linkerd's labels otherwise.

Sources: OpenTelemetry's semantic conventions for HTTP spans (stable) and for gRPC; M-18.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from meshcore.http.classify import error_label
from meshcore.http.grpc import GrpcStatus, is_grpc, status_of
from meshcore.http.reserved import ERROR_CODE, ORIG_PROTO
from meshcore.tracing.span import CLIENT, ERROR, LONGEST, shown

if TYPE_CHECKING:
    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.tracing.span import Attribute, Span
    from meshcore.transport.target import Endpoint

__all__ = ["answered", "broke", "of_client", "of_endpoint", "of_request", "span_name"]

_NAMES: Final = {
    method: method.decode()
    for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH")
}
_METHODS: Final = {method: ("http.request.method", name) for method, name in _NAMES.items()}
_OTHER: Final = ("http.request.method", "_OTHER")
_TCP: Final = ("network.transport", "tcp")
_HTTP: Final = ("network.protocol.name", "http")
_VERSIONS: Final = {
    version: ("network.protocol.version", name) for version, name in ((10, "1.0"), (11, "1.1"), (20, "2"))
}
_UNKNOWN: Final = ("network.protocol.version", "")
_PORTS: Final = {b"http": 80, b"https": 443}
RPC: Final = ("rpc.system", "grpc")
"""What all calls of gRPC have."""

_GRPC_ERRORS: Final = frozenset(
    (
        GrpcStatus.UNKNOWN,
        GrpcStatus.DEADLINE_EXCEEDED,
        GrpcStatus.UNIMPLEMENTED,
        GrpcStatus.INTERNAL,
        GrpcStatus.UNAVAILABLE,
        GrpcStatus.DATA_LOSS,
    )
)
"""What is a server's own error; all but OK is one for its client."""


def span_name(method: bytes, route: str = "") -> str:
    """The method, and the route where there is one: never anything that a client makes up."""
    word = _NAMES.get(method, "HTTP")
    return f"{word} {route}" if route else word


def of_request(request: Request, *, query: bool) -> list[Attribute]:
    """What a request says, as it is now: layers below may change it."""
    authority, target = request.authority, request.path
    # What is long is not remembered: it would be kept for as long as others are.
    of_target = _known_target if len(authority) + len(target) <= LONGEST else _of_target
    found: list[Attribute] = [*of_target(request.method, request.scheme, authority, target, request.version, query)]
    grpc = False
    for name, value in request.headers.raw:
        if name == b"user-agent":
            found.append(("user_agent.original", shown(value)))
        elif name == b"content-type":
            grpc = request.version == 20 and request.method == b"POST" and value.startswith(b"application/grpc")
        elif name == ORIG_PROTO:
            found.append(("l5d-orig-proto", shown(value)))
    if grpc and is_grpc(request.headers.raw):
        service, _, call = target.partition(b"?")[0][1:].rpartition(b"/")
        found += [("rpc.service", shown(service)), ("rpc.method", shown(call)), RPC]
    size = request.body.size_hint
    if size is not None:
        found.append(("http.request.body.size", size))
    return found


def _of_target(
    method: bytes, scheme: bytes, authority: bytes, path: bytes, version: int, query: bool
) -> tuple[Attribute, ...]:
    """What is asked for; a trace tells it twice, once for each side."""
    word = _METHODS.get(method)
    path, mark, rest = path.partition(b"?")
    found: list[Attribute] = [
        _OTHER if word is None else word,
        ("url.scheme", shown(scheme)),
        ("url.path", shown(path)),
        _TCP,
        _HTTP,
        _VERSIONS.get(version, _UNKNOWN),
    ]
    if word is None:
        found.append(("http.request.method_original", shown(method)))
    if query and mark:
        found.append(("url.query", shown(rest)))
    if authority:
        found += _server(authority[:LONGEST], scheme)
    return tuple(found)


_known_target: Final = functools.lru_cache(512)(_of_target)


def of_client(request: Request) -> list[Attribute]:
    """Who sent a request."""
    connection = request.connection
    if connection is None:
        return []
    host, port = connection.peer
    found: list[Attribute] = [("client.address", host[:LONGEST])]
    if port:
        found.append(("client.port", port))
    if connection.identity is not None:
        found.append(("client_id", connection.identity[:LONGEST]))
    return found


def of_endpoint(endpoint: Endpoint) -> list[Attribute]:
    """Where a request is sent; of the target alone, so made once."""
    host, port = endpoint.address
    found: list[Attribute] = [("network.peer.address", host), ("network.peer.port", port)]
    if endpoint.tls is not None:
        found.append(("server_id", endpoint.tls.identity or endpoint.tls.server_name))
    return found


def answered(span: Span, response: Response, end: EndOfStream) -> None:
    """Notes an answer that has ended, and judges it."""
    attributes = span.attributes
    status = response.status
    fields = response.headers.raw
    attributes.append(("http.response.status_code", status))
    size = response.body.size_hint
    if size is not None:
        attributes.append(("http.response.body.size", size))
    error = ""
    if status >= 500 or (status >= 400 and span.kind == CLIENT):
        # A proxy says by its own word what it was that made it answer so.
        error = next((shown(value) for name, value in fields if name == ERROR_CODE), str(status))
    if RPC in attributes:
        code = status_of(fields)
        if code is None:
            code = status_of(end.trailers)
        if code is not None:
            attributes.append(("rpc.grpc.status_code", int(code)))
            if code in _GRPC_ERRORS or (code and span.kind == CLIENT):
                error = next((shown(value) for name, value in fields if name == ERROR_CODE), GrpcStatus(code).name)
    if end.error is not None and not (error and error_label(end.error) == "cancelled"):
        broke(span, end.error)
    elif error:
        # An answer that is not wanted for what it says (by Retry, say) is given up for that.
        span.status = ERROR
        span.last = error
        attributes.append(("error.type", error))
    else:
        span.last = str(status)


def broke(span: Span, error: BaseException) -> None:
    """Notes what a request, or its answer, broke off for; who gives up itself has seen no error."""
    label = error_label(error)
    span.last = label
    span.attributes.append(("error.type", label))
    if label != "cancelled":
        span.status = ERROR
        span.message = str(error)[:LONGEST]


def _server(authority: bytes, scheme: bytes) -> tuple[Attribute, ...]:
    host, port = _host_port(authority, scheme)
    return (("server.address", host), ("server.port", port)) if port else (("server.address", host),)


def _host_port(authority: bytes, scheme: bytes) -> tuple[str, int]:
    host, colon, port = authority.rpartition(b":")
    if not colon or not port.isdigit() or len(port) > 5 or (host[:1] == b"[") != (host[-1:] == b"]"):
        host, port = authority, b""
    number = int(port) if port else _PORTS.get(scheme, 0)
    return shown(host.strip(b"[]")), number
