"""The lower end of every pipeline: from a request, or a connection, for one endpoint to a connection to it."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, cast

from meshcore.client.http import Http
from meshcore.layers.connect_metrics import ConnectMetrics
from meshcore.layers.connect_timeout import ConnectTimeout
from meshcore.layers.failure_accrual import FailureAccrual
from meshcore.layers.health_checks import HealthChecks
from meshcore.layers.metrics import Metrics
from meshcore.layers.prevent_loop import PreventLoop
from meshcore.layers.proxy_errors import ProxyErrors
from meshcore.layers.require_id import RequireId
from meshcore.layers.tls import Tls
from meshcore.layers.transport_header import SendTransportHeader
from meshcore.layers.upgrade_orig_proto import UpgradeOrigProto
from meshcore.pipeline.tracing import tried
from meshcore.server.opaque import Forward
from meshcore.stack import Stack, stack
from meshcore.transport.target import Endpoint

if TYPE_CHECKING:
    from meshcore.abc import Connect, Layer, NewHttp, NewService
    from meshcore.client.options import ClientOptions
    from meshcore.pipeline.runtime import Runtime
    from meshcore.tracing.tracer import Tracer
    from meshcore.transport.connection import Connection

__all__ = ["connecting", "forwarding", "requesting"]


def requesting(
    runtime: Runtime,
    client: ClientOptions,
    *,
    connect_timeout: float,
    direction: str = "outbound",
    mesh: bool = False,
    measured: bool = True,
    checked: bool = False,
    breaking: bool = False,
    tracer: Tracer | None = None,
) -> Stack[Connect, NewHttp[Endpoint]]:
    """From a request for one endpoint to a connection to it.

    Args:
        runtime: what the process gives.
        client: how the endpoint is spoken to.
        connect_timeout: seconds for each attempt to connect (B-19).
        direction: of the metrics.
        mesh: whether endpoints may be other sidecars.
        measured: whether requests are counted here; one place for each direction, or they are counted twice.
        checked: whether some endpoints are asked whether they are well.
        breaking: whether there are endpoints that are taken out when they fail.
        tracer: records each try; None: nobody does.
    """
    top = stack(Endpoint)
    if mesh or direction == "inbound":
        # What the other proxy says of errors is not this one's word, nor is what an application
        # says, so: above all that may raise some.
        top = top.then(ProxyErrors())
    if mesh:
        # A request for somebody else is none for this endpoint, so: above what counts it.
        top = top.then(RequireId())
    if breaking:
        # Judges what this endpoint answers, and what it was not asked is not its fault, so: below RequireId.
        accrual = attrgetter("failure_accrual")
        top = top.then(FailureAccrual(accrual, runtime.registry, direction, feed=runtime.feed))
    if measured:
        # Counts each try and knows its endpoint, so: below Retry and Balance.
        top = top.then(
            Metrics(runtime.registry, direction, name="endpoint_metrics", authority=runtime.authority_labels)
        )
    # Each try that is really made, so: below what refuses some.
    top = tried(top, tracer, direction)
    if checked:
        # Its requests are nobody's traffic, but go the way of all requests, so: below what counts them and above all
        # that they need.
        checks = HealthChecks(runtime.registry, direction, feed=runtime.feed)
        top = top.then(cast("Layer[NewHttp[Endpoint], NewHttp[Endpoint]]", checks))
    if mesh:
        # Changes the version that a request is sent with, so: directly above what speaks it.
        top = top.then(UpgradeOrigProto())
    return (
        # Speaks HTTP/1 or HTTP/2, and keeps the connections.
        top.then(Http(client)).then(connecting(runtime, connect_timeout, direction=direction))
    )


def forwarding(
    runtime: Runtime,
    *,
    connect_timeout: float,
    direction: str = "outbound",
    mesh: bool = False,
    prefix: str = "opaque_",
    checked: bool = False,
) -> Stack[Connect, NewService[Endpoint, Connection, None]]:
    """From a connection for one endpoint, whose bytes mean nothing here, to a connection to it."""
    # Both directions until both have ended.
    role = "" if prefix == "opaque_" else f"{prefix}forward"
    forward: Stack[Connect, NewService[Endpoint, Connection, None]] = Stack((Forward(name=role),))
    top = forward
    if checked:
        # Shuts an endpoint for what balances, so: above what connects.
        checks = HealthChecks(runtime.registry, direction, name=f"{prefix}health_checks", feed=runtime.feed)
        top = Stack((checks, *forward.layers))
    if mesh:
        # The first bytes inside of TLS, so: above it.
        top = top.then(SendTransportHeader(name=f"{prefix}send_transport_header"))
    return top.then(connecting(runtime, connect_timeout, direction=direction, prefix=prefix))


def connecting(
    runtime: Runtime, connect_timeout: float, *, direction: str = "outbound", prefix: str = ""
) -> Stack[Connect, Connect]:
    """From the wish for a connection to one that is ready to use; *prefix* goes before the roles."""
    empty: Stack[Connect, Connect] = Stack()
    connect = (
        empty
        # A connection is secured once, so: below what keeps it.
        .then(Tls(identity=runtime.identity, name=f"{prefix}tls"))
        # Knows the connection that was made, so: below Tls, which hides it.
        .then(ConnectMetrics(runtime.registry, direction, name=f"{prefix}connect_metrics"))
    )
    if runtime.own is not None:
        # Judges where the connect has led to, before a byte is sent there, so: below Tls.
        connect = connect.then(PreventLoop(runtime.own, name=f"{prefix}prevent_loop"))
    # Limits the connect alone (TLS has a limit of its own), so: lowest.
    return connect.then(ConnectTimeout(connect_timeout, name=f"{prefix}connect_timeout"))
