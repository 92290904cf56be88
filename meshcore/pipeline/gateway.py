"""A stack that takes accepted connections and sends their requests, or bytes, to a set of endpoints."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.config.access_log import AccessLogConfig
from meshcore.config.match import Match
from meshcore.layers.authorize import Authorize, Policies, ServerPolicy
from meshcore.layers.balance import Balance
from meshcore.layers.classify import Classify
from meshcore.layers.concurrency_limit import ConcurrencyLimit
from meshcore.layers.jwt import Jwt
from meshcore.layers.load_shed import LoadShed
from meshcore.layers.rate_limit import RateLimit, RateLimits
from meshcore.layers.rescue import Rescue
from meshcore.layers.retry import Retry
from meshcore.layers.route import Route
from meshcore.layers.set_client_id import SetClientId
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.layers.tcp_errors import TcpErrors
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.timeout import Timeout
from meshcore.layers.to_backend import ToBackend
from meshcore.metrics.detection import detection
from meshcore.metrics.registry import Registry
from meshcore.pipeline.abuse import counting_abuse
from meshcore.pipeline.authorization import authorization
from meshcore.pipeline.discovery import discovery
from meshcore.pipeline.endpoint import forwarding, requesting
from meshcore.pipeline.limits import limits_of, route_limits
from meshcore.pipeline.observed import observed
from meshcore.pipeline.policies import policies_of
from meshcore.pipeline.routes import Judged, gateway_routes, named_backends, plain_hosts, route_of, routed
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.targets import backend_of, concurrency_of, own_zone, retrying
from meshcore.pipeline.tokens import jwt_of
from meshcore.pipeline.tracing import tracer_of
from meshcore.resolve.static import Static
from meshcore.server.detect import Detect
from meshcore.server.http import ServeHttp
from meshcore.stack import Stack, accept, stack
from meshcore.transport.target import Accepted, Address, Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from meshcore.abc import Connect, NewAccept, NewHttp, Resolve
    from meshcore.client.options import ClientOptions
    from meshcore.config import ExtAuthzConfig, Gateway, Listen, MeshConfig, ProxyConfig
    from meshcore.http.concurrency import Concurrency
    from meshcore.http.route_table import RouteTable
    from meshcore.server.options import ServerOptions
    from meshcore.tracing.tracer import Tracer
    from meshcore.transport.connection import Owner
    from meshcore.transport.target import HttpRoute

__all__ = ["NOWHERE", "gateway", "http", "listener", "opaque"]

BACKEND = "gateway"

NOWHERE = Backend("no destination", retries=0)
"""Where bytes go that nothing says the destination of: it has no endpoints, so their connection is closed."""

_PROTOCOLS = {"http": None, "http1": "http/1", "h2c": "h2", "tcp": "opaque"}


@attrs.frozen(kw_only=True)
class _Plan:
    """What a gateway is built from, wherever it was configured."""

    name: str = BACKEND
    backends: Mapping[str, Backend]
    routes: RouteTable[HttpRoute] | None = None
    bytes_to: Backend
    resolve: Resolve[Backend] = attrs.Factory(Static)
    protocol: str | None
    server: ServerOptions
    client: ClientOptions
    access_log: AccessLogConfig | None
    retry: Retry | None = None
    timeout: float | None = None
    limited: bool = False
    classified: bool = False
    breaking: bool = False
    concurrency: Concurrency | None = None
    policies: Policies | None = None
    jwt: Jwt | None = None
    rate_limit: RateLimits | None = None
    route_limit: RateLimit | None = None
    balance: Any
    fail_fast: float
    connect_timeout: float
    detect_timeout: float
    opaque_ports: frozenset[int]
    mesh: bool = False
    checked: bool = False
    ext_authz: ExtAuthzConfig | None = None
    informational: bool = True
    tracer: Tracer | None = None


def gateway(
    config: ProxyConfig,
    listen: Listen | None = None,
    *,
    registry: Registry | None = None,
    write: Callable[[str], None] | None = None,
    clock: Callable[[], float] | None = None,
    owner: Owner | None = None,
    own: Callable[[], Iterable[Address]] | None = None,
) -> Stack[Connect, NewAccept[Accepted]]:
    """From an accepted connection to a connected endpoint: what ``meshcore proxy`` runs.

    Args:
        config: endpoints, limits and options.
        listen: the listener it is for (its protocol may be fixed); the first of *config* by default.
        registry: where metrics go; a new one by default.
        write: takes the lines of the access log; standard output by default.
        clock: seconds since the epoch, for the lines' time stamps; by default Trio's, whose zero means nothing.
        owner: who is told of crashes in what serves the endpoints; by default they are only logged.
        own: the addresses of the process's listeners, which are no endpoints; by default nothing is checked.
    """
    listen = config.listen[0] if listen is None else listen
    runtime = Runtime(
        registry=Registry() if registry is None else registry, write=write, clock=clock, owner=owner, own=own
    )
    secured = None
    if config.tls is not None:
        # Imported here: OpenSSL takes 9 MiB, which is for those to pay who use it.
        from meshcore.transport.server_tls import ServerTls

        secured = ServerTls(config.tls.cert, config.tls.key)
    return _accepting(_plan(config, listen), runtime, secured)


def listener(config: MeshConfig, name: str, runtime: Runtime | None = None) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection at the listener *name* of a config file to a connected endpoint of its backends."""
    runtime = Runtime() if runtime is None else runtime
    found = config.listen[name]
    secured = None
    if found.tls is not None:
        from meshcore.transport.server_tls import ServerTls

        secured = ServerTls(
            certificates=tuple((each.cert, each.key) for each in found.tls.all),
            client_certificates=found.tls.client_certificates,
            trust_anchors=found.tls.trust_anchors,
        )
    plan = _listener_plan(config, name, runtime)
    if found.policy or found.default_policy != "all-unauthenticated":
        plan = attrs.evolve(plan, policies=policies_of(runtime, found, name))
    if found.jwt is not None:
        plan = attrs.evolve(plan, jwt=jwt_of(found.jwt, runtime, name))
    plan = attrs.evolve(plan, route_limit=route_limits({name: found}, runtime, direction="inbound"))
    plan = attrs.evolve(plan, tracer=tracer_of(config, runtime))
    return _accepting(plan, runtime, secured)


def _accepting(plan: _Plan, runtime: Runtime, secured: Any) -> Stack[Connect, NewAccept[Accepted]]:
    top: Stack[NewAccept[Accepted], NewAccept[Accepted]] = accept(Accepted)
    # Know every connection, those whose handshake fails included, so: above everything.
    top = top.then(TcpErrors(runtime.registry)).then(TcpMetrics(runtime.registry))
    if secured is not None:
        from meshcore.server.terminate_tls import TerminateTls

        # Detection looks at plaintext, so: above it.
        top = top.then(TerminateTls(secured))
    return top.then(
        # Nothing below may guess the protocol: from here on there are requests, or bytes.
        Detect(
            http=_http(plan, runtime),
            opaque=_opaque(plan, runtime),
            opaque_ports=plan.opaque_ports,
            timeout=plan.detect_timeout,
            protocol=plan.protocol,
            observe=detection(runtime.registry, "inbound"),
        )
    )


def http(config: ProxyConfig, registry: Registry) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection that speaks HTTP to a connected endpoint."""
    return _http(_plan(config, config.listen[0]), Runtime(registry=registry))


def _http(plan: _Plan, runtime: Runtime) -> Stack[Connect, NewAccept[Accepted]]:
    # Turns a connection into requests; above it there are only bytes.
    top = accept(Accepted).then(ServeHttp(counting_abuse(plan.server, runtime.registry)))
    # See what the client sees, so: above Rescue.
    counted, tracer = "server_metrics", plan.tracer
    top = observed(top, runtime, side="gateway", access_log=plan.access_log, counted=counted, tracer=tracer)
    # The only place where errors become responses.
    rescued = top.then(Rescue(plan.informational, logical=True, registry=runtime.registry))
    if plan.concurrency is not None:
        # What is refused costs nothing of what is below, so: above it.
        rescued = rescued.then(
            ConcurrencyLimit(plan.concurrency, shared=True, registry=runtime.registry, name="listener_limit")
        )
    if plan.mesh:
        # What clients say of identities is taken away before anybody believes it.
        rescued = rescued.then(SetClientId())
    if plan.jwt is not None:
        # What it says of clients is there for routes and limits, so: above them.
        rescued = rescued.then(plan.jwt)
    if plan.ext_authz is not None:
        # Who the client is has to be known, and nothing of the request is done before, so: right here.
        rescued = rescued.then(
            authorization(plan.ext_authz, runtime, plan.client, connect_timeout=plan.connect_timeout)
        )
    authorize = limit = None
    if plan.policies is not None:
        authorize = Authorize(plan.policies, route=route_of, registry=runtime.registry)
    if plan.rate_limit is not None:
        limit = RateLimit(plan.rate_limit, runtime.registry, of=plan.name)
    by_host: Stack[NewHttp[Backend], NewAccept[Accepted]]
    if plan.routes is not None:
        judged = Judged(authorize=authorize, limit=limit, route_limit=plan.route_limit)
        return rescued.then(routed(plan.routes, runtime, "listen", judged)).then(_balanced(plan, runtime))
    if list(plan.backends) == ["*"]:
        # From here on, one stack per backend; here there is one, kept for as long as the gateway.
        by_host = rescued.then(ToBackend(plan.backends["*"]))
    else:
        # From here on, one stack per backend, kept for as long as the gateway.
        by_host = rescued.then(Route(plan.backends))
    if plan.classified:
        # Says what a failure is, so: above all that asks.
        by_host = by_host.then(Classify(attrgetter("classification")))
    if authorize is not None:
        # Nobody is told of a policy for what there is not, so: below Route.
        by_host = by_host.then(authorize)
    if limit is not None:
        # What no route takes uses nothing up, and the tries of a request count once, so: below Route, above Retry.
        by_host = by_host.then(limit)
    if plan.retry is None:
        # Who comes when nobody was ready in time is told so at once (B-10).
        by_host = by_host.then(LoadShed())
    if plan.limited:
        # The tries of a request share its limits, so: above Retry.
        by_host = by_host.then(StreamTimeouts(attrgetter("timeouts")))
    # Below what answers, above what picks: another try is another endpoint.
    retry = retrying(runtime.registry) if plan.retry is None else attrs.evolve(plan.retry, registry=runtime.registry)
    by_host = by_host.then(retry)
    if plan.timeout is not None:
        # Each try has its own limit, so: below Retry.
        by_host = by_host.then(Timeout(plan.timeout))
    return by_host.then(_balanced(plan, runtime))


def _balanced(plan: _Plan, runtime: Runtime) -> Stack[Connect, NewHttp[Backend]]:
    """From a request for a backend to a connected endpoint of it."""
    return (
        stack(Backend)
        # From here on, one stack per endpoint.
        .then(
            Balance(
                plan.resolve,
                policy=plan.balance,
                fail_fast=plan.fail_fast,
                owner=runtime.owner,
                registry=runtime.registry,
                feed=runtime.feed,
            )
        )
        .then(
            requesting(
                runtime,
                plan.client,
                connect_timeout=plan.connect_timeout,
                mesh=plan.mesh,
                checked=plan.checked,
                breaking=plan.breaking,
                tracer=plan.tracer,
            )
        )
    )


def opaque(config: ProxyConfig, registry: Registry) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection whose bytes mean nothing here to a connected endpoint."""
    return _opaque(_plan(config, config.listen[0]), Runtime(registry=registry))


def _opaque(plan: _Plan, runtime: Runtime) -> Stack[Connect, NewAccept[Accepted]]:
    balance = Balance(
        plan.resolve,
        policy=plan.balance,
        fail_fast=plan.fail_fast,
        owner=runtime.owner,
        registry=runtime.registry,
        feed=runtime.feed,
        scope="outbound_tcp",
        name="opaque_balance",
    )
    top: Stack[NewAccept[Accepted], NewAccept[Accepted]] = accept(Accepted)
    tokens = plan.jwt is not None and plan.jwt.required
    if tokens or plan.policies is not None:
        # Before a byte reaches a backend.  Where everything has to show a token, bytes must not get around it.
        policy = ServerPolicy("deny", loopback=False) if tokens or plan.policies is None else plan.policies
        top = top.then(Authorize(policy, registry=runtime.registry, name="opaque_authorize"))
    return (
        # Names of their own, so that the HTTP branch's layers can be edited by theirs.
        top.then(ToBackend(plan.bytes_to, name="opaque_to_backend"))
        # By connection: that is all there is to balance.
        .then(balance)
        .then(
            forwarding(runtime, connect_timeout=plan.connect_timeout, mesh=plan.mesh, checked=plan.checked)
        )
    )


def _plan(config: ProxyConfig, listen: Listen) -> _Plan:
    backend = Backend(BACKEND, config.endpoints)
    return _Plan(
        backends={"*": backend},
        bytes_to=backend,
        protocol=_protocol(config, listen),
        server=config.server,
        client=config.client,
        access_log=AccessLogConfig.short(config.access_log, config.access_log_to),
        retry=Retry(config.retries),
        timeout=config.timeout,
        balance=config.balance,
        fail_fast=config.fail_fast,
        connect_timeout=config.connect_timeout,
        detect_timeout=config.detect_timeout,
        opaque_ports=config.opaque_ports,
    )


def _bytes_to(found: Gateway) -> str:
    """The backend of what names no host: the first with a share of those that take everything; ``""`` without."""
    anything = [route.to for route in found.route if not route.match or any(each == Match() for each in route.match)]
    return next((each.backend for to in (found.to, *anything) for each in to if each.weight), "")


def _listener_plan(config: MeshConfig, name: str, runtime: Runtime) -> _Plan:
    found = config.listen[name]

    def backend(name: str, *, opaque: bool = False) -> Backend:
        return backend_of(
            name,
            config.backend[name],
            retry=found.retry,
            timeout=found.timeout,
            opaque=opaque,
            zone=own_zone(config),
        )

    # Where hosts are all that tells requests apart, each is one look-up and a layer less.
    hosts = None if any(each.routes for each in found.policy) else plain_hosts(found)
    routes = None if hosts is not None else gateway_routes(name, found, config.backend, own_zone(config))
    backends = {host: backend(name) for host, name in (hosts or {}).items()}
    takers = {name: config.backend[name] for name in named_backends(found)}
    protocol = _PROTOCOLS[found.protocol]
    if protocol is None and takers and all(each.opaque for each in takers.values()):
        protocol = "opaque"
    return _Plan(
        name=name,
        backends=backends,
        routes=routes,
        # Nothing can be asked about bytes, and they are no way round the question.
        bytes_to=backend(_bytes_to(found), opaque=True) if _bytes_to(found) and found.ext_authz is None else NOWHERE,
        resolve=discovery(config, runtime),
        protocol=protocol,
        server=config.proxy.server_options(),
        client=config.proxy.client_options(),
        access_log=config.lines,
        limited=any(each.timeouts is not None for each in backends.values()),
        concurrency=concurrency_of(found.concurrency_limit),
        classified=any(each.classification is not None for each in backends.values()),
        breaking=any(each.failure_accrual is not None for each in takers.values()),
        rate_limit=None if found.rate_limit is None else limits_of(found.rate_limit),
        balance=attrgetter("balance"),
        fail_fast=found.fail_fast,
        connect_timeout=found.connect_timeout,
        detect_timeout=found.detect_timeout,
        opaque_ports=found.opaque_ports,
        mesh=True,
        checked=any(each.health_check is not None for each in takers.values()),
        ext_authz=found.ext_authz,
        informational=found.informational_headers,
    )


def _protocol(config: ProxyConfig, listen: Listen) -> str | None:
    """What a listener speaks where that need not be detected.

    Endpoints at ports that are known to let the server speak first are opaque at once (D-15), unless the
    listener says otherwise.
    """
    if listen.protocol is not None:
        return listen.protocol
    ports = {endpoint.address[1] for endpoint in config.endpoints}
    return "opaque" if ports and ports <= config.opaque_ports else None
