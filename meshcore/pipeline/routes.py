"""Routes as targets, made from what the configuration says, and the layers between a request and its backend."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from meshcore.config import DestinationRef, Gateway, RetryConfig, TimeoutConfig
from meshcore.http.matching import GrpcMatch, PathMatch, RequestMatch, RouteRule, ValueMatch
from meshcore.http.regex import Regex
from meshcore.http.route_table import RouteTable
from meshcore.layers.classify import Classify
from meshcore.layers.concurrency_limit import ConcurrencyLimit
from meshcore.layers.filters import Filters
from meshcore.layers.inject_delay import InjectDelay
from meshcore.layers.inject_failure import InjectFailure
from meshcore.layers.load_shed import LoadShed
from meshcore.layers.mirror import Mirror
from meshcore.layers.read_overrides import ReadOverrides
from meshcore.layers.redirect import Redirect
from meshcore.layers.request_headers import RequestHeaders
from meshcore.layers.response_headers import ResponseHeaders
from meshcore.layers.rewrite import Rewrite
from meshcore.layers.route import Route
from meshcore.layers.route_metrics import RouteMetrics
from meshcore.layers.split import Split, Weights
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.layers.to_backend import ToBackend
from meshcore.pipeline.targets import backend_of, classification_of, concurrency_of, request_policy, retrying
from meshcore.stack import Stack, stack
from meshcore.transport.target import Accepted, Backend, BackendRef, HttpRoute, Mirrored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from meshcore.abc import NewHttp, ServiceLayer
    from meshcore.config import (
        BackendConfig,
        Destination,
        FilterConfig,
        InboundRoute,
        RequestConfig,
        ValueConfig,
    )
    from meshcore.config import BackendRef as BackendRefConfig
    from meshcore.http.classification import Classification
    from meshcore.layers.authorize import Authorize
    from meshcore.layers.rate_limit import RateLimit
    from meshcore.pipeline.runtime import Runtime

__all__ = [
    "Judged",
    "destination_routes",
    "gateway_routes",
    "inbound_routes",
    "named_backends",
    "plain_hosts",
    "route_of",
    "routed",
]

Rules: TypeAlias = "list[RouteRule[HttpRoute]]"
DEFAULT = "default"
"""The name of the route of what no other takes."""


def plain_hosts(gateway: Gateway) -> dict[str, str] | None:
    """Names of backends by host pattern, where that is all that a listener's routes say; ``"*"`` is what none takes."""
    if len(gateway.to) > 1 or any(each.filters or not each.weight for each in gateway.to):
        return None
    found: dict[str, str] = {}
    for route in gateway.route:
        plain = attrs.evolve(route, name=None, match=(), to=route.to[:1]) == type(route)(to=route.to[:1])
        if not plain or len(route.to) != 1 or route.to[0].filters or not route.to[0].weight:
            return None
        for match in route.match or (None,):
            if match is not None and match != type(match)(host=match.host):
                return None
            # The first of several is the one that counts.
            found.setdefault("*" if match is None else match.host.lower(), route.to[0].backend)
    if gateway.to:
        found["*"] = gateway.to[0].backend
    return found


def named_backends(parent: Gateway | Destination) -> set[str]:
    """The backends that a listener, or a destination's routes, send requests and copies of them to."""
    references = [each for route in parent.route for each in route.to]
    references += parent.to if isinstance(parent, Gateway) else ()
    filters = [each for route in parent.route for each in route.filters]
    filters += [each for reference in references for each in reference.filters]
    found = {reference.backend for reference in references} | {each.mirror.backend for each in filters if each.mirror}
    return {name for name in found if name is not None}


def gateway_routes(
    name: str, gateway: Gateway, backends: Mapping[str, BackendConfig], zone: str = ""
) -> RouteTable[HttpRoute]:
    """The routes of a gateway's listener, that of ``to`` last; *zone* is this proxy's own."""
    making = _Making(name, backends, zone)
    rules = [
        RouteRule(
            making.route(
                route.name or f"route-{index}",
                route.to,
                route.match,
                route.filters,
                failover=route.failover,
                **request_policy(
                    route.retry or gateway.retry,
                    route.timeout or gateway.timeout,
                    classification=making.classification(route.to),
                ),
            ),
            tuple(_match(each, each.host) for each in route.match),
        )
        for index, route in enumerate(gateway.route)
    ]
    if gateway.to:
        verdict = making.classification(gateway.to)
        policy = request_policy(gateway.retry, gateway.timeout, classification=verdict)
        rules.append(RouteRule(making.route(DEFAULT, gateway.to, (), (), **policy)))
    return RouteTable(rules)


def destination_routes(
    table: Mapping[str, Destination], backends: Mapping[str, BackendConfig], name: str = "", zone: str = ""
) -> RouteTable[HttpRoute]:
    """The routes of destinations by the pattern of their authority; *name* instead of it, where there is one, and
    *zone* is this proxy's own.

    A request that none of its destination's routes takes is not for another destination.
    """
    rules: Rules = []
    for pattern, found in table.items():
        if found.opaque:
            continue
        label = name or pattern
        own = backend_of(label, found, retry=RetryConfig(limit=0), timeout=TimeoutConfig(), zone=zone)
        making = _Making(label, backends, zone, own)
        more = {
            "classification": classification_of(found.classify),
            "overrides": found.allow_l5d_headers,
            "concurrency": concurrency_of(found.concurrency_limit),
        }
        for index, route in enumerate(found.route):
            target = making.route(
                route.name or f"route-{index}",
                route.to or (DestinationRef(),),
                route.match,
                route.filters,
                failover=route.failover,
                **request_policy(route.retry or found.retry, route.timeout or found.timeout, **more),
            )
            matches = tuple(_match(each, pattern) for each in route.match) or (RequestMatch(host=pattern),)
            rules.append(RouteRule(target, matches))
        if not found.route:
            policy = request_policy(found.retry, found.timeout, **more)
            target = making.route(DEFAULT, (DestinationRef(),), (), (), **policy)
            rules.append(RouteRule(target, (RequestMatch(host=pattern),)))
    return RouteTable(rules, exclusive=True)


def inbound_routes(routes: Iterable[InboundRoute], application: Backend) -> RouteTable[HttpRoute]:
    """The routes to the application."""
    making = _Making("inbound", {}, own=application)
    return RouteTable(
        RouteRule(
            making.route(
                route.name or f"route-{index}",
                (DestinationRef(),),
                route.match,
                route.filters,
                retries=0,
            ),
            tuple(_match(each, each.host) for each in route.match),
        )
        for index, route in enumerate(routes)
    )


@attrs.frozen(kw_only=True)
class Judged:
    """What judges requests once their route is known (R-31); None: nothing.

    Attributes:
        authorize: who may call.
        limit: how much is let in, of all routes together.
        route_limit: and by each of them.
    """

    authorize: Authorize | None = None
    limit: RateLimit | None = None
    route_limit: RateLimit | None = None

    def before(self, top: Stack[NewHttp[HttpRoute], NewHttp[Accepted]]) -> Stack[NewHttp[HttpRoute], NewHttp[Accepted]]:
        """What stands above the filters."""
        if self.authorize is not None:
            # Which route a request is for is a part of the question, and nothing is done for who may not ask.
            top = top.then(self.authorize)
        return top

    def after(self, top: Stack[NewHttp[HttpRoute], NewHttp[Accepted]]) -> Stack[NewHttp[HttpRoute], NewHttp[Accepted]]:
        """What stands under the filters."""
        for limit in (self.limit, self.route_limit):
            if limit is not None:
                # What was answered above uses nothing up, and the tries of a request count once.
                top = top.then(limit)
        return top


def route_of(target: object) -> str:
    """The name of the route that a stack is for; ``""`` without."""
    return target.name if isinstance(target, HttpRoute) else ""


def routed(
    table: RouteTable[HttpRoute],
    runtime: Runtime,
    parent: str,
    judged: Judged | None = None,
    *,
    overrides: bool = False,
) -> Stack[NewHttp[Backend], NewHttp[Accepted]]:
    """From a request to the backend that its route gives it.

    Args:
        table: the routes.
        runtime: where the weights of those that split are put, so that they can be changed.
        parent: where in the configuration those are whose routes they are.
        judged: what judges requests.
        overrides: whether requests are an application's own, which may ask this proxy for something.
    """
    judged = Judged() if judged is None else judged
    routes = list(dict.fromkeys(rule.target for rule in table.rules))
    references = [reference for route in routes for reference in route.backends]
    splits = {route: _weights(route, parent, runtime) for route in routes if len(route.backends) > 1}
    # From here on, one stack per route, kept for as long as the listener.
    top: Stack[NewHttp[HttpRoute], NewHttp[Accepted]] = stack(Accepted).then(Route(table))
    if any(route.classification is not None for route in routes):
        # Says what a failure is, so: above all that asks.
        top = top.then(Classify(attrgetter("classification")))
    # What clients see of a route, whatever is tried again, so: above all that it does.
    top = judged.before(top.then(RouteMetrics(runtime.registry)))
    if any(route.filters for route in routes):
        # Once for a request, whatever is tried again, so: above Retry.
        top = top.then(Filters(attrgetter("filters")))
    top = judged.after(top)
    # Who comes when nobody was ready in time is told so at once (B-10).
    top = top.then(LoadShed())
    if any(route.concurrency is not None for route in routes):
        # A request is one, however often it is tried, so: above Retry.
        top = top.then(ConcurrencyLimit(attrgetter("concurrency"), registry=runtime.registry))
    if overrides:
        # What an application asks of this proxy is nobody else's to see, and may change the limits, so: above them.
        top = top.then(ReadOverrides(attrgetter("overrides"), attrgetter("timeouts")))
    if overrides or any(route.timeouts is not None for route in routes):
        # The tries of a request share its limits, so: above Retry.
        top = top.then(StreamTimeouts(attrgetter("timeouts")))
    if any(route.mirrors for route in routes):
        # A copy of each request, not of each try, as the filters have made it, so: between them and Retry.
        top = top.then(Mirror(attrgetter("mirrors")))
    split = (
        # Below what answers, above what picks: another try may go to another backend.
        top.then(retrying(runtime.registry))
        # From here on, one stack per backend of a route.
        .then(Split(splits.get, attrgetter("failover")))
    )
    # Each try, with the backend that it went to, so: below Split.
    split = split.then(RouteMetrics(runtime.registry, "backend", name="backend_metrics"))
    if any(reference.filters for reference in references):
        # Known only once the backend is, so: below Split.
        split = split.then(Filters(attrgetter("filters"), name="backend_filters"))
    if any(reference.mirrors for reference in references):
        # The same.
        split = split.then(Mirror(attrgetter("mirrors"), name="backend_mirror"))
    # From here on, one stack per backend, whichever routes share it.
    return split.then(ToBackend(attrgetter("backend")))


def _weights(route: HttpRoute, parent: str, runtime: Runtime) -> Weights:
    """The weights of a route, the same for every stack that is made for it."""
    key = f"{parent}.{route.parent}/{route.name}"
    weights = runtime.splits.get(key)
    if weights is None or weights.backends != route.backends:
        weights = runtime.splits[key] = Weights(route.backends)
    return weights


class _Making:
    """Makes the routes of one parent."""

    def __init__(
        self, parent: str, backends: Mapping[str, BackendConfig], zone: str = "", own: Backend | None = None
    ) -> None:
        self._parent = parent
        self._backends = backends
        self._zone = zone
        self._own = own

    def route(
        self,
        name: str,
        to: Sequence[BackendRefConfig | DestinationRef],
        matches: Sequence[RequestConfig],
        filters: Sequence[FilterConfig],
        **policy: Any,
    ) -> HttpRoute:
        """A route with its backends."""
        prefixes = tuple(each.path.prefix for each in matches if each.path is not None and each.path.prefix is not None)
        references = tuple(
            BackendRef(
                self._backend(each.backend),
                each.weight,
                filters=_layers(each.filters, prefixes),
                mirrors=tuple(Mirrored(*to) for to in self._mirrors(each.filters, name)),
                route=name,
                parent=self._parent,
            )
            for each in to
        )
        copied: dict[str, Any] = {**policy, "retries": 0, "failover": False, "hedge": None, "overrides": False}
        mirrors = tuple(
            Mirrored(HttpRoute(f"{name}-mirror", (reference,), parent=self._parent, **copied), ratio)
            for reference, ratio in self._mirrors(filters, name)
        )
        return HttpRoute(
            name, references, parent=self._parent, filters=_layers(filters, prefixes), mirrors=mirrors, **policy
        )

    def classification(self, to: Sequence[BackendRefConfig]) -> Classification | None:
        """What the first of the backends says that a failure is."""
        return classification_of(self._backends[to[0].backend].classify) if to else None

    def _backend(self, name: str | None) -> Backend:
        if name is None:
            assert self._own is not None
            return self._own
        found = self._backends[name]
        return backend_of(name, found, retry=RetryConfig(limit=0), timeout=TimeoutConfig(), zone=self._zone)

    def _mirrors(self, filters: Sequence[FilterConfig], name: str) -> Iterator[tuple[BackendRef, float]]:
        for each in filters:
            if each.mirror is not None:
                backend = self._backend(each.mirror.backend)
                yield BackendRef(backend, route=f"{name}-mirror", parent=self._parent), each.mirror.ratio


def _match(config: RequestConfig, host: str) -> RequestMatch:
    path, grpc = config.path, config.grpc
    found: PathMatch | None = None
    if path is not None and path.exact is not None:
        found = PathMatch("exact", path.exact)
    elif path is not None and path.prefix is not None:
        found = PathMatch("prefix", path.prefix)
    elif path is not None and path.regex is not None:
        found = PathMatch("regex", path.regex)
    return RequestMatch(
        host=host,
        path=found,
        headers=_values(config.headers),
        query=_values(config.query),
        method=config.method,
        grpc=None if grpc is None else GrpcMatch(grpc.service, grpc.method),
    )


def _values(values: Mapping[str, ValueConfig]) -> tuple[ValueMatch, ...]:
    return tuple(
        ValueMatch(name, Regex(each.regex) if each.regex is not None else each.exact or "")
        for name, each in values.items()
    )


def _layers(filters: Sequence[FilterConfig], prefixes: tuple[str, ...]) -> tuple[ServiceLayer, ...]:
    """The layers of a list of filters, in their order."""
    return tuple(layer for each in filters for layer in _layers_of(each, prefixes))


def _layers_of(config: FilterConfig, prefixes: tuple[str, ...]) -> Iterator[ServiceLayer]:
    if config.add_request_headers or config.set_request_headers or config.remove_request_headers:
        yield RequestHeaders(config.add_request_headers, config.set_request_headers, config.remove_request_headers)
    if config.add_response_headers or config.set_response_headers or config.remove_response_headers:
        yield ResponseHeaders(config.add_response_headers, config.set_response_headers, config.remove_response_headers)
    rewrite, delay, failure, redirect = config.rewrite, config.inject_delay, config.inject_failure, config.redirect
    if rewrite is not None:
        of = prefixes if rewrite.prefix is not None else ()
        yield Rewrite(rewrite.host, rewrite.path, rewrite.prefix, of)
    if delay is not None:
        yield InjectDelay(delay.duration, delay.ratio)
    if failure is not None:
        yield InjectFailure(failure.status, failure.grpc_status, failure.message, failure.ratio)
    if redirect is not None:
        of = prefixes if redirect.prefix is not None else ()
        yield Redirect(
            redirect.scheme, redirect.host, redirect.port, redirect.path, redirect.prefix, of, redirect.status
        )
