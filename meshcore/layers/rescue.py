"""The only place where errors become responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import InjectedFailure, MeshError, Redirected, RemoteProtocolError, StreamReset, chain
from meshcore.http.body import Empty
from meshcore.http.grpc import is_grpc, status_fields
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["Rescue"]

_LONGEST_CHAIN = 1_024


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
    """

    informational: bool | Literal["meshed"] | Callable[[Request], bool] = attrs.field(
        default=True, validator=_informational
    )

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The rescued service: one frame a request."""
        informational = _is_meshed if self.informational == "meshed" else self.informational

        async def rescue(request: Request) -> Response:
            try:
                response = await inner(request)
            except MeshError as error:
                if request.version == 20 and isinstance(error, StreamReset):
                    raise
                shown = informational(request) if callable(informational) else informational
                return _answer(request, error, shown)
            if request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw):
                shown = informational(request) if callable(informational) else informational
                response.error_trailers = _informative_trailers if shown else _trailers
            return response

        return rescue


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
