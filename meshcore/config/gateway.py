"""Listeners of a gateway: where it accepts, with which certificates, and to which backends it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from meshcore.config.layers import LayerEdit
from meshcore.config.upstream import RetryConfig, TimeoutConfig
from meshcore.config.words import OPAQUE_PORTS
from meshcore.transport.target import Address

__all__ = ["BackendRef", "CertificateFiles", "Gateway", "GatewayRoute", "GatewayTls", "Match"]

ClientCertificates: TypeAlias = Literal["off", "optional", "required"]


@attrs.frozen(kw_only=True)
class CertificateFiles:
    """A certificate and its key.

    Attributes:
        cert: PEM file: the leaf, then its chain.
        key: PEM file: its private key.
    """

    cert: Path
    key: Path


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

    cert: Path | None = None
    key: Path | None = None
    certificates: tuple[CertificateFiles, ...] = ()
    client_certificates: ClientCertificates = "off"
    trust_anchors: Path | None = None

    @property
    def all(self) -> tuple[CertificateFiles, ...]:
        """Every certificate, the default one first."""
        if self.cert is None or self.key is None:
            return self.certificates
        return (CertificateFiles(cert=self.cert, key=self.key), *self.certificates)


@attrs.frozen(kw_only=True)
class BackendRef:
    """One place to send requests to.

    Attributes:
        backend: the name of a ``[backend.…]``.
    """

    backend: str


@attrs.frozen(kw_only=True)
class Match:
    """What a request has to be like.

    Attributes:
        host: its authority: ``HOST``, ``HOST:PORT``, ``*.SUFFIX`` or ``*`` (R-22).
    """

    host: str = "*"


@attrs.frozen(kw_only=True)
class GatewayRoute:
    """``[[listen.NAME.route]]``: requests for some hosts, to one backend.

    Attributes:
        match: one of these has to fit; none: every request does.
        to: the backend.
    """

    match: tuple[Match, ...] = ()
    to: tuple[BackendRef, ...] = ()


@attrs.frozen(kw_only=True)
class Gateway:
    """``[listen.NAME]``: one listener of a gateway.

    Attributes:
        bind: where to accept.
        tls: terminates TLS; absent: plaintext.
        protocol: ``http``, where HTTP/1, HTTP/2 and other bytes are told apart; ``http1``, ``h2c`` or ``tcp`` force
            one.
        to: the backend of what no route takes.
        route: backends by host; the most specific wins, whatever the order (R-22).
        timeout: limits of one exchange.
        retry: further tries.
        opaque_ports: listening at one of these forwards byte for byte at once (D-15).
        connect_timeout: for each attempt to connect to an endpoint (B-19).
        detect_timeout: how long a silent client is waited for before the server may speak first.
        fail_fast: how long requests wait for any endpoint to be ready (B-09).
        layer: changes to the built-in pipeline.
    """

    bind: Address
    tls: GatewayTls | None = None
    protocol: Literal["http", "http1", "h2c", "tcp"] = "http"
    to: tuple[BackendRef, ...] = ()
    route: tuple[GatewayRoute, ...] = ()
    timeout: TimeoutConfig = attrs.Factory(TimeoutConfig)
    retry: RetryConfig = attrs.Factory(RetryConfig)
    opaque_ports: frozenset[int] = OPAQUE_PORTS
    connect_timeout: float = 1.0
    detect_timeout: float = 1.0
    fail_fast: float = 3.0
    layer: tuple[LayerEdit, ...] = ()

    @property
    def table(self) -> dict[str, str]:
        """Names of backends by host pattern, as the layer ``Route`` takes them; ``"*"`` is what no route takes."""
        found = {"*": self.to[0].backend} if self.to else {}
        for route in self.route:
            for match in route.match or (Match(),):
                found[match.host.lower()] = route.to[0].backend
        return found
