"""What the fields of a line are taken from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.addresses import format_address
from meshcore.http.counted import CountedBody
from meshcore.http.grpc import is_grpc, status_of
from meshcore.tracing.propagation import UNRECORDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.body import Body
    from meshcore.layers.access_log.exchange import Exchange

__all__ = [
    "COMMON",
    "CONSTANT",
    "GETTERS",
    "NUMBER",
    "PLAIN",
    "RAW",
    "SECONDS",
    "TEXT",
    "error_of",
    "grpc_status",
    "time_stamp",
]

# What a getter returns, if it is not None.
NUMBER: Final = 0
"""Text that is a value of JSON as it stands."""
PLAIN: Final = 1
"""Text without anything to escape."""
TEXT: Final = 2
"""Any text."""
RAW: Final = 3
"""Bytes that a peer may have sent."""
SECONDS: Final = 4
"""A number of seconds."""

_MOST_ADDRESSES: Final = 1_024
_VERSIONS: Final = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}


def time_stamp(x: Exchange) -> str:
    """When it ended."""
    return x.lines.format.stamp(x.ended_at)


def _direction(x: Exchange) -> str | None:
    return x.lines.direction or None


def _listener(x: Exchange) -> str | None:
    name: Any = getattr(x.logged.target, "listener", None)
    return name or None


def _client(x: Exchange) -> str | None:
    connection = x.request.connection
    return None if connection is None else format_address(connection.peer)


def _client_id(x: Exchange) -> str | None:
    connection = x.request.connection
    return None if connection is None else connection.identity


def _server(x: Exchange) -> str | None:
    connection = x.request.connection
    return None if connection is None else format_address(connection.local)


def _tls(x: Exchange) -> str | None:
    connection = x.request.connection
    return None if connection is None else "true" if connection.secure else "false"


def _method(x: Exchange) -> bytes:
    return x.method


def _scheme(x: Exchange) -> bytes:
    return x.request.scheme


def _authority(x: Exchange) -> bytes:
    return x.authority


def _path(x: Exchange) -> bytes:
    return x.path


def _pathname(x: Exchange) -> bytes:
    return x.path.partition(b"?")[0]


def _uri(x: Exchange) -> bytes:
    if not x.authority:
        return x.path
    if x.method == b"CONNECT" and not x.path:
        return x.authority
    return b"%s://%s%s" % (x.request.scheme, x.authority, x.path)


def _version(x: Exchange) -> str:
    version = x.request.version
    return _VERSIONS.get(version) or str(version)


def _status(x: Exchange) -> str | None:
    response = x.response
    return None if response is None else str(response.status)


def grpc_status(x: Exchange) -> int | None:
    """The gRPC status; None where the request was none of gRPC's, or none came."""
    request, response = x.request, x.response
    if request.version != 20 or request.method != b"POST" or response is None or not is_grpc(request.headers.raw):
        return None
    status = status_of(response.headers.raw)
    if status is None and x.end is not None:
        status = status_of(x.end.trailers)
    return status


def _grpc_status(x: Exchange) -> str | None:
    status = grpc_status(x)
    return None if status is None else str(int(status))


def _request_bytes(x: Exchange) -> str | None:
    return _size(x.received)


def _response_bytes(x: Exchange) -> str | None:
    sent = x.sent
    return "0" if sent is None else _size(sent)


def _first_byte(x: Exchange) -> float | None:
    return None if x.first_at < 0 else x.first_at - x.started_at


def _total(x: Exchange) -> float:
    return x.ended_at - x.started_at


def _processing_ns(x: Exchange) -> str | None:
    return None if x.first_at < 0 else str(round((x.first_at - x.started_at) * 1e9))


def _total_ns(x: Exchange) -> str:
    return str(round((x.ended_at - x.started_at) * 1e9))


def _endpoint(x: Exchange) -> str | None:
    endpoint = x.request.endpoint
    if endpoint is None:
        return None
    known = x.lines.format.addresses
    found = known.get(endpoint.address)
    if found is None:
        if len(known) >= _MOST_ADDRESSES:
            known.clear()
        found = known[endpoint.address] = format_address(endpoint.address)
    return found


def _server_id(x: Exchange) -> str | None:
    endpoint = x.request.endpoint
    return None if endpoint is None or endpoint.tls is None else endpoint.tls.identity


def _backend(x: Exchange) -> str | None:
    return x.request.backend or None


def _route(x: Exchange) -> str | None:
    return x.request.route or None


def _retries(x: Exchange) -> str:
    return str(len(x.request.avoid))


def error_of(x: Exchange) -> str | bytes | None:
    """The code of what broke it, or of the error that the proxy itself has answered."""
    if x.error:
        return x.error
    response = x.response
    if response is None or (response.status == 200 and x.method != b"POST"):
        # The proxy itself answers 200 to gRPC alone.
        return None
    return response.headers.get(b"x-meshcore-error")


def _trace_id(x: Exchange) -> str | bytes | None:
    # What stands in the request's fields has been looked up for all fields of the line.
    trace = x.request.trace_mark
    if trace is not None and trace is not UNRECORDED:
        return trace.trace_id
    return x.lines.format.trace_id or None


def _span_id(x: Exchange) -> str | bytes | None:
    trace = x.request.trace_mark
    if trace is not None and trace is not UNRECORDED:
        return trace.span_id
    return x.lines.format.span_id or None


def _user_agent(x: Exchange) -> bytes | None:
    return x.lines.format.user_agent


CONSTANT: Final = frozenset({"direction", "listener", "client", "client_id", "server", "tls"})
"""Fields that all requests of a connection have in common."""

COMMON: Final = frozenset(
    {"method", "authority", "version", "status", "grpc_status", "retries", "route", "backend", "error", "user_agent"}
)
"""Fields that many requests have in common."""

GETTERS: Final[dict[str, tuple[Callable[[Exchange], Any], int]]] = {
    "time": (time_stamp, PLAIN),
    "direction": (_direction, TEXT),
    "listener": (_listener, TEXT),
    "client": (_client, TEXT),
    "client_id": (_client_id, TEXT),
    "server": (_server, TEXT),
    "tls": (_tls, NUMBER),
    "method": (_method, RAW),
    "scheme": (_scheme, RAW),
    "authority": (_authority, RAW),
    "path": (_path, RAW),
    "pathname": (_pathname, RAW),
    "uri": (_uri, RAW),
    "version": (_version, PLAIN),
    "status": (_status, NUMBER),
    "grpc_status": (_grpc_status, NUMBER),
    "request_bytes": (_request_bytes, NUMBER),
    "response_bytes": (_response_bytes, NUMBER),
    "first_byte_s": (_first_byte, SECONDS),
    "total_s": (_total, SECONDS),
    "processing_ns": (_processing_ns, NUMBER),
    "total_ns": (_total_ns, NUMBER),
    "endpoint": (_endpoint, TEXT),
    "server_id": (_server_id, TEXT),
    "backend": (_backend, TEXT),
    "route": (_route, TEXT),
    "retries": (_retries, NUMBER),
    "error": (error_of, RAW),
    "trace_id": (_trace_id, RAW),
    "span_id": (_span_id, RAW),
    "user_agent": (_user_agent, RAW),
}
"""What gives each field, and what that is; RAW may be text, too."""


def _size(body: Body) -> str | None:
    """The bytes of a body: counted, or as declared if all of them came."""
    if type(body) is CountedBody:
        return str(body.counted)
    end = body.end
    if end is not None and end.error is None and body.size_hint is not None:
        return str(body.size_hint)
    return None
