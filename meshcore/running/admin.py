"""The admin server of a running proxy: where it listens, what its pages ask, and how it is served."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.addresses import format_address
from meshcore.admin import Admin
from meshcore.admin.access import Access
from meshcore.admin.crowd import Crowd
from meshcore.admin.dashboard import dashboard_pages
from meshcore.admin.environment import Environment
from meshcore.admin.log_level import LogLevel
from meshcore.admin.log_stream import LogStream
from meshcore.admin.tap import TapPage
from meshcore.config import AdminConfig, MeshConfig
from meshcore.layers.metrics import Metrics
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.log_lines import JsonFormatter
from meshcore.metrics.exposition import Exposition
from meshcore.running.pages import live_pages
from meshcore.running.viewers import events_of, viewer_pages
from meshcore.server.http import ServeHttp
from meshcore.server.offer_tls import OfferTls
from meshcore.server.options import ServerOptions
from meshcore.server.read_transport_header import ReadTransportHeader
from meshcore.server.serve import Server, serve
from meshcore.stack import Stack, accept
from meshcore.transport.target import Accepted, Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.abc import HttpService, NewAccept, NewHttp
    from meshcore.config import ProxyConfig
    from meshcore.proxy import Proxy
    from meshcore.transport.drain import Drain

__all__ = ["admin_address", "admin_service", "prepare_admin", "serve_admin"]

_GRACE = 1.0
"""Seconds that requests to the admin server may take once the proxy itself has drained."""

_MOST = 256
"""Connections that the admin server accepts at a time, those that are about to be closed included."""

_PUBLIC = tuple(path.decode() for path in dashboard_pages())
"""Pages that say nothing of the proxy, and so need no token: what a browser shows its user before there is one."""

_OPTIONS = ServerOptions(
    header_timeout=10.0,
    idle_timeout=300.0,
    # A client that does not read what it has asked for.
    write_timeout=10.0,
    allow_connect=False,
    allow_upgrade=False,
)


def admin_address(config: ProxyConfig | MeshConfig) -> list[tuple[str, Address]]:
    """The option or key that says where the admin server listens, and the address; nothing without one."""
    option = "admin.listen" if isinstance(config, MeshConfig) else "--admin"
    address = _settings(config).listen
    return [] if address is None else [(option, address)]


def _settings(config: ProxyConfig | MeshConfig) -> AdminConfig:
    return config.admin if isinstance(config, MeshConfig) else config.admin_config


def admin_service(proxy: Proxy) -> Admin:
    """What answers the questions about *proxy*."""

    def ready() -> list[str] | str | None:
        if proxy.identity is not None and not proxy.identity.certified:
            refused = proxy.identity.refused
            return f"waiting for the identity{f': {refused}' if refused else ''}"
        if not proxy.serving:
            return None
        return [format_address(address) for address in proxy.addresses]

    def settings() -> AdminConfig:
        # Where it listens stays as it was, whatever a reload says.
        return attrs.evolve(_settings(proxy.config), listen=listening)

    listening = _settings(proxy.config).listen
    return Admin(
        proxy.drain,
        metrics=Exposition(proxy.registry),
        ready=ready,
        config=lambda: proxy.config,
        stacks=lambda: proxy.stacks,
        live=proxy.statistics,
        accounts=proxy.accounts,
        shutdown=lambda: settings().shutdown,
        reloader=lambda: proxy.reloader,
        pages=_pages(proxy),
        access=Access(settings, public=_PUBLIC),
    )


def _pages(proxy: Proxy) -> dict[bytes, HttpService]:
    pages: dict[bytes, HttpService] = {
        b"/tap": TapPage(lambda: proxy.taps),
        b"/env.json": Environment(os.environ),
        **live_pages(proxy),
        **({} if proxy.events is None else viewer_pages(proxy.events)),
    }
    if proxy.levels is not None:
        pages[b"/proxy-log-level"] = LogLevel(proxy.levels)
        proxy.log_stream = pages[b"/logs.json"] = LogStream(proxy.levels, JsonFormatter(), proxy.registry)
    return pages


def prepare_admin(proxy: Proxy) -> NewAccept[Accepted]:
    """What serves connections to the admin server of *proxy*; nothing is bound or started.

    Raises:
        ConfigError: its certificate or key cannot be used.
    """
    proxy.events = events_of(proxy)
    top: Stack[NewAccept[Accepted], NewAccept[Accepted]] = accept(Accepted)
    offered = _offered(proxy)
    if offered is not None:
        # Probes come in plaintext, others show who they are: both are requests below it (M-20).
        top = top.then(offered).then(ReadTransportHeader())
    served: Stack[NewHttp[Accepted], NewAccept[Accepted]] = (
        # Under labels of their own: probes and scrapes are no traffic of the workload.
        top.then(TcpMetrics(proxy.registry, "admin", name="admin_tcp_metrics"))
        .then(ServeHttp(_OPTIONS))
        .then(Metrics(proxy.registry, "admin", name="admin_metrics"))
    )
    # Whoever is one too many costs nothing, so: around everything.
    crowd = Crowd()
    return crowd.guarding(served.layer(_Single(crowd.answering(admin_service(proxy)))))


def _offered(proxy: Proxy) -> OfferTls | None:
    tls = _settings(proxy.config).tls
    if tls is None:
        return None if proxy.identity is None else OfferTls(proxy.identity)
    # OpenSSL takes 9 MiB, which is for those to pay who use it.
    from meshcore.transport.server_tls import ServerTls

    shown = ServerTls(tls.cert, tls.key)
    if tls.client_ca is not None:
        shown = attrs.evolve(shown, client_certificates="optional", trust_anchors=tls.client_ca)
    return OfferTls(tls=shown)


async def serve_admin(
    proxy: Proxy,
    served: NewAccept[Accepted],
    listeners: Sequence[trio.abc.Listener[Any]],
    instruments: trio.Nursery,
    drain: Drain,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the admin pages of *proxy* until *drain* starts: not the proxy's own, which it is to outlive (L-05).

    Args:
        proxy: whose pages.
        served: what :func:`prepare_admin` has made.
        listeners: where it accepts.
        instruments: where what outlives a connection is started.
        drain: ends it.
        task_status: started with the server, once it accepts.
    """
    # Streams end in order, before they would be cut.
    drain.on_start(proxy.taps.close)
    if proxy.log_stream is not None:
        drain.on_start(proxy.log_stream.end)
    if proxy.events is not None:
        drain.on_start(proxy.events.end)
        instruments.start_soon(proxy.events.run, name="events")
    start = partial(serve, served, listeners, upstreams=instruments, drain=drain, grace=_GRACE, name="admin")
    await start(max_connections=_MOST, task_status=task_status)


class _Single:
    """The same service for every target."""

    __slots__ = ("_service",)

    def __init__(self, service: HttpService) -> None:
        self._service = service

    def __repr__(self) -> str:
        return repr(self._service)

    def new_service(self, target: object, nursery: trio.Nursery, /) -> HttpService:
        """The service."""
        return self._service
