"""Listeners of a gateway: where it accepts, with which certificates, and to which backends it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import attrs

from meshcore.config.concurrency import ConcurrencyLimited
from meshcore.config.kinds import Duration, Name, Text, parsed
from meshcore.config.layers import LayerEdits
from meshcore.config.places import File, Listening, host_pattern
from meshcore.config.tables import Ports
from meshcore.config.upstream import RetryConfig, TimeoutConfig
from meshcore.config.words import OPAQUE_PORTS
from meshcore.transport.target import Address

if TYPE_CHECKING:
    from meshcore.config.report import At

__all__ = ["BackendRef", "CertificateFiles", "Gateway", "GatewayRoute", "GatewayTls", "Match"]



class PatternKind(Text):
    """A pattern of hosts."""

    title = "`HOST`, `HOST:PORT`, `*.SUFFIX` or `*`"

    def read(self, value: object, at: At, /) -> Any:
        """The pattern."""
        return parsed(value, at, host_pattern)


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
class BackendRef:
    """One place to send requests to.

    Attributes:
        backend: the name of a ``[backend.…]``.
    """

    LATER: ClassVar[dict[str, str]] = {"weight": "a route has one backend", "filters": ""}

    backend: Name


@attrs.frozen(kw_only=True)
class Match:
    """What a request has to be like.

    Attributes:
        host: its authority: ``HOST``, ``HOST:PORT``, ``*.SUFFIX`` or ``*`` (R-22).
    """

    LATER: ClassVar[dict[str, str]] = {"path": "host is", "headers": "host is", "method": "host is", "query": "host is"}

    host: Annotated[str, PatternKind()] = "*"


@attrs.frozen(kw_only=True)
class GatewayRoute:
    """``[[listen.NAME.route]]``: requests for some hosts, to one backend.

    Attributes:
        match: one of these has to fit; none: every request does.
        to: the backend.
    """

    LATER: ClassVar[dict[str, str]] = {
        "filters": "",
        "timeout": "set it for the listener",
        "retry": "set it for the listener",
        "name": "",
    }

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
        concurrency_limit: requests in flight at the most; what is too much is answered 503; absent: no limit.
        layer: changes to the built-in pipeline.
    """

    LATER: ClassVar[dict[str, str]] = {"filters": "", "default_policy": "", "rate_limit": ""}

    bind: Annotated[Address, Listening(schemes=True)]
    tls: GatewayTls | None = None
    protocol: Literal["http", "http1", "h2c", "tcp"] = "http"
    to: tuple[BackendRef, ...] = ()
    route: tuple[GatewayRoute, ...] = ()
    timeout: TimeoutConfig = attrs.Factory(TimeoutConfig)
    retry: RetryConfig = attrs.Factory(RetryConfig)
    opaque_ports: Ports = OPAQUE_PORTS
    connect_timeout: Duration = 1.0
    detect_timeout: Duration = 1.0
    fail_fast: Duration = 3.0
    concurrency_limit: ConcurrencyLimited | None = None
    layer: LayerEdits = ()

    @property
    def table(self) -> dict[str, str]:
        """Names of backends by host pattern, as the layer ``Route`` takes them; ``"*"`` is what no route takes."""
        found = {"*": self.to[0].backend} if self.to else {}
        for route in self.route:
            for match in route.match or (Match(),):
                found[match.host.lower()] = route.to[0].backend
        return found
