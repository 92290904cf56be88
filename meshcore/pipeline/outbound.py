"""A stack that takes an application's connections and sends their requests, or bytes, to where they are meant to go."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from meshcore.config.failures import ClassifyConfig
from meshcore.errors import ConfigError
from meshcore.layers.balance import Balance
from meshcore.layers.classify import Classify
from meshcore.layers.concurrency_limit import ConcurrencyLimit
from meshcore.layers.load_shed import LoadShed
from meshcore.layers.rate_limit import RateLimit
from meshcore.layers.read_overrides import ReadOverrides
from meshcore.layers.rescue import Rescue
from meshcore.layers.route import Route, match_authority
from meshcore.layers.route_metrics import RouteMetrics
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.layers.tcp_errors import TcpErrors
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.layers.to_backend import ToBackend
from meshcore.metrics.detection import detection, protocols
from meshcore.pipeline.abuse import counting_abuse
from meshcore.pipeline.discovery import discovery
from meshcore.pipeline.endpoint import forwarding, requesting
from meshcore.pipeline.gateway import NOWHERE
from meshcore.pipeline.limits import LimitsOf, route_limits
from meshcore.pipeline.observed import observed
from meshcore.pipeline.routes import Judged, destination_routes, named_backends, routed
from meshcore.pipeline.runtime import Runtime
from meshcore.pipeline.targets import backend_of, own_zone, retrying
from meshcore.pipeline.tracing import tracer_of
from meshcore.server.detect import Detect
from meshcore.server.detect_tls import DetectTls
from meshcore.server.http import ServeHttp
from meshcore.stack import Stack, accept, stack
from meshcore.transport.target import Accepted, Backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshcore.abc import Connect, NewAccept, NewHttp
    from meshcore.config import BackendConfig, Destination, MeshConfig, Outbound

__all__ = ["backends", "balanced", "destination", "http", "opaque", "outbound", "requests"]


def outbound(config: MeshConfig, runtime: Runtime | None = None) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection of the application to a connected endpoint of the destination that each request names."""
    return _detecting(config, Runtime() if runtime is None else runtime, _side(config).to)


def destination(config: MeshConfig, name: str, runtime: Runtime | None = None) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection at a destination's own listener to its endpoints, whatever its requests name."""
    side = _side(config)
    found = side.to[name]
    own_port = found.listen[1] if found.listen is not None else 0
    opaque = found.opaque or own_port in side.opaque_ports
    return _detecting(config, Runtime() if runtime is None else runtime, {"*": found}, name, opaque=opaque)


def _detecting(
    config: MeshConfig,
    runtime: Runtime,
    table: Mapping[str, Destination],
    name: str = "",
    *,
    opaque: bool = False,
) -> Stack[Connect, NewAccept[Accepted]]:
    side = _side(config)
    zone = own_zone(config)
    return (
        accept(Accepted)
        # Know every connection, so: above everything.
        .then(TcpErrors(runtime.registry, "outbound"))
        .then(TcpMetrics(runtime.registry, "outbound"))
        # Nothing below may guess the protocol: from here on there are requests, or bytes.
        .then(
            Detect(
                http=http(config, runtime, table, name),
                opaque=_opaque(config, runtime, backends(table, name, opaque=True, zone=zone), look=not opaque),
                opaque_ports=side.opaque_ports,
                timeout=side.detect_timeout,
                protocol="opaque" if opaque else None,
                observe=detection(runtime.registry, "outbound"),
                served=protocols(runtime.registry),
            )
        )
    )


def http(
    config: MeshConfig, runtime: Runtime, table: Mapping[str, Destination], name: str = ""
) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection that speaks HTTP to a connected endpoint; *name* instead of the pattern, where there is one."""
    side = _side(config)
    # Turns a connection into requests; above it there are only bytes.
    top = accept(Accepted).then(ServeHttp(counting_abuse(config.proxy.server_options(), runtime.registry)))
    # See what the application sees, so: above Rescue.
    tracer = tracer_of(config, runtime)
    top = observed(top, runtime, side="outbound", access_log=config.lines, tracer=tracer)
    return (
        # The only place where errors become responses.
        top.then(
            Rescue(side.informational_headers, logical=True, registry=runtime.registry, direction="outbound")
        )
        .then(requests(config, runtime, table, name))
    )


def requests(
    config: MeshConfig, runtime: Runtime, table: Mapping[str, Destination], name: str = ""
) -> Stack[Connect, NewHttp[Accepted]]:
    """From a request to a connection to one of the endpoints of the destination that it names."""
    limits = LimitsOf(table, name)
    limited = RateLimit(limits, runtime.registry, direction="outbound") if limits else None
    if any(found.route for found in table.values()):
        routes = destination_routes(table, config.backend, name, own_zone(config))
        judged = Judged(limit=limited, route_limit=route_limits(table, runtime, name))
        return routed(routes, runtime, "outbound.to", judged, overrides=True).then(balanced(config, runtime))
    by_authority = Route(backends(table, name, zone=own_zone(config)))
    # From here on, one stack per destination, kept for as long as the sidecar.
    top: Stack[NewHttp[Backend], NewHttp[Accepted]] = stack(Accepted).then(by_authority)
    destinations = _side(config).to.values()
    if any(each.classify != ClassifyConfig() for each in destinations):
        # Says what a failure is, so: above all that asks.
        top = top.then(Classify(attrgetter("classification")))
    # What the application sees of a destination, whatever is tried again or never sent, so: above all that does that.
    top = top.then(RouteMetrics(runtime.registry))
    if limited is not None:
        # The tries of a request count once, so: above Retry.
        top = top.then(limited)
    # Who comes when nobody was ready in time is told so at once (B-10).
    top = top.then(LoadShed())
    if any(each.concurrency_limit is not None for each in destinations):
        # A request is one, however often it is tried, so: above Retry.
        top = top.then(ConcurrencyLimit(attrgetter("concurrency"), registry=runtime.registry))
    # What an application asks of this proxy is nobody else's to see, and may change the limits, so: above them.
    top = top.then(ReadOverrides(attrgetter("overrides"), attrgetter("timeouts")))
    return (
        # The tries of a request share its limits, so: above Retry.
        top.then(StreamTimeouts(attrgetter("timeouts")))
        # Below what answers, above what picks: another try is another endpoint.
        .then(retrying(runtime.registry))
        .then(balanced(config, runtime))
    )


def balanced(config: MeshConfig, runtime: Runtime) -> Stack[Connect, NewHttp[Backend]]:
    """From a request for one backend to a connection to one of its endpoints."""
    side = _side(config)
    policy = attrgetter("balance")
    takers = _takers(config)
    return (
        stack(Backend)
        # From here on, one stack per endpoint.
        .then(
            Balance(
                discovery(config, runtime),
                policy=policy,
                fail_fast=side.fail_fast,
                owner=runtime.owner,
                registry=runtime.registry,
                feed=runtime.feed,
            )
        )
        .then(
            requesting(
                runtime,
                config.proxy.client_options(),
                connect_timeout=side.connect_timeout,
                mesh=True,
                checked=any(found.health_check is not None for found in takers),
                breaking=any(found.failure_accrual is not None for found in takers),
                tracer=tracer_of(config, runtime),
            )
        )
    )


def opaque(config: MeshConfig, runtime: Runtime, table: Mapping[str, Backend]) -> Stack[Connect, NewAccept[Accepted]]:
    """From a connection whose bytes mean nothing here to a connected endpoint."""
    return _opaque(config, runtime, table, look=True)


def _opaque(
    config: MeshConfig, runtime: Runtime, table: Mapping[str, Backend], *, look: bool
) -> Stack[Connect, NewAccept[Accepted]]:
    side = _side(config)
    if not look:
        return _carrying(config, runtime, table)
    return accept(Accepted).then(
        # The only thing that bytes may tell of where they are meant to go: the name in a TLS client's hello (D-14).
        DetectTls(
            identity=None,
            plain=_carrying(config, runtime, table, "plain_"),
            passthrough=_carrying(config, runtime, table),
            timeout=side.detect_timeout,
            ports_skipped=side.opaque_ports,
        )
    )


def _carrying(
    config: MeshConfig, runtime: Runtime, table: Mapping[str, Backend], prefix: str = "opaque_"
) -> Stack[Connect, NewAccept[Accepted]]:
    side = _side(config)
    balance = Balance(
        discovery(config, runtime),
        policy=attrgetter("balance"),
        fail_fast=side.fail_fast,
        owner=runtime.owner,
        registry=runtime.registry,
        feed=runtime.feed,
        scope="outbound_tcp",
        name=f"{prefix}balance",
    )
    return (
        accept(Accepted)
        # Names of their own, so that the HTTP branch's layers can be edited by theirs.
        .then(ToBackend(_BySni(table), name=f"{prefix}to_backend"))
        # By connection: that is all there is to balance.
        .then(balance)
        .then(
            forwarding(
                runtime,
                connect_timeout=side.connect_timeout,
                mesh=True,
                prefix=prefix,
                checked=any(found.health_check is not None for found in _takers(config)),
            )
        )
    )


def backends(
    table: Mapping[str, Destination], name: str = "", *, opaque: bool = False, zone: str = ""
) -> dict[str, Backend]:
    """The destinations as targets, by pattern; *name* instead of the pattern, where there is one.

    Args:
        opaque: for bytes that were not detected to be HTTP; without, destinations that take bytes alone are left out.
        zone: this proxy's own.
    """
    return {
        pattern: backend_of(
            name or pattern,
            found,
            retry=found.retry,
            timeout=found.timeout,
            opaque=opaque,
            zone=zone,
            overrides=found.allow_l5d_headers,
            concurrency=found.concurrency_limit,
        )
        for pattern, found in table.items()
        if opaque or not found.opaque
    }


class _BySni:
    """The backend of a connection that is no HTTP: by the name its client asked for in TLS, else the one for
    everything (``"*"``)."""

    def __init__(self, table: Mapping[str, Backend]) -> None:
        self._table = table

    def __repr__(self) -> str:
        return "by SNI"

    def targets(self) -> tuple[Backend, ...]:
        """Every backend that it may be."""
        return (*self._table.values(), NOWHERE)

    def __call__(self, target: Accepted) -> Backend:
        found = match_authority(self._table, target.sni.encode(), b"https") if target.sni else None
        return found or self._table.get("*") or NOWHERE


def _takers(config: MeshConfig) -> list[BackendConfig]:
    """Everything that the application's requests, or bytes, may go to."""
    destinations = _side(config).to.values()
    named = {name for found in destinations for name in named_backends(found)}
    return [*destinations, *(config.backend[name] for name in named)]


def _side(config: MeshConfig) -> Outbound:
    if config.outbound is None:
        raise ConfigError(["[outbound] is not there"])
    return config.outbound
