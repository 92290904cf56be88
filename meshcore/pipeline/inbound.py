"""A stack that takes what others send to the application, in TLS or not, and hands it to the application."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from meshcore.errors import ConfigError
from meshcore.layers.authorize import Authorize
from meshcore.layers.balance import Balance
from meshcore.layers.concurrency_limit import ConcurrencyLimit
from meshcore.layers.downgrade_orig_proto import DowngradeOrigProto
from meshcore.layers.filters import Filters
from meshcore.layers.rate_limit import RateLimit
from meshcore.layers.rescue import Rescue
from meshcore.layers.route import Route
from meshcore.layers.route_metrics import RouteMetrics
from meshcore.layers.set_client_id import SetClientId
from meshcore.layers.tcp_errors import TcpErrors
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.to_backend import ToBackend
from meshcore.metrics.detection import detection, tls_detection, transport_headers
from meshcore.pipeline.abuse import counting_abuse
from meshcore.pipeline.authorization import authorization
from meshcore.pipeline.endpoint import forwarding, requesting
from meshcore.pipeline.limits import limits_of, route_limits
from meshcore.pipeline.observed import observed
from meshcore.pipeline.policies import INBOUND, policies_of
from meshcore.pipeline.routes import Judged, inbound_routes, route_of
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.targets import concurrency_of
from meshcore.pipeline.tokens import jwt_of
from meshcore.pipeline.tracing import tracer_of
from meshcore.server.detect import Detect
from meshcore.server.detect_tls import DetectTls
from meshcore.server.http import ServeHttp
from meshcore.server.read_transport_header import ReadTransportHeader
from meshcore.stack import Stack, accept, stack
from meshcore.transport.target import Accepted, Backend, Endpoint

if TYPE_CHECKING:
    from meshcore.abc import Connect, NewAccept, NewHttp
    from meshcore.config import Inbound, MeshConfig
    from meshcore.transport.target import HttpRoute

__all__ = ["http", "inbound", "opaque"]

APPLICATION = "application"
_FAIL_FAST = 1.0
"""Seconds that requests wait for an application that does not accept connections (B-09)."""


def inbound(config: MeshConfig, runtime: Runtime | None = None) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection of a peer, or of anybody, to a connection to the application."""
    runtime = Runtime() if runtime is None else runtime
    side = _side(config)
    forced = side.forward is not None and side.forward[1] in side.opaque_ports
    plain = (
        accept(Accepted)
        # Knows what TLS has found out, so: below it, in each of its branches.
        .then(TcpMetrics(runtime.registry, "inbound"))
        # Another proxy may say what the connection is: the first bytes inside of TLS, so: below it.
        .then(ReadTransportHeader(timeout=side.detect_timeout, observe=transport_headers(runtime.registry)))
        # Nothing below may guess the protocol: from here on there are requests, or bytes.
        .then(
            Detect(
                http=http(config, runtime),
                opaque=opaque(config, runtime),
                opaque_ports=side.opaque_ports,
                timeout=_SILENCE,
                protocol="opaque" if forced else None,
                observe=detection(runtime.registry, "inbound"),
            )
        )
    )
    passthrough = (
        accept(Accepted)
        .then(TcpMetrics(runtime.registry, "inbound", name="passthrough_tcp_metrics"))
        # TLS between the peer and the application is not for us to look into.
        .then(opaque(config, runtime, prefix="passthrough_"))
    )
    return (
        accept(Accepted)
        # Hears of handshakes and detections that fail, so: above everything.
        .then(TcpErrors(runtime.registry, "inbound"))
        # Everything below looks at plaintext, so: above it.
        .then(
            DetectTls(
                identity=runtime.identity,
                plain=plain,
                passthrough=passthrough,
                names=_names(config),
                # The first bytes of TLS come at once; who may have nothing to say is not waited for as long.
                timeout=_SILENCE if forced or runtime.identity is None else side.detect_timeout,
                handshake_timeout=side.detect_timeout,
                server_first=forced,
                observe=tls_detection(runtime.registry, "inbound"),
            )
        )
    )


_SILENCE = 1.0
"""Seconds that a peer may be silent, once TLS is dealt with, before the application may speak first."""


def _names(config: MeshConfig) -> tuple[str, ...]:
    """The names that peers ask for in TLS, beside those in the certificate."""
    if config.identity is not None and config.identity.server_name is not None:
        return (config.identity.server_name,)
    return () if config.service is None else (f"{config.service.name}.{config.service.namespace}",)


def http(config: MeshConfig, runtime: Runtime) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection that speaks HTTP to the application."""
    side = _side(config)
    server, client = config.proxy.server_options(), config.proxy.client_options()
    # Turns a connection into requests; above it there are only bytes.
    top = accept(Accepted).then(ServeHttp(counting_abuse(server, runtime.registry)))
    tracer = tracer_of(config, runtime)
    # See what the peer sees, refusals too, so: above Rescue.
    top = observed(top, runtime, side="inbound", access_log=config.lines, counted="metrics", tracer=tracer)
    # The only place where errors become responses; what went wrong in here is told to the mesh alone (E-06).
    rescued = top.then(Rescue("meshed", registry=runtime.registry, direction="inbound"))
    if side.concurrency_limit is not None:
        # What is refused costs nothing of what is below, so: above it.
        rescued = rescued.then(
            ConcurrencyLimit(
                concurrency_of(side.concurrency_limit), shared=True, registry=runtime.registry, name="listener_limit"
            )
        )
    if not side.route:
        # Nobody else's request costs more than this, so: above what changes requests.
        rescued = rescued.then(_authorize(side, runtime, "authorize"))
    known = (
        # The request as the application at the other end made it, for all that is below.
        rescued.then(DowngradeOrigProto())
        # Whatever the peer said of itself is taken away before the application sees it.
        .then(SetClientId())
    )
    if side.ext_authz is not None:
        # A question is worth more than the own policy, and tells who the client is, so: below both.
        known = known.then(authorization(side.ext_authz, runtime, client, connect_timeout=side.connect_timeout))
    if side.jwt is not None:
        # What it says of clients is there for routes and limits, so: above them.
        known = known.then(jwt_of(side.jwt, runtime, INBOUND))
    return (
        # From here on, one stack, for as long as the sidecar.
        known.then(_routes(side, runtime) if side.route else _limited(side, runtime))
        # Waits for an application that is starting, and stops waiting for one that is gone.
        .then(Balance(fail_fast=_FAIL_FAST, owner=runtime.owner, feed=runtime.feed))
        .then(
            requesting(
                runtime,
                client,
                connect_timeout=side.connect_timeout,
                direction="inbound",
                measured=False,
                tracer=tracer,
            )
        )
    )


def _limited(side: Inbound, runtime: Runtime) -> Stack[NewHttp[Backend], NewHttp[Accepted]]:
    """From a request that was let in to the application, where there are no routes."""
    top: Stack[NewHttp[Backend], NewHttp[Accepted]] = stack(Accepted).then(ToBackend(_application(side)))
    limit = _limit(side, runtime)
    # Who may not come in at all uses nothing up, so: below what refuses.
    return top if limit is None else top.then(limit)


def _limit(side: Inbound, runtime: Runtime) -> RateLimit | None:
    if side.rate_limit is None:
        return None
    return RateLimit(limits_of(side.rate_limit), runtime.registry, of=INBOUND)


def _routes(side: Inbound, runtime: Runtime) -> Stack[NewHttp[Backend], NewHttp[Accepted]]:
    """From a request by its route, if it is let in there, to the application."""
    table = inbound_routes(side.route, _application(side))
    judged = Judged(
        authorize=_authorize(side, runtime, "authorize"),
        limit=_limit(side, runtime),
        route_limit=route_limits({INBOUND: side}, runtime, direction="inbound"),
    )
    # From here on, one stack per route, for as long as the sidecar.
    missing = runtime.registry.counter("inbound_http_route_not_found_total", "Requests that no route takes.").labels()
    routes: Stack[NewHttp[HttpRoute], NewHttp[Accepted]] = stack(Accepted).then(Route(table, missing=missing))
    # What peers see of a route, so: above all that it does.
    routes = judged.before(routes.then(RouteMetrics(runtime.registry, "inbound")))
    if any(rule.target.filters for rule in table.rules):
        # The last that is done to a request before the application sees it.
        routes = routes.then(Filters(attrgetter("filters")))
    return judged.after(routes).then(ToBackend(_application(side)))


def opaque(config: MeshConfig, runtime: Runtime, *, prefix: str = "opaque_") -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection whose bytes mean nothing here to the application; *prefix* goes before the roles."""
    side = _side(config)
    return (
        accept(Accepted)
        # Before a byte reaches the application.
        .then(_authorize(side, runtime, f"{prefix}authorize", bytes_alone=True))
        .then(ToBackend(_application(side), name=f"{prefix}to_backend"))
        .then(Balance(fail_fast=_FAIL_FAST, owner=runtime.owner, feed=runtime.feed, name=f"{prefix}balance"))
        .then(forwarding(runtime, connect_timeout=side.connect_timeout, direction="inbound", prefix=prefix))
    )


def _authorize(side: Inbound, runtime: Runtime, name: str, *, bytes_alone: bool = False) -> Authorize:
    if bytes_alone and (side.ext_authz is not None or (side.jwt is not None and side.jwt.required)):
        # They cannot show the token that everything has to show, and nothing can be asked about them: no way round.
        return Authorize("deny", loopback=False, registry=runtime.registry, name=name)
    policies = policies_of(runtime, side, INBOUND)
    return Authorize(policies, route=route_of, registry=runtime.registry, name=name)


def _side(config: MeshConfig) -> Inbound:
    if config.inbound is None:
        raise ConfigError(["[inbound] is not there"])
    return config.inbound


def _application(side: Inbound) -> Backend:
    if side.forward is None:
        raise ConfigError(
            ["inbound.forward: an address is needed, such as 127.0.0.1:8000: redirection is not in this release"]
        )
    return Backend(APPLICATION, (Endpoint(side.forward),), retries=0)
