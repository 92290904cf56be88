"""The whole of a config file: a sidecar, a gateway, or both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import attrs

from meshcore.client.options import ClientOptions
from meshcore.config.access_log import AccessLogConfig
from meshcore.config.admin import AdminConfig
from meshcore.config.gateway import Gateway
from meshcore.config.kinds import Choice, Duration, LogFilterKind, Name, NameKind, Seconds
from meshcore.config.metrics import MetricsConfig
from meshcore.config.places import AwaitedFile, DnsServer, Folder, Peer
from meshcore.config.sidecar import Inbound, Outbound
from meshcore.config.tables import Table, Tables
from meshcore.config.tracing import TracingConfig
from meshcore.config.upstream import BackendConfig
from meshcore.config.words import AccessLog, Engine
from meshcore.server.options import ServerOptions

__all__ = ["IdentityConfig", "Limits", "MeshConfig", "Service"]

LogLevel: TypeAlias = Annotated[str, LogFilterKind()]
LogFormat: TypeAlias = Literal["text", "json"]


@attrs.frozen(kw_only=True)
class Service:
    """``[service]``: which workload this proxy stands beside.

    Attributes:
        name: its name.
        namespace: where the name is unique.
        zone: where this proxy runs, for ``zone_aware`` destinations; absent: unknown.
    """

    name: Name
    namespace: Name = "default"
    zone: Name | None = None


@attrs.frozen(kw_only=True)
class IdentityConfig:
    """``[identity]``: who this proxy is, and whom it trusts.  Without the table there is no mutual TLS.

    Attributes:
        mode: where certificates come from: ``files`` that somebody renews, or ``dev``: an own authority in a folder,
            made on first use, for one machine alone.
        trust_domain: the domain of the ``spiffe://`` names of this mesh.
        cert: PEM file: the leaf, then its chain; waited for and watched, as the two that follow (``files``).
        key: PEM file: its private key.
        trust_anchors: PEM file: the authorities that vouch for peers.
        directory: where the authority is kept (``dev``); absent: ``meshcore/dev`` in the user's state folder.
        name: the own name, which the certificate must have; absent: any (``files``), or ``SERVICE.NAMESPACE``
            from ``[service]`` (``dev``).
        server_name: what peers ask for by SNI where the certificate has no DNS name; absent: ``SERVICE.NAMESPACE``
            from ``[service]``.
    """

    mode: Annotated[Literal["files", "dev"], Choice(("files", "dev"), later=("linkerd", "spiffe"))] = "files"
    trust_domain: Name | None = None
    cert: AwaitedFile | None = None
    key: AwaitedFile | None = None
    trust_anchors: AwaitedFile | None = None
    directory: Folder | None = None
    name: Peer | None = None
    server_name: Peer | None = None

    @property
    def folder(self) -> Path:
        """The folder of the development authority."""
        if self.directory is not None:
            return self.directory
        state = os.environ.get("XDG_STATE_HOME", "")
        return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "meshcore" / "dev"


@attrs.frozen(kw_only=True)
class Limits:
    """``[proxy]``: what holds for the whole process.

    Attributes:
        grace_period: how long what is in flight may take after the drain began (L-04).
        max_connection_age: connections are drained once they are so old, so that peers see new certificates;
            absent: never (D-38).
        engine: ``auto`` takes the fastest codecs installed, ``pure`` those in Python.
        access_log: a line for each request on standard output; ``[access_log]`` can say more.
        log_level: what is logged on standard error: ``trace``, ``debug``, ``info``, ``warn``, ``error`` or ``off``; by
            logger, ``info,meshcore.layers.balance=debug``.
        layer_accounting: what each layer does is counted and timed, for ``/stack`` and metrics.
        log_format: and in which form.
        dns_servers: whom ``discover = "dns:…"`` asks; none: the servers that ``/etc/resolv.conf`` names.
    """

    LATER: ClassVar[dict[str, str]] = {"workers": "one process runs one"}

    grace_period: Annotated[float, Seconds(zero=True)] = 120.0
    max_connection_age: Duration | None = None
    engine: Engine = "auto"
    access_log: AccessLog = "off"
    layer_accounting: bool = True
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    dns_servers: tuple[DnsServer, ...] = ()

    def server_options(self) -> ServerOptions:
        """For what is accepted."""
        return ServerOptions(engine=self.engine, max_age=self.max_connection_age)

    def client_options(self) -> ClientOptions:
        """For what is connected."""
        return ClientOptions(engine=self.engine, max_age=self.max_connection_age)


@attrs.frozen(kw_only=True)
class MeshConfig:
    """A config file: a sidecar (``[inbound]``, ``[outbound]``), a gateway (``[listen.…]``), or both.

    Attributes:
        service: which workload this proxy stands beside.
        identity: who this proxy is, and whom it trusts; absent: plain TCP, and a loud warning.
        inbound: the side that others call.
        outbound: the side that the application calls.
        listen: listeners of a gateway by name.
        backend: sets of endpoints by name, for the gateway.
        tracing: which requests are recorded, and where their spans go; absent: traces pass as they are.
        admin: probes, metrics, and questions about the proxy itself.
        metrics: what is counted, and how much of it is kept.
        access_log: which requests are told of, how, and where; absent: ``[proxy] access_log`` says it.
        proxy: what holds for the whole process.
    """

    service: Service | None = None
    identity: IdentityConfig | None = None
    inbound: Inbound | None = None
    outbound: Outbound | None = None
    listen: Annotated[dict[str, Gateway], Tables(Table(Gateway), NameKind.check)] = attrs.Factory(dict)
    backend: Annotated[dict[str, BackendConfig], Tables(Table(BackendConfig), NameKind.check)] = attrs.Factory(dict)
    tracing: TracingConfig | None = None
    admin: AdminConfig = attrs.Factory(AdminConfig)
    metrics: MetricsConfig = attrs.Factory(MetricsConfig)
    access_log: AccessLogConfig | None = None
    proxy: Limits = attrs.Factory(Limits)

    @property
    def lines(self) -> AccessLogConfig | None:
        """What is written of requests; None: nothing."""
        return AccessLogConfig.short(self.proxy.access_log) if self.access_log is None else self.access_log

    @property
    def own_name(self) -> str:
        """The name that the own certificate must have; ``""`` for any."""
        if self.identity is None:
            return ""
        if self.identity.name is not None:
            return self.identity.name
        if self.identity.mode == "dev" and self.service is not None:
            return f"{self.service.name}.{self.service.namespace}"
        return ""
