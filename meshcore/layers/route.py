"""Which route, or backend, a request goes to."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import attrs

from meshcore.addresses import parse_upstream
from meshcore.errors import ConfigError, LoadShedError, NoRoute
from meshcore.http.message import Request, Response
from meshcore.http.route_table import RouteTable, host_patterns
from meshcore.metrics.registry import Counter
from meshcore.transport.target import Backend, Endpoint, HttpRoute

if TYPE_CHECKING:
    import trio

    from meshcore.abc import HttpService, NewHttp

__all__ = ["Route", "match_authority"]

T = TypeVar("T")
B = TypeVar("B")

Target: TypeAlias = Backend | HttpRoute
Choice: TypeAlias = Callable[[Request], Target | None]
Table: TypeAlias = Mapping[str, Backend]

_REMEMBERED = 4_096
_LONGEST_SHOWN = 261


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


def _routes(
    value: str | Backend | Mapping[str, str | Backend | Sequence[str]] | RouteTable[Any] | Choice,
) -> Table | RouteTable[Any] | Choice:
    if isinstance(value, str | Backend):
        return {"*": _backend(value)}
    if isinstance(value, RouteTable):
        return value
    if isinstance(value, Mapping):
        table = {}
        for pattern, backend in value.items():
            if "*" in pattern.removeprefix("*.") and pattern != "*":
                raise ConfigError([f"route {pattern!r}: a * stands alone or before the first dot"])
            table[pattern.lower()] = _backend(backend)
        return table
    return value


def _shown(value: Table | RouteTable[Any] | Choice) -> str:
    if isinstance(value, RouteTable):
        return repr(value)
    if callable(value):
        return str(getattr(value, "__qualname__", value))
    return repr({pattern: backend.name for pattern, backend in value.items()})


@attrs.frozen(init=False)
class Route(Generic[B]):
    """Sends each request where its authority, a table of rules, or a function says.

    By authority the most specific pattern wins, whatever the order (R-22): ``host:port``, ``host``, the longest
    ``*.suffix`` (which does not match the suffix itself), ``*``.  Case, a final dot and the scheme's default port make
    no difference.  Rules look at paths, headers, queries and methods, too (R-23).  A request that nothing matches is a
    ``NoRoute``: 404 (R-24).  Services are made once for a target and shared by all above in the same nursery.

    Attributes:
        routes: backends by pattern; a ``RouteTable`` of rules, whose targets are ``HttpRoute`` or ``Backend``; or
            a function from a request to its target (None: no route).  A backend may be written as ``"host:port"`` or a
            list of those; alone it is the backend of all.
        limit: how many targets a function may name at a time: more are a ``LoadShedError``.  An
            ``IdleCache`` below stops those that are not used, which makes room.
        missing: counts requests that nothing matches; None: nothing does.

    Raises:
        ConfigError: a pattern or an address is not one.
    """

    routes: Table | RouteTable[Any] | Choice = attrs.field(converter=_routes, repr=_shown)
    limit: int = attrs.field(default=10_000, repr=False)
    missing: Counter | None = attrs.field(default=None, repr=False, eq=False)

    # What may stand below follows from where the routes lead to.
    @overload
    def __init__(self: Route[B], routes: RouteTable[B], limit: int = ..., missing: Counter | None = ...) -> None: ...
    @overload
    def __init__(
        self: Route[Backend],
        routes: str | Backend | Mapping[str, str] | Mapping[str, Backend] | Mapping[str, str | Backend | Sequence[str]],
        limit: int = ...,
        missing: Counter | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Route[B], routes: Callable[[Request], B | None], limit: int = ..., missing: Counter | None = ...
    ) -> None: ...
    def __init__(self, routes: Any, limit: int = 10_000, missing: Counter | None = None) -> None:
        self.__attrs_init__(routes, limit, missing)  # pyright: ignore[reportAttributeAccessIssue]

    def targets(self, above: tuple[Any, ...] | None) -> tuple[Target, ...] | None:
        """The targets that it may choose; None: a function chooses them.  *above*: what it may be asked for."""
        routes = self.routes
        if isinstance(routes, RouteTable):
            return tuple(dict.fromkeys(rule.target for rule in routes.rules))
        return None if callable(routes) else tuple(routes.values())

    def layer(self, inner: NewHttp[B], /) -> NewHttp[T]:
        """Routes to the services that *inner* makes."""
        return _NewRoute(self, inner)


class _NewRoute(Generic[T]):
    """Makes routers; those of one nursery share the targets' services."""

    __slots__ = ("_inner", "_layer", "_routers")

    def __init__(self, layer: Route[Any], inner: NewHttp[Any]) -> None:
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
            if isinstance(routes, RouteTable):
                router = _ByFunction(kept, routes.find)
            else:
                router = _ByFunction(kept, routes) if callable(routes) else _ByAuthority(kept, routes)
            self._routers[nursery] = router
        return router


class _Services:
    """The services of the targets used until now."""

    __slots__ = ("_inner", "_nursery", "by_target", "layer")

    def __init__(self, layer: Route[Any], inner: NewHttp[Any], nursery: trio.Nursery) -> None:
        self.layer = layer
        self._inner = inner
        # Weakly: the nursery's end is the end of all this.
        self._nursery = weakref.ref(nursery)
        self.by_target: dict[Target, HttpService] = {}

    def make(self, target: Target) -> HttpService:
        """The service for *target*."""
        service = self.by_target.get(target)
        if service is None:
            nursery = self._nursery()
            if nursery is None:
                raise LoadShedError(f"backend {target.name}: the proxy is shutting down")
            if len(self.by_target) >= self.layer.limit:
                self._forget_idle()
            service = self.by_target[target] = self._inner.new_service(target, nursery)
        return service

    def _forget_idle(self) -> None:
        for target, service in list(self.by_target.items()):
            if getattr(service, "idle", False):
                del self.by_target[target]
        if len(self.by_target) >= self.layer.limit:
            raise LoadShedError(f"{self.layer.limit} backends are in use already")


class _Router:
    """What is common to both forms."""

    __slots__ = ("__layer__", "__weakref__", "_services")

    def __init__(self, services: _Services) -> None:
        self.__layer__ = services.layer
        self._services = services

    def services(self) -> dict[str, HttpService]:
        """The live services below, by target's name."""
        return {target.name: service for target, service in self._services.by_target.items()}

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        raise NotImplementedError

    def _no_route(self, request: Request) -> NoRoute:
        missing = self.__layer__.missing
        if missing is not None:
            missing.value += 1
        authority = request.authority[:_LONGEST_SHOWN].decode("latin-1")
        return NoRoute(f"no route found for request to {authority or 'nowhere'}")


class _ByFunction(_Router):
    """Routes by a function of the request, such as a table's."""

    __slots__ = ("_choose",)

    def __init__(self, services: _Services, choose: Callable[[Request], Target | None]) -> None:
        super().__init__(services)
        self._choose = choose

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        target = self._choose(request)
        if target is None:
            raise self._no_route(request)
        if type(target) is HttpRoute:
            # For messages: what goes wrong below is told with it.
            request.route = target.name
        service = self._services.by_target.get(target)
        return (self._services.make(target) if service is None else service)(request)


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
                raise self._no_route(request)
            service = self._services.make(backend)
            # Authorities come from outside: what is remembered of them is bounded.
            if len(seen) >= _REMEMBERED:
                seen.clear()
            seen[request.authority] = service
        return service(request)


def match_authority(table: Table, authority: bytes, scheme: bytes) -> Backend | None:
    """The backend of the most specific pattern that matches, None if none does."""
    for pattern in host_patterns(authority, scheme):
        found = table.get(pattern)
        if found is not None:
            return found
    return None
