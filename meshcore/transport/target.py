"""Targets: what services are made for, each built from the one before.  Frozen and hashable."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeAlias

import attrs

from meshcore.codec.transport_header import TransportHeader
from meshcore.http.classification import Classification
from meshcore.http.concurrency import Concurrency
from meshcore.http.hedge import Hedge
from meshcore.http.retry_on import RetryOn
from meshcore.http.timeouts import Timeouts
from meshcore.transport.accrual import Accrual
from meshcore.transport.backoff import Backoff
from meshcore.transport.health import Health

if TYPE_CHECKING:
    from meshcore.abc import ServiceLayer

__all__ = [
    "Accepted",
    "Address",
    "Authority",
    "Backend",
    "BackendRef",
    "Endpoint",
    "HttpRoute",
    "Mirrored",
    "RequestPolicy",
    "TlsClient",
]

Address: TypeAlias = tuple[str, int]
"""Host (an IP literal or a name) and port."""


@attrs.frozen
class Accepted:
    """An accepted connection's ends.

    Attributes:
        listener: the name of the listener that accepted it (``"gateway"``).
        local: the listener's address.
        peer: the client's address.
        original: where the client really dialled, before redirection (D-39), or where the proxy that is the
            client says that the connection is to go (D-19); None if unknown.
        sni: the server name that the client asked for, where TLS was looked for (D-12); None without.
        no_tls: why the connection is not secured, as in metrics (T-16): ``"no_tls_from_remote"``,
            ``"loopback"``, ``"port_skipped"``, ``"disabled"``; ``""`` where that was not looked at.
        transport_header: what the proxy that is the client told of the connection; None where it told nothing.
        secure: whether TLS was terminated here.
        client_id: the client's verified identity; None without.
    """

    listener: str = ""
    local: Address = ("", 0)
    peer: Address = ("", 0)
    original: Address | None = None
    sni: str | None = None
    no_tls: str = ""
    transport_header: TransportHeader | None = None
    secure: bool = False
    client_id: str | None = None


@attrs.frozen
class Authority:
    """A ``host[:port]`` that an application asked for."""

    name: str


@attrs.frozen
class TlsClient:
    """How a connection to an endpoint is secured.

    Attributes:
        server_name: the SNI, and the name that the certificate must have.
        alpn: protocols offered, in order of preference; ``()``: none is, and HTTP/2 is spoken by prior knowledge
            (D-08).
        trust_anchors: PEM of the authorities trusted; None: the system's.
        identity: the DNS or URI SAN required instead of *server_name*.
        verify: False accepts any certificate (for tests and development).
        mesh: secured with the proxy's own identity (T-15): mutual TLS 1.3 with a peer that has *identity*, by the
            trust anchors of the own one; *trust_anchors* and *verify* do not apply.
    """

    server_name: str
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    trust_anchors: bytes | None = None
    identity: str | None = None
    verify: bool = True
    mesh: bool = False

    def __attrs_post_init__(self) -> None:
        if self.mesh and not self.identity:
            raise ValueError("mesh TLS needs the identity that must answer")


@attrs.frozen(cache_hash=True)
class Endpoint:
    """One concrete peer.

    Attributes:
        address: where to connect.
        protocol: ``"http"`` (the version the request came in with), ``"http/1"``, ``"h2"`` or ``"opaque"``;
            with *tls*, ``"http"`` means: by ALPN.
        tls: how it is secured; None for plaintext.
        weight: its share, relative to the others; 0 takes no new requests.
        labels: ``(name, value)`` pairs for metrics.
        zone: where it runs; ``""`` if unknown.
        mesh_proxy: the other end is a proxy of the mesh: HTTP/1 travels to it over HTTP/2 (D-24), and tunnels
            over HTTP/1 (D-27).  HTTP/2 is by prior knowledge then, whatever TLS could negotiate (D-08), and never
            given up for HTTP/1.  With *protocol* ``"http/1"`` nothing is translated.
        transport_header: what a proxy at *address* is told at the head of each connection (D-20); None:
            nothing.  Needs *tls*.
        no_tls: why *tls* is None, as in metrics (T-16): ``"loopback"``; ``""``: discovery told of none.
        health: how it is asked whether it is well; None: not at all.
        failure_accrual: when it is taken out because it fails; None: never.
    """

    address: Address
    protocol: str = "http"
    tls: TlsClient | None = None
    weight: float = 1.0
    labels: tuple[tuple[str, str], ...] = ()
    zone: str = ""
    mesh_proxy: bool = False
    transport_header: TransportHeader | None = None
    no_tls: str = ""
    health: Health | None = None
    failure_accrual: Accrual | None = None

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@attrs.frozen(kw_only=True)
class RequestPolicy:
    """How requests for a target are treated: what backends and routes have in common, so that the layers that read it
    can stand above either.

    Attributes:
        retries: further tries for a request that is safe to repeat.
        retry_ratio: how many of its requests may be tried again, on average (the budget).
        replay: bytes of a request's body that are kept for another try.
        timeout: seconds to wait for an answer's head, each try but the last; None: no limit.
        timeouts: limits of whole exchanges; None: none.
        classification: which responses are failures; None: as by default.
        retry_on: what is tried again.
        backoff: the pause before each further try; None: none.
        hedge: when a second try is begun beside the first; None: never.
        overrides: whether a request may ask for retries and limits of its own (R-15).
        concurrency: requests in flight at the most; None: no limit.
    """

    retries: int = 1
    retry_ratio: float = 0.2
    replay: int = 65_536
    timeout: float | None = None
    timeouts: Timeouts | None = None
    classification: Classification | None = None
    retry_on: RetryOn = attrs.Factory(RetryOn)
    backoff: Backoff | None = None
    hedge: Hedge | None = None
    overrides: bool = False
    concurrency: Concurrency | None = None


@attrs.frozen(cache_hash=True)
class Backend(RequestPolicy):
    """A set of endpoints under one name; and how requests for it are treated, where no route says that.

    Attributes:
        name: from the configuration (or the authority), used in messages and metrics.
        endpoints: the fixed set, where there is one.
        discover: ``dns:…``, ``file:…`` and the like, for a resolver; None for a fixed set.
        template: what discovered endpoints are where their entries do not say it; None: plain HTTP.
        balance: how it is balanced: the policy's name, or a ``layers.balance.Balancing``.
    """

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    discover: str | None = None
    template: Endpoint | None = None
    balance: Hashable = attrs.field(default="p2c-ewma", kw_only=True)


@attrs.frozen(cache_hash=True)
class BackendRef:
    """A backend as one of those that a route sends to.

    Attributes:
        backend: where to.
        weight: its share, relative to the others; 0: none (B-13).
        filters: what is done to the requests that it gets, in this order.
        mirrors: who gets copies of them.
        route: the route's name, for metrics.
        parent: its parent's.
    """

    backend: Backend
    weight: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    filters: tuple[ServiceLayer, ...] = attrs.field(default=(), kw_only=True)
    mirrors: tuple[Mirrored, ...] = attrs.field(default=(), kw_only=True)
    route: str = attrs.field(default="", kw_only=True)
    parent: str = attrs.field(default="", kw_only=True)


@attrs.frozen(cache_hash=True)
class Mirrored:
    """Where copies of the requests of a route, or of one of its backends, go.

    Attributes:
        target: a target of the same kind: a route with one backend, or a backend.
        ratio: the share of requests that are copied, from 0 to 1.
    """

    target: HttpRoute | BackendRef
    ratio: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0), attrs.validators.le(1)])


@attrs.frozen(cache_hash=True)
class HttpRoute(RequestPolicy):
    """A route: what is done with the requests that one rule, or several, match.  One stack is kept for each.

    Attributes:
        name: unique in its parent; used in messages and metrics.
        backends: where to, by their shares; without any, every request is refused (503).
        parent: whose route it is: a listener, a destination, ``inbound``.
        filters: what is done to requests and answers, in this order; above retries, so that it is done once.
        mirrors: who gets copies.
        failover: the first backend that is ready gets everything, whatever the weights.
    """

    name: str
    backends: tuple[BackendRef, ...] = ()
    parent: str = attrs.field(default="", kw_only=True)
    filters: tuple[ServiceLayer, ...] = attrs.field(default=(), kw_only=True)
    mirrors: tuple[Mirrored, ...] = attrs.field(default=(), kw_only=True)
    failover: bool = attrs.field(default=False, kw_only=True)
