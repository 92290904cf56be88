"""The only place where errors become responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import (
    InjectedFailure,
    MeshError,
    Redirected,
    RemoteProtocolError,
    StreamReset,
    chain,
    inside,
)
from meshcore.http.body import Empty
from meshcore.http.grpc import is_grpc, status_fields
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.metrics.errors import ErrorCounts, error_family
from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["Rescue"]

_LONGEST_CHAIN = 1_024
_LONGEST_AUTHORITY = 261


def _informational(rescue: object, attribute: object, value: object) -> None:
    if not (isinstance(value, bool) or callable(value) or value == "meshed"):
        raise ValueError(f"informational is True, False, 'meshed' or a function, not {value!r}")


def _is_meshed(request: Request) -> bool:
    return request.connection is not None and request.connection.identity is not None


@attrs.frozen
class Rescue(ServiceLayer):
    """Answers expected errors by their hints: an HTTP status, or for gRPC a ``grpc-status`` (E-04).

    An answer says what happened in ``l5d-proxy-error`` (the chain of causes, E-03) and
    ``x-meshcore-error`` (the code that ``meshcore explain`` knows).  A reset HTTP/2 stream stays one where
    the client speaks HTTP/2 (E-02) and is a 502 where it does not (D-28).  gRPC responses that break later
    end in trailers with the mapped status (E-05).  Exceptions that are not ``MeshError`` pass: nobody
    expected them, and whoever owns the connection counts them.

    Attributes:
        informational: whether those fields, ``grpc-message`` and ``l5d-proxy-connection`` are shown; ``"meshed"``
            shows them to clients with a verified identity alone, which is for what faces other hosts (E-06); or a
            function of the request that says so.
        logical: whether the chain begins with the names of the service that was asked for, and of the route that took
            the request.
        registry: where errors are counted (E-08); None: nowhere.
        direction: ``"inbound"`` or ``"outbound"``, for that.
    """

    informational: bool | Literal["meshed"] | Callable[[Request], bool] = attrs.field(
        default=True, validator=_informational
    )
    logical: bool = attrs.field(default=False, repr=False, kw_only=True)
    registry: Registry | None = attrs.field(default=None, repr=False, kw_only=True)
    direction: str = attrs.field(
        default="inbound", repr=False, kw_only=True, validator=attrs.validators.in_(("inbound", "outbound"))
    )

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The rescued service: one frame a request."""
        informational = _is_meshed if self.informational == "meshed" else self.informational
        logical = self.logical
        registry, direction = self.registry, self.direction
        counts: ErrorCounts | None = None

        async def rescue(request: Request) -> Response:
            nonlocal counts
            try:
                response = await inner(request)
            except Exception as error:
                if registry is not None:
                    if counts is None:
                        # This is made for each connection, and most have no errors to count.
                        counts = ErrorCounts(error_family(registry, direction, "http"), direction, target)
                    counts.count(error)
                if not isinstance(error, MeshError) or (request.version == 20 and isinstance(error, StreamReset)):
                    raise
                if logical:
                    _name(request, error)
                shown = informational(request) if callable(informational) else informational
                return _answer(request, error, shown)
            if request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw):
                shown = informational(request) if callable(informational) else informational
                response.error_trailers = _informative_trailers if shown else _trailers
            return response

        return rescue


def _name(request: Request, error: MeshError) -> None:
    """Notes what an operator knows the request by (E-03)."""
    if request.route:
        inside(error, f"route {request.route}")
    if request.authority:
        inside(error, f"logical service {request.authority[:_LONGEST_AUTHORITY].decode('latin-1')}")


def _answer(request: Request, error: MeshError, informational: bool) -> Response:
    message = _visible(chain(error)) if informational else ""
    fields: Fields = [(b"content-length", b"0")]
    if request.version == 20 and is_grpc(request.headers.raw):
        status = 200
        fields.insert(0, (b"content-type", b"application/grpc"))
        fields += status_fields(error.grpc_status if isinstance(error, InjectedFailure) else error.grpc_hint, message)
    elif isinstance(error, RemoteProtocolError | Redirected | InjectedFailure):
        status = error.status
        if isinstance(error, Redirected):
            fields.append((b"location", error.location))
        elif isinstance(error, InjectedFailure) and status == 200:
            fields += status_fields(error.grpc_status, message)
    else:
        status = error.status_hint
    fields += error.fields
    if informational:
        fields.append((b"l5d-proxy-error", message.encode("ascii")))
        fields.append((b"x-meshcore-error", error.code.encode("ascii")))
        if error.closes:
            fields.append((b"l5d-proxy-connection", b"close"))
    return Response(status, Headers(fields), Empty(), close=error.closes)


def _visible(text: str) -> str:
    """*text* as one bounded line of printable ASCII: it goes into a field, and may hold what a peer sent."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:_LONGEST_CHAIN]).strip()


def _trailers(error: BaseException) -> Fields:
    return status_fields(error.grpc_hint if isinstance(error, MeshError) else MeshError.grpc_hint)


def _informative_trailers(error: BaseException) -> Fields:
    if not isinstance(error, MeshError):
        return _trailers(error)
    message = _visible(chain(error))
    return [
        *status_fields(error.grpc_hint, message),
        (b"l5d-proxy-error", message.encode("ascii")),
        (b"x-meshcore-error", error.code.encode("ascii")),
    ]
