"""Listeners of a gateway: where it accepts, with which certificates, and to which backends it sends."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import attrs

from meshcore.config.concurrency import ConcurrencyLimited
from meshcore.config.ext_authz import ExtAuthzConfig
from meshcore.config.jwt import JwtConfig
from meshcore.config.kinds import Duration
from meshcore.config.layers import LayerEdits
from meshcore.config.places import File, Listening, Network
from meshcore.config.policy import PolicyConfig
from meshcore.config.rate_limit import RateLimitConfig
from meshcore.config.route import BackendRef, GatewayRoute
from meshcore.config.tables import Ports
from meshcore.config.upstream import RetryConfig, TimeoutConfig
from meshcore.config.words import OPAQUE_PORTS, Policy
from meshcore.transport.target import Address

__all__ = ["CertificateFiles", "Gateway", "GatewayTls"]



ClientCertificates: TypeAlias = Literal["off", "optional", "required"]


@attrs.frozen(kw_only=True)
class CertificateFiles:
    """A certificate and its key.

    Attributes:
        cert: PEM file: the leaf, then its chain.
        key: PEM file: its private key.
    """

    cert: File
    key: File


@attrs.frozen(kw_only=True)
class GatewayTls:
    """TLS on what is accepted; its files are watched.

    Attributes:
        cert: PEM file of the default certificate: the leaf, then its chain.
        key: PEM file of its private key.
        certificates: further ones (or all of them), picked by the name that a client asks for; the first one
            of all is the default.
        client_certificates: whether clients are asked for a certificate, and turned away without one.
        trust_anchors: PEM file of the authorities that vouch for clients.
    """

    cert: File | None = None
    key: File | None = None
    certificates: tuple[CertificateFiles, ...] = ()
    client_certificates: ClientCertificates = "off"
    trust_anchors: File | None = None

    @property
    def all(self) -> tuple[CertificateFiles, ...]:
        """Every certificate, the default one first."""
        if self.cert is None or self.key is None:
            return self.certificates
        return (CertificateFiles(cert=self.cert, key=self.key), *self.certificates)


@attrs.frozen(kw_only=True)
class Gateway:
    """``[listen.NAME]``: one listener of a gateway.

    Attributes:
        bind: where to accept.
        tls: terminates TLS; absent: plaintext.
        protocol: ``http``, where HTTP/1, HTTP/2 and other bytes are told apart; ``http1``, ``h2c`` or ``tcp`` force
            one.
        to: the backends, by their shares, of what no route takes; absent: that is answered 404.
        route: which requests go elsewhere; of several that match, the most specific wins (R-23).
        ext_authz: a service that is asked about each request; what is not HTTP is refused then.
        timeout: limits of one exchange.
        retry: further tries.
        opaque_ports: listening at one of these forwards byte for byte at once (D-15).
        connect_timeout: for each attempt to connect to an endpoint (B-19).
        detect_timeout: how long a silent client is waited for before the server may speak first.
        fail_fast: how long requests wait for any endpoint to be ready (B-09).
        concurrency_limit: requests in flight at the most; what is too much is answered 503; absent: no limit.
        default_policy: who may call, by linkerd's names (R-33) and by the certificates of clients; ``audit`` lets
            everybody in and logs whom ``all-authenticated`` would not.
        cluster_networks: where the clients of ``cluster-…`` policies come from, as in ``10.0.0.0/8``.
        policy: who may call, more exactly; the default policy is for what none of these is for.
        jwt: a token that clients have to show (401); absent: none.
        rate_limit: how many requests are let in (429); absent: all.
        informational_headers: whether answers that the proxy made itself tell what went wrong (E-06):
            ``l5d-proxy-error``, ``x-meshcore-error`` and, for gRPC, a message; false for a public listener, whose
            clients need not know.
        layer: changes to the built-in pipeline.
    """

    LATER: ClassVar[dict[str, str]] = {"filters": "they belong to a route"}

    bind: Annotated[Address, Listening(schemes=True)]
    tls: GatewayTls | None = None
    protocol: Literal["http", "http1", "h2c", "tcp"] = "http"
    to: tuple[BackendRef, ...] = ()
    route: tuple[GatewayRoute, ...] = ()
    ext_authz: ExtAuthzConfig | None = None
    timeout: TimeoutConfig = attrs.Factory(TimeoutConfig)
    retry: RetryConfig = attrs.Factory(RetryConfig)
    opaque_ports: Ports = OPAQUE_PORTS
    connect_timeout: Duration = 1.0
    detect_timeout: Duration = 1.0
    fail_fast: Duration = 3.0
    concurrency_limit: ConcurrencyLimited | None = None
    default_policy: Policy = "all-unauthenticated"
    cluster_networks: tuple[Network, ...] = ()
    policy: tuple[PolicyConfig, ...] = ()
    jwt: JwtConfig | None = None
    rate_limit: RateLimitConfig | None = None
    informational_headers: bool = True
    layer: LayerEdits = ()
