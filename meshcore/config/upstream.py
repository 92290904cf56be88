"""Where requests go: destinations of a sidecar, backends of a gateway, and their endpoints."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import attrs

from meshcore.addresses import format_address, parse_upstream
from meshcore.config.balancing import BalanceConfig, BalanceKind, HealthCheckConfig, ZoneConfig, ZoneKind
from meshcore.config.concurrency import ConcurrencyLimited
from meshcore.config.failures import ClassifyConfig, FailureAccrualConfig
from meshcore.config.filters import FilterConfig
from meshcore.config.kinds import Duration, Kind, Name, Number, parsed
from meshcore.config.match import RequestConfig
from meshcore.config.places import AppAddress, Discovery, File, OptionalAddress, Peer
from meshcore.config.rate_limit import RateLimitConfig
from meshcore.config.report import WRONG, At, shown
from meshcore.config.retry import RetryConfig
from meshcore.config.tables import Listed, Table
from meshcore.config.words import Protocol

__all__ = [
    "BackendConfig",
    "ClientTls",
    "Destination",
    "DestinationRef",
    "DestinationRoute",
    "EndpointConfig",
    "RetryConfig",
    "TimeoutConfig",
    "Weight",
]

Weight: TypeAlias = Annotated[float, Number(0, 1_000_000)]


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """One concrete peer: ``"HOST:PORT"``, a URL without a path, or a table.

    Attributes:
        address: host and port; with a scheme in front, that is its protocol.
        protocol: what it speaks; absent: what its destination or backend says.
        weight: its share relative to the others; 0 takes no new requests.
        zone: where it runs; absent: unknown.
        identity: who must answer there; absent: what its destination or backend says.
    """

    address: AppAddress
    protocol: Protocol | None = None
    weight: Weight = 1.0
    zone: Name | None = None
    identity: Peer | None = None


class EndpointKind(Kind):
    """An endpoint, as text or as a table."""

    title = "`HOST:PORT`, a URL or a table"
    table = EndpointConfig

    def read(self, value: object, at: At, /) -> Any:
        """The endpoint."""
        if isinstance(value, dict):
            return Table(EndpointConfig).read(value, at)
        if not isinstance(value, str):
            near = f'; did you mean "127.0.0.1:{value}"?' if isinstance(value, int) and 0 < value < 65_536 else ""
            return at.error(f'{shown(value)} is not an endpoint such as "10.0.0.7:8080"{near}')
        location = parsed(value, at, parse_upstream)
        if location is WRONG:
            return WRONG
        protocol = location.scheme if "://" in value else None
        return EndpointConfig(address=(location.host, location.port), protocol=protocol)

    def show(self, value: Any, /) -> Any:
        """Text, where that says all."""
        address = format_address(value.address)
        if value == EndpointConfig(address=value.address, protocol=value.protocol):
            return address if value.protocol is None else f"{value.protocol}://{address}"
        return Table(EndpointConfig).show(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"anyOf": [{"type": "string", "minLength": 1}, Table(EndpointConfig).schema()]}


Endpoints: TypeAlias = Annotated[tuple[EndpointConfig, ...], Listed(EndpointKind(), tuple)]


@attrs.frozen(kw_only=True)
class TimeoutConfig:
    """Limits of one exchange; absent: none.  In seconds.

    Attributes:
        request: from the request's head to the response's last byte (504 before the head, a reset after it).
        response: from the end of the request's body to the response's last byte.
        idle: without a byte in either direction.
    """

    request: Duration | None = None
    response: Duration | None = None
    idle: Duration | None = None


@attrs.frozen(kw_only=True)
class ClientTls:
    """How ``https`` endpoints are secured.

    Attributes:
        server_name: the SNI, and the name their certificates must have; absent: the endpoint's own host.
        trust_anchors: PEM file of the authorities that are trusted; absent: the system's.
        verify: false accepts any certificate, for development alone.
    """

    server_name: Peer | None = None
    trust_anchors: File | None = None
    verify: bool = True


@attrs.frozen(kw_only=True)
class BackendConfig:
    """``[backend.NAME]``: a set of endpoints under a name that a gateway's ``to`` can use.

    Attributes:
        endpoints: the fixed set; this or *discover*.
        discover: who tells the endpoints: ``file:PATH``, read anew whenever it changes; ``dns:HOST:PORT``, the
            addresses of a name; or ``dns+srv:NAME``, the hosts and ports of a service.
        protocol: what is spoken to them; ``http`` is the version that the request came in with, ``tcp`` is bytes.
        identity: who must answer: mutual TLS with that DNS name or ``spiffe://`` URI, or 502.
        server_name: the name asked for by SNI; absent: the *identity*, if it is a DNS name (proxies like this one know
            without that they are meant; linkerd's need it).
        mesh: whether the other end is a mesh proxy, to whom requests are sent as such proxies do; absent: where
            there is an *identity*.
        balance: how an endpoint is picked for each request: a policy's name, or a table.
        zone_aware: whether endpoints in the proxy's own zone (``[service] zone``) are preferred; true, or a table.
        health_check: how endpoints are asked whether they are well; absent: not at all, and only those that cannot
            be connected are taken out.
        classify: which responses are failures.
        failure_accrual: when an endpoint is taken out because it fails; absent: never (those that cannot be connected
            to are taken out in any case).
        tls: for ``https`` endpoints.
    """

    endpoints: Endpoints = ()
    discover: Discovery | None = None
    protocol: Protocol = "http"
    identity: Peer | None = None
    server_name: Peer | None = None
    mesh: bool | None = None
    balance: Annotated[BalanceConfig, BalanceKind()] = attrs.Factory(BalanceConfig)
    zone_aware: Annotated[ZoneConfig | None, ZoneKind()] = None
    health_check: HealthCheckConfig | None = None
    classify: ClassifyConfig = attrs.Factory(ClassifyConfig)
    failure_accrual: FailureAccrualConfig | None = None
    tls: ClientTls | None = None

    @property
    def meshed(self) -> bool:
        """Whether the other end is a mesh proxy."""
        return self.identity is not None if self.mesh is None else self.mesh

    @property
    def opaque(self) -> bool:
        """Whether it takes bytes instead of requests."""
        return self.protocol == "tcp"


@attrs.frozen(kw_only=True)
class DestinationRef:
    """One place to send a destination's requests to.

    Attributes:
        backend: the name of a ``[backend.…]``; absent: the destination's own endpoints.
        weight: its share, relative to the others; 0: none.
        filters: what is done to the requests that it gets, in this order.
    """

    backend: Name | None = None
    weight: Weight = 1.0
    filters: tuple[FilterConfig, ...] = ()


@attrs.frozen(kw_only=True)
class DestinationRoute:
    """``[[outbound.to."HOST:PORT".route]]``: some of a destination's requests.  What no route takes is answered 404.

    Attributes:
        name: in metrics and messages; absent: ``route-N``, where the first one is ``route-0``.
        match: one of these has to fit; none: every request does.
        filters: what is done to them, in this order, and once, whatever is tried again.
        timeout: limits of one exchange; absent: those of the destination.
        retry: further tries; absent: those of the destination.
        rate_limit: how many requests may be sent (429), beside what the destination says; absent: all.
        failover: the first of *to* that is ready gets everything, and their weights mean nothing but 0.
        to: backends, by their shares; absent: the destination's own endpoints.
    """

    name: Name | None = None
    match: tuple[RequestConfig, ...] = ()
    filters: tuple[FilterConfig, ...] = ()
    timeout: TimeoutConfig | None = None
    retry: RetryConfig | None = None
    rate_limit: RateLimitConfig | None = None
    failover: bool = False
    to: tuple[DestinationRef, ...] = ()


@attrs.frozen(kw_only=True)
class Destination(BackendConfig):
    """``[outbound.to."HOST:PORT"]``: what an application reaches under that authority, and how.

    Attributes:
        endpoints: the fixed set; this or *discover*.
        discover: who tells the endpoints: ``file:PATH``, read anew whenever it changes; ``dns:HOST:PORT``, the
            addresses of a name; or ``dns+srv:NAME``, the hosts and ports of a service.
        protocol: what is spoken to them; ``http`` is the version that the request came in with, ``tcp`` is bytes.
        identity: who must answer: mutual TLS with that DNS name or ``spiffe://`` URI, or 502.
        server_name: the name asked for by SNI; absent: the *identity*, if it is a DNS name (proxies like this one know
            without that they are meant; linkerd's need it).
        mesh: whether the other end is a mesh proxy, to whom requests are sent as such proxies do; absent: where
            there is an *identity*.
        balance: how an endpoint is picked for each request: a policy's name, or a table.
        zone_aware: whether endpoints in the proxy's own zone (``[service] zone``) are preferred; true, or a table.
        health_check: how endpoints are asked whether they are well; absent: not at all, and only those that cannot
            be connected are taken out.
        classify: which responses are failures.
        failure_accrual: when an endpoint is taken out because it fails; absent: never (those that cannot be connected
            to are taken out in any case).
        tls: for ``https`` endpoints.
        timeout: limits of one exchange.
        retry: further tries.
        rate_limit: how many requests may be sent there (429); absent: all.
        route: what is done with some of its requests, and where they go instead; absent: all go to its endpoints.
        listen: an address of its own: whatever is accepted there goes to this destination, which is how bytes that
            name nobody get to theirs; absent: none.
        allow_l5d_headers: whether a request may ask for retries and limits of its own by ``l5d-retry-http``,
            ``l5d-retry-grpc``, ``l5d-retry-limit``, ``l5d-retry-timeout``, ``l5d-request-timeout`` and
            ``l5d-response-timeout`` (R-15); they are never sent on.
        concurrency_limit: requests in flight to it at the most; what is too much is answered 503; absent: no limit.
    """

    timeout: TimeoutConfig = attrs.Factory(TimeoutConfig)
    retry: RetryConfig = attrs.Factory(RetryConfig)
    rate_limit: RateLimitConfig | None = None
    route: tuple[DestinationRoute, ...] = ()
    listen: OptionalAddress = None
    allow_l5d_headers: bool = False
    concurrency_limit: ConcurrencyLimited | None = None
