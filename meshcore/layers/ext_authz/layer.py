"""ExtAuthz: another service decides about each request."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import attrs
import trio

from meshcore.abc import HttpService, NewHttp, link
from meshcore.errors import AuthorizationError, AuthorizationUnavailable, MeshError, chain
from meshcore.grpc.client import GrpcClient
from meshcore.grpc.status import http_status
from meshcore.http.body import Empty, Full
from meshcore.http.grpc import is_grpc, status_fields
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.ext_authz.beginning import Beginning, read_beginning
from meshcore.layers.ext_authz.over_grpc import LARGEST, OverGrpc
from meshcore.layers.ext_authz.over_http import OverHttp
from meshcore.layers.ext_authz.verdict import Verdict, apply
from meshcore.metrics.registry import Registry
from meshcore.transport.about import About
from meshcore.transport.target import Backend

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Authorizer", "ExtAuthz", "ExtAuthzStatistics"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Authorizer(Protocol):
    """Asks about one request; raises MeshError where there is no verdict."""

    def __call__(self, request: Request, beginning: Beginning | None, /) -> Awaitable[Verdict]: ...


def _names(names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _names_or_all(names: tuple[str, ...] | list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else _names(names)


@attrs.frozen
class ExtAuthz:
    """Asks an authorization service about each request, as Envoy's ``ext_authz`` does, and goes by its verdict.

    Over gRPC it is asked by ``envoy.service.auth.v3.Authorization/Check``; over HTTP with the request's own method,
    authority and path, and 200 lets it pass.  It may set and remove fields of the request and, over gRPC, set fields of
    the response; not those of the framing, the connection or the proxies.  A refusal is its own answer, or 403 where it
    names none; for gRPC clients it is a status.  Without a verdict in time the request is answered 503, or let pass
    where *on_error* says so.

    It stands below ``Rescue``, and below ``SetClientId``, whose identity it tells.  Without *max_body* the body is
    neither waited for nor sent.  It costs a question a request; its connections are kept, in the nursery of what is
    above it.

    Attributes:
        upstream: how the service is reached: a stack of ``Balance`` and ``Http`` over connections.
        backend: where it is.
        protocol: ``"grpc"`` or ``"http"``.
        timeout: seconds for the verdict.
        on_error: without one: ``"deny"`` or ``"allow"``.
        headers: names of the fields that it is told, beside ``authorization`` and the client's verified identity; None:
            all over gRPC, no others over HTTP.
        copied: over HTTP: names of fields of its answer that are set in the request, and removed where it has none, or
            where there is none.
        prefix: over HTTP: what comes before the path.
        authority: over gRPC: whom the question names.
        scheme: ``"http"`` or ``"https"``.
        max_body: bytes of the body that it is told, waited for at most *timeout* seconds beside those of the verdict;
            the request goes on with all of it.
        extensions: over gRPC: further pairs that it is told, as ``context_extensions``.
        clock: seconds since the epoch; by default Trio's, whose zero means nothing.
        registry: where ``inbound_http_ext_authz_total`` is; None: nowhere.
        name: the role, where a stack has more than one.

    Raises:
        AuthorizationError: when called: it refuses the request and names no answer.
        AuthorizationUnavailable: when called: there is no verdict.
    """

    upstream: NewHttp[Backend] = attrs.field(repr=False)
    backend: Backend = attrs.field(repr=lambda backend: repr(backend.name))
    protocol: Literal["grpc", "http"] = attrs.field(default="grpc", validator=attrs.validators.in_(("grpc", "http")))
    timeout: float = attrs.field(default=0.2, validator=attrs.validators.gt(0))
    on_error: Literal["deny", "allow"] = attrs.field(default="deny", validator=attrs.validators.in_(("deny", "allow")))
    headers: tuple[str, ...] | None = attrs.field(default=None, converter=_names_or_all, repr=False)
    copied: tuple[str, ...] = attrs.field(default=(), converter=_names, repr=False)
    prefix: str = attrs.field(default="", repr=False)
    max_body: int = attrs.field(default=0, repr=False, validator=attrs.validators.ge(0))
    authority: str = attrs.field(default="authorization", repr=False)
    scheme: str = attrs.field(default="http", repr=False)
    extensions: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    clock: Callable[[], float] | None = attrs.field(default=None, repr=False)
    registry: Registry | None = attrs.field(default=None, repr=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Guards the services that *inner* makes."""
        return _NewGuarded(self, inner)

    def authorizer(self, service: HttpService, /) -> Authorizer:
        """What asks *service*."""
        if self.protocol == "http":
            names = frozenset(name.encode() for name in self.headers or ())
            copied = frozenset(name.encode() for name in self.copied)
            return OverHttp(service, self.timeout, self.scheme.encode(), self.prefix.encode(), names, copied)
        told = (
            None
            if self.headers is None
            else frozenset(name.encode() for name in (*self.headers, "authorization", "l5d-client-id"))
        )
        clock = trio.current_time if self.clock is None else self.clock
        client = GrpcClient(service, self.authority.encode(), self.scheme.encode(), LARGEST)
        return OverGrpc(client, self.timeout, clock, told, self.extensions)


@attrs.frozen
class ExtAuthzStatistics:
    """What became of the requests that were asked about.

    Attributes:
        backend: whom.
        allowed, denied: by its verdict.
        failed: without one, and refused.
        failed_open: without one, and let pass.
        error: why there was none, the last time that it was asked; ``""``: there was one.
    """

    backend: str
    allowed: int
    denied: int
    failed: int
    failed_open: int
    error: str


class _NewGuarded(Generic[T]):
    """Makes guarded services; those of one nursery share the way to the authorization service."""

    __slots__ = ("_inner", "_layer", "_questions")

    def __init__(self, layer: ExtAuthz, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._questions: weakref.WeakKeyDictionary[trio.Nursery, _Questions] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The guarded service for *target*: one frame a request, and the question's."""
        questions = self._questions.get(nursery)
        if questions is None:
            upstream = self._layer.upstream.new_service(self._layer.backend, nursery)
            questions = self._questions[nursery] = _Questions(self._layer, upstream)
        inner = self._inner.new_service(target, nursery)
        return link(_Guarded(questions, inner), inner, self._layer)


class _Questions:
    """Asks one authorization service, and counts its verdicts."""

    __slots__ = (
        "__weakref__",
        "_ask",
        "_max_body",
        "_open",
        "_patience",
        "backend",
        "cells",
        "counts",
        "error",
        "service",
        "unsaid",
    )

    def __init__(self, layer: ExtAuthz, service: HttpService) -> None:
        self.service = service
        self.backend = layer.backend.name
        self.error = ""
        self.counts = {"allowed": 0, "denied": 0, "failed": 0, "failed_open": 0}
        self.cells: dict[str, Any] = {}
        if layer.registry is not None:
            family = layer.registry.counter(
                "inbound_http_ext_authz_total", "Total count of requests by verdict of external authorization", "result"
            )
            self.cells = {result: family.labels(result) for result in self.counts}
        self._open = layer.on_error == "allow"
        # Nobody but the service may say these, so that without a verdict nobody does.
        self.unsaid = tuple(name.encode() for name in layer.copied) if layer.protocol == "http" else ()
        self._max_body = layer.max_body
        self._patience = layer.timeout
        self._ask = layer.authorizer(service)

    def _count(self, result: str) -> None:
        self.counts[result] += 1
        cell = self.cells.get(result)
        if cell is not None:
            cell.value += 1

    async def __call__(self, request: Request) -> Verdict | None:
        """The verdict; None: there is none, and it may pass without."""
        beginning = None
        if self._max_body:
            beginning = await read_beginning(request, self._max_body, self._patience)
        try:
            found = await self._ask(request, beginning)
        except MeshError as error:
            self._count("failed_open" if self._open else "failed")
            if not self.error:
                # Once, not for each request.
                log.warning(
                    "external authorization %s is unavailable: %s",
                    self.backend,
                    chain(error),
                    extra=About(request=request, backend=self.backend),
                )
            self.error = chain(error)
            if self._open:
                return None
            raise AuthorizationUnavailable(f"external authorization {self.backend}: unavailable") from error
        if self.error:
            self.error = ""
            log.info("external authorization %s answers again", self.backend)
        self._count("allowed" if found.allowed else "denied")
        return found

    def statistics(self) -> ExtAuthzStatistics:
        """The counts now."""
        return ExtAuthzStatistics(self.backend, **self.counts, error=self.error)


class _Guarded:
    """A guarded service."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_inner", "_questions")

    def __init__(self, questions: _Questions, inner: HttpService) -> None:
        self._questions = questions
        self._inner = inner

    async def __call__(self, request: Request, /) -> Response:
        verdict = await self._questions(request)
        if verdict is None:
            for name in self._questions.unsaid:
                request.headers.remove(name)
            return await self._inner(request)
        if not verdict.allowed:
            return _refusal(self._questions.backend, request, verdict)
        for name in verdict.remove:
            request.headers.remove(name)
        if verdict.set:
            apply(request.headers, verdict.set)
        response = await self._inner(request)
        if verdict.answer:
            apply(response.headers, verdict.answer)
        return response

    def statistics(self) -> ExtAuthzStatistics:
        """The verdicts so far; of every service above the same nursery together."""
        return self._questions.statistics()

    def services(self) -> dict[str, HttpService]:
        """The way to the authorization service."""
        return {"authorization": self._questions.service}


def _refusal(backend: str, request: Request, verdict: Verdict) -> Response:
    if not verdict.status and not verdict.answer and not verdict.body:
        why = f": {verdict.reason}" if verdict.reason else ""
        raise AuthorizationError(f"external authorization {backend}: denied{why}")
    status = verdict.status or 403
    headers = Headers()
    apply(headers, verdict.answer)
    if request.version == 20 and is_grpc(request.headers.raw):
        # A client of gRPC understands statuses, not pages.
        headers.remove(b"content-type")
        text = verdict.body.decode("utf-8", "replace") or verdict.reason
        fields = [(b"content-type", b"application/grpc"), *headers.raw, *status_fields(http_status(status), text)]
        return Response(200, Headers(fields), Empty())
    body = b"" if status in (204, 304) else verdict.body
    if status not in (204, 304):
        headers.add(b"content-length", b"%d" % len(body))
    return Response(status, headers, Full(body) if body else Empty())
