"""The two sides of a sidecar: what comes in for the application, and what the application sends."""

from __future__ import annotations

from typing import Annotated

import attrs

from meshcore.config.concurrency import ConcurrencyLimited
from meshcore.config.ext_authz import ExtAuthzConfig
from meshcore.config.jwt import JwtConfig
from meshcore.config.kinds import Duration
from meshcore.config.layers import LayerEdits
from meshcore.config.places import AppAddress, ListenAddress, Network, host_pattern
from meshcore.config.policy import PolicyConfig
from meshcore.config.rate_limit import RateLimitConfig
from meshcore.config.route import InboundRoute
from meshcore.config.tables import Ports, Table, Tables
from meshcore.config.upstream import Destination
from meshcore.config.words import OPAQUE_PORTS, Policy

__all__ = ["Inbound", "Outbound"]


@attrs.frozen(kw_only=True)
class Inbound:
    """``[inbound]``: the side that others call; what it lets in goes to the application in plaintext.

    Attributes:
        listen: where to accept.
        forward: the application; absent: where the connection was sent to before it was redirected here.
        default_policy: who may call, by linkerd's names (R-33); ``audit`` lets everybody in and logs whom
            ``all-authenticated`` would not.
        cluster_networks: where the clients of ``cluster-…`` policies come from, as in ``10.0.0.0/8``.
        policy: who may call, more exactly; the default policy is for what none of these is for.
        ext_authz: a service that is asked about each request that the policy lets in; what is not HTTP is refused then.
        opaque_ports: what was sent to these ports is forwarded byte for byte at once (D-15).
        connect_timeout: for connecting to the application (B-19).
        detect_timeout: how long a TLS client's hello, its handshake after that, and what another proxy says first
            are waited for, each (D-13).
        jwt: a token that clients have to show (401); absent: none.
        rate_limit: how many requests are let in (429); absent: all.
        route: which requests are for the application; absent: all of them.
        concurrency_limit: requests in flight to the application at the most; what is too much is answered 503; absent:
            no limit.
        layer: changes to the built-in pipeline.
    """

    listen: ListenAddress = ("0.0.0.0", 4143)
    forward: AppAddress | None = None
    default_policy: Policy = "all-unauthenticated"
    cluster_networks: tuple[Network, ...] = ()
    policy: tuple[PolicyConfig, ...] = ()
    ext_authz: ExtAuthzConfig | None = None
    opaque_ports: Ports = OPAQUE_PORTS
    connect_timeout: Duration = 0.3
    detect_timeout: Duration = 10.0
    jwt: JwtConfig | None = None
    rate_limit: RateLimitConfig | None = None
    route: tuple[InboundRoute, ...] = ()
    concurrency_limit: ConcurrencyLimited | None = None
    layer: LayerEdits = ()


@attrs.frozen(kw_only=True)
class Outbound:
    """``[outbound]``: the side that the application calls.

    Attributes:
        listen: where to accept; loopback, for whoever reaches it speaks in the application's name.
        opaque_ports: what was sent to these ports is forwarded byte for byte at once (D-15).
        connect_timeout: for each attempt to connect to an endpoint (B-19).
        detect_timeout: how long the protocol is waited for before the server may speak first.
        fail_fast: how long requests wait for any endpoint to be ready (B-09).
        to: destinations by the authority that the application uses (``payments:80``); ``*.SUFFIX`` stands for all
            that end so, and ``*`` for everything else, bytes that name nobody included.
        informational_headers: whether answers that the proxy made itself tell what went wrong (E-06):
            ``l5d-proxy-error``, ``x-meshcore-error`` and, for gRPC, a message.
        layer: changes to the built-in pipeline.
    """

    listen: ListenAddress = ("127.0.0.1", 4140)
    opaque_ports: Ports = OPAQUE_PORTS
    connect_timeout: Duration = 1.0
    detect_timeout: Duration = 1.0
    fail_fast: Duration = 3.0
    to: Annotated[dict[str, Destination], Tables(Table(Destination), host_pattern)] = attrs.Factory(dict)
    informational_headers: bool = True
    layer: LayerEdits = ()
