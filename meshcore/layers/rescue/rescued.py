"""The rescued service, and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from meshcore.http.pass_through import Framed
from meshcore.metrics.errors import ErrorCounts, error_family

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.codec.events import Fields
    from meshcore.metrics.registry import Registry

__all__ = ["Rescued", "is_meshed"]

_LONGEST_CHAIN = 1_024
_LONGEST_AUTHORITY = 261


def is_meshed(request: Request) -> bool:
    """Whether it came from a client with a verified identity."""
    return request.connection is not None and request.connection.identity is not None


class Rescued(Framed):
    """The service that :class:`~meshcore.layers.Rescue` makes; the arguments are its fields."""

    __slots__ = (
        "__layer__",
        "__wrapped__",
        "_counts",
        "_direction",
        "_informational",
        "_logical",
        "_registry",
        "_target",
    )

    def __init__(
        self,
        inner: HttpService,
        target: object,
        informational: bool | str | Callable[[Request], bool],
        logical: bool,
        registry: Registry | None,
        direction: str,
    ) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._target = target
        self._informational = informational
        self._logical = logical
        self._registry = registry
        self._direction = direction
        self._counts: ErrorCounts | None = None

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        try:
            response: Response = await self._inner(request)
        except Exception as error:
            self._count(error)
            if not isinstance(error, MeshError) or (request.version == 20 and isinstance(error, StreamReset)):
                raise
            if self._logical:
                _name(request, error)
            return _answer(request, error, self._shown(request))
        if request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw):
            response.error_trailers = _informative_trailers if self._shown(request) else _trailers
        return response

    def _shown(self, request: Request) -> bool:
        informational = self._informational
        return informational(request) if callable(informational) else bool(informational)

    def _count(self, error: Exception) -> None:
        registry = self._registry
        if registry is not None:
            counts = self._counts
            if counts is None:
                # This is made for each connection, and most have no errors to count.
                family = error_family(registry, self._direction, "http")
                counts = self._counts = ErrorCounts(family, self._direction, self._target)
            counts.count(error)


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
