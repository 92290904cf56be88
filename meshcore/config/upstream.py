"""Where requests go: destinations of a sidecar, backends of a gateway, and their endpoints."""

from __future__ import annotations

from pathlib import Path

import attrs

from meshcore.config.words import Balancer, Protocol
from meshcore.transport.target import Address

__all__ = ["BackendConfig", "ClientTls", "Destination", "EndpointConfig", "RetryConfig", "TimeoutConfig"]


@attrs.frozen(kw_only=True)
class EndpointConfig:
    """One concrete peer: ``"HOST:PORT"``, a URL without a path, or a table.

    Attributes:
        address: host and port; with a scheme in front, that is its protocol.
        protocol: what it speaks; absent: what its destination or backend says.
        weight: its share relative to the others; 0 takes no new requests.
        zone: where it runs.
        identity: who must answer there; absent: what its destination or backend says.
    """

    address: Address
    protocol: Protocol | None = None
    weight: float = 1.0
    zone: str = ""
    identity: str | None = None


@attrs.frozen(kw_only=True)
class TimeoutConfig:
    """Limits of one exchange; absent: none.  In seconds.

    Attributes:
        request: from the request's head to the response's last byte (504 before the head, a reset after it).
        response: from the end of the request's body to the response's last byte.
        idle: without a byte in either direction.
    """

    request: float | None = None
    response: float | None = None
    idle: float | None = None


@attrs.frozen(kw_only=True)
class RetryConfig:
    """Further tries, on another endpoint, of what failed without an answer and is safe to repeat.

    Attributes:
        limit: further tries after the first.
        on: which failures: ``"connect-failure"`` and ``"reset"``, which belong together in this release.
        budget: retries for each request, on average, at the most.
        replay: bytes of a request's body that are kept for it; a longer one is not tried again.
    """

    limit: int = 1
    on: tuple[str, ...] = ("connect-failure", "reset")
    budget: float = 0.2
    replay: int = 65_536


@attrs.frozen(kw_only=True)
class ClientTls:
    """How ``https`` endpoints are secured.

    Attributes:
        server_name: the SNI, and the name their certificates must have; absent: the endpoint's own host.
        trust_anchors: PEM file of the authorities that are trusted; absent: the system's.
        verify: false accepts any certificate, for development alone.
    """

    server_name: str | None = None
    trust_anchors: Path | None = None
    verify: bool = True


@attrs.frozen(kw_only=True)
class BackendConfig:
    """``[backend.NAME]``: a set of endpoints under a name that a gateway's ``to`` can use.

    Attributes:
        endpoints: the fixed set; this or *discover*.
        discover: who tells the endpoints: ``file:PATH``, read anew whenever it changes.
        protocol: what is spoken to them; ``http`` is the version that the request came in with, ``tcp`` is bytes.
        identity: who must answer: mutual TLS with that DNS name or ``spiffe://`` URI, or 502.
        mesh: whether the other end is a mesh proxy, to whom requests are sent as such proxies do; absent: where
            there is an *identity*.
        balance: how an endpoint is picked for each request.
        tls: for ``https`` endpoints.
    """

    endpoints: tuple[EndpointConfig, ...] = ()
    discover: str | None = None
    protocol: Protocol = "http"
    identity: str | None = None
    mesh: bool | None = None
    balance: Balancer = "p2c-ewma"
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
class Destination(BackendConfig):
    """``[outbound.to."HOST:PORT"]``: what an application reaches under that authority, and how.

    Attributes:
        endpoints: the fixed set; this or *discover*.
        discover: who tells the endpoints: ``file:PATH``, read anew whenever it changes.
        protocol: what is spoken to them; ``http`` is the version that the request came in with, ``tcp`` is bytes.
        identity: who must answer: mutual TLS with that DNS name or ``spiffe://`` URI, or 502.
        mesh: whether the other end is a mesh proxy, to whom requests are sent as such proxies do; absent: where
            there is an *identity*.
        balance: how an endpoint is picked for each request.
        tls: for ``https`` endpoints.
        timeout: limits of one exchange.
        retry: further tries.
    """

    timeout: TimeoutConfig = attrs.Factory(TimeoutConfig)
    retry: RetryConfig = attrs.Factory(RetryConfig)
