"""Which backend a request goes to."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import attrs

from meshcore.addresses import parse_upstream
from meshcore.errors import ConfigError, LoadShedError, NoRoute
from meshcore.http.message import Request, Response
from meshcore.transport.target import Backend, Endpoint

if TYPE_CHECKING:
    import trio

    from meshcore.abc import HttpService, NewHttp

__all__ = ["Route", "match_authority"]

T = TypeVar("T")

Choice: TypeAlias = Callable[[Request], Backend | None]
Table: TypeAlias = Mapping[str, Backend]

_REMEMBERED = 4_096
_LONGEST_AUTHORITY = 261


def _backend(value: str | Backend | Sequence[str]) -> Backend:
    if isinstance(value, Backend):
        return value
    texts = [value] if isinstance(value, str) else list(value)
    endpoints = []
    for text in texts:
        location = parse_upstream(text)
        if location.scheme not in ("http", "http1", "h2c"):
            raise ConfigError([f"{text!r}: a route takes host:port, http://, http1:// or h2c://; else a Backend"])
        protocol = {"http": "http", "http1": "http/1", "h2c": "h2"}[location.scheme]
        endpoints.append(Endpoint((location.host, location.port), protocol))
    return Backend(", ".join(texts), tuple(endpoints))


def _routes(value: str | Backend | Mapping[str, str | Backend | Sequence[str]] | Choice) -> Table | Choice:
    if isinstance(value, str | Backend):
        return {"*": _backend(value)}
    if isinstance(value, Mapping):
        table = {}
        for pattern, backend in value.items():
            if "*" in pattern.removeprefix("*.") and pattern != "*":
                raise ConfigError([f"route {pattern!r}: a * stands alone or before the first dot"])
            table[pattern.lower()] = _backend(backend)
        return table
    return value


def _shown(value: Table | Choice) -> str:
    if callable(value):
        return str(getattr(value, "__qualname__", value))
    return repr({pattern: backend.name for pattern, backend in value.items()})


@attrs.frozen
class Route:
    """Sends each request to the backend that its authority, or a function, names.

    The most specific pattern wins, whatever the order (R-22): ``host:port``, ``host``, the longest ``*.suffix``
    (which does not match the suffix itself), ``*``.  Case, a final dot and the scheme's default port make
    no difference.  A request that nothing matches is a ``NoRoute``: 404 (R-24).  Services are made once for a
    backend and shared by all targets above in the same nursery.

    Attributes:
        routes: backends by pattern, or a function from a request to its backend (None: no route).  A
            backend may be written as ``"host:port"`` or a list of those; alone it is the backend of all.
        limit: how many backends a function may name at a time: more are a ``LoadShedError``.  An
            ``IdleCache`` below stops those that are not used, which makes room.

    Raises:
        ConfigError: a pattern or an address is not one.
    """

    routes: Table | Choice = attrs.field(converter=_routes, repr=_shown)
    limit: int = attrs.field(default=10_000, repr=False)

    def layer(self, inner: NewHttp[Backend], /) -> NewHttp[T]:
        """Routes to the services that *inner* makes."""
        return _NewRoute(self, inner)


class _NewRoute(Generic[T]):
    """Makes routers; those of one nursery share the backends' services."""

    __slots__ = ("_inner", "_layer", "_routers")

    def __init__(self, layer: Route, inner: NewHttp[Backend]) -> None:
        self._layer = layer
        self._inner = inner
        self._routers: weakref.WeakKeyDictionary[trio.Nursery, _Router] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The router of the nursery, the same for every target."""
        router = self._routers.get(nursery)
        if router is None:
            routes = self._layer.routes
            kept = _Services(self._layer, self._inner, nursery)
            router = _ByFunction(kept, routes) if callable(routes) else _ByAuthority(kept, routes)
            self._routers[nursery] = router
        return router


class _Services:
    """The services of the backends used until now."""

    __slots__ = ("_inner", "_nursery", "by_backend", "layer")

    def __init__(self, layer: Route, inner: NewHttp[Backend], nursery: trio.Nursery) -> None:
        self.layer = layer
        self._inner = inner
        # Weakly: the nursery's end is the end of all this.
        self._nursery = weakref.ref(nursery)
        self.by_backend: dict[Backend, HttpService] = {}

    def make(self, backend: Backend) -> HttpService:
        """The service for *backend*."""
        service = self.by_backend.get(backend)
        if service is None:
            nursery = self._nursery()
            if nursery is None:
                raise LoadShedError(f"backend {backend.name}: the proxy is shutting down")
            if len(self.by_backend) >= self.layer.limit:
                self._forget_idle()
            service = self.by_backend[backend] = self._inner.new_service(backend, nursery)
        return service

    def _forget_idle(self) -> None:
        for backend, service in list(self.by_backend.items()):
            if getattr(service, "idle", False):
                del self.by_backend[backend]
        if len(self.by_backend) >= self.layer.limit:
            raise LoadShedError(f"{self.layer.limit} backends are in use already")


class _Router:
    """What is common to both forms."""

    __slots__ = ("__layer__", "__weakref__", "_services")

    def __init__(self, services: _Services) -> None:
        self.__layer__ = services.layer
        self._services = services

    def services(self) -> dict[str, HttpService]:
        """The live services below, by backend's name."""
        return {backend.name: service for backend, service in self._services.by_backend.items()}

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        raise NotImplementedError


class _ByFunction(_Router):
    """Routes by a function of the request."""

    __slots__ = ("_choose",)

    def __init__(self, services: _Services, choose: Choice) -> None:
        super().__init__(services)
        self._choose = choose

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        backend = self._choose(request)
        if backend is None:
            raise _no_route(request)
        service = self._services.by_backend.get(backend)
        return (self._services.make(backend) if service is None else service)(request)


class _ByAuthority(_Router):
    """Routes by a table of patterns: one look-up for an authority that was seen before."""

    __slots__ = ("_plain", "_secure", "_table")

    def __init__(self, services: _Services, table: Table) -> None:
        super().__init__(services)
        self._table = table
        self._plain: dict[bytes, HttpService] = {}
        self._secure: dict[bytes, HttpService] = {}

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        seen = self._secure if request.scheme == b"https" else self._plain
        service = seen.get(request.authority)
        if service is None:
            backend = match_authority(self._table, request.authority, request.scheme)
            if backend is None:
                raise _no_route(request)
            service = self._services.make(backend)
            # Authorities come from outside: what is remembered of them is bounded.
            if len(seen) >= _REMEMBERED:
                seen.clear()
            seen[request.authority] = service
        return service(request)


def match_authority(table: Table, authority: bytes, scheme: bytes) -> Backend | None:
    """The backend of the most specific pattern that matches, None if none does."""
    everything = table.get("*")
    if len(authority) > _LONGEST_AUTHORITY:
        return everything
    text = authority.decode("latin-1").lower()
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    host = host.removesuffix(".")
    default = "443" if scheme == b"https" else "80"
    found = table.get(f"{host}:{port or default}")
    if found is None:
        found = table.get(host)
    rest = host
    while found is None and "." in rest:
        rest = rest.partition(".")[2]
        found = table.get(f"*.{rest}")
    return everything if found is None else found


def _no_route(request: Request) -> NoRoute:
    authority = request.authority[:_LONGEST_AUTHORITY].decode("latin-1")
    return NoRoute(f"no route found for request to {authority or 'nowhere'}")
