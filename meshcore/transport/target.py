"""Targets: what services are made for, each built from the one before.  Frozen and hashable."""

from __future__ import annotations

from typing import TypeAlias

import attrs

__all__ = ["Accepted", "Address", "Authority", "Backend", "Endpoint", "TlsClient"]

Address: TypeAlias = tuple[str, int]
"""Host (an IP literal or a name) and port."""


@attrs.frozen
class Accepted:
    """An accepted connection's ends.

    Attributes:
        listener: the name of the listener that accepted it (``"gateway"``).
        local: the listener's address.
        peer: the client's address.
        original: where the client really dialled, before redirection (D-39); None if unknown.
    """

    listener: str = ""
    local: Address = ("", 0)
    peer: Address = ("", 0)
    original: Address | None = None


@attrs.frozen
class Authority:
    """A ``host[:port]`` that an application asked for."""

    name: str


@attrs.frozen
class TlsClient:
    """How a connection to an endpoint is secured.

    Attributes:
        server_name: the SNI, and the name that the certificate must have.
        alpn: protocols offered, in order of preference.
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
    """

    address: Address
    protocol: str = "http"
    tls: TlsClient | None = None
    weight: float = 1.0
    labels: tuple[tuple[str, str], ...] = ()
    zone: str = ""

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@attrs.frozen(cache_hash=True)
class Backend:
    """A set of endpoints under one name.

    Attributes:
        name: from the configuration (or the authority), used in messages and metrics.
        endpoints: the fixed set, where there is one.
        discover: ``dns:…``, ``file:…`` and the like, for a resolver; None for a fixed set.
    """

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    discover: str | None = None
