"""The admin server of a running proxy: where it listens, what its pages ask, and how it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from meshcore.addresses import format_address
from meshcore.admin import Admin
from meshcore.config import MeshConfig
from meshcore.running.viewers import events_of, viewer_pages
from meshcore.server.http import ServeHttp
from meshcore.server.serve import Server, serve
from meshcore.stack import accept
from meshcore.transport.target import Accepted, Address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshcore.abc import HttpService
    from meshcore.config import ProxyConfig
    from meshcore.proxy import Proxy
    from meshcore.transport.drain import Drain

__all__ = ["admin_address", "admin_service", "serve_admin"]

_GRACE = 1.0
"""Seconds that requests to the admin server may take once the proxy itself has drained."""


def admin_address(config: ProxyConfig | MeshConfig) -> list[tuple[str, Address]]:
    """The option or key that says where the admin server listens, and the address; nothing without one."""
    if isinstance(config, MeshConfig):
        option, address = "admin.listen", config.admin.listen
    else:
        option, address = "--admin", config.admin
    return [] if address is None else [(option, address)]


def admin_service(proxy: Proxy, pages: Mapping[bytes, HttpService] | None = None) -> Admin:
    """What answers the questions about *proxy*, on *pages* beside its own."""

    def ready() -> list[str] | str | None:
        if proxy.identity is not None and not proxy.identity.certified:
            refused = proxy.identity.refused
            return f"waiting for the identity{f': {refused}' if refused else ''}"
        if not proxy.serving:
            return None
        return [format_address(address) for address in proxy.addresses]

    return Admin(
        proxy.drain,
        metrics=lambda openmetrics: proxy.registry.render(openmetrics, now=trio.current_time()),
        ready=ready,
        config=lambda: proxy.config,
        stacks=lambda: proxy.stacks,
        live=proxy.statistics,
        shutdown=lambda: (
            proxy.config.admin.shutdown if isinstance(proxy.config, MeshConfig) else proxy.config.admin_shutdown
        ),
        reloader=lambda: proxy.reloader,
        pages=pages,
    )


async def serve_admin(
    proxy: Proxy,
    listeners: Sequence[trio.abc.Listener[Any]],
    instruments: trio.Nursery,
    drain: Drain,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the admin pages of *proxy* until *drain* starts: not the proxy's own, which it is to outlive (L-05).

    Args:
        proxy: whose pages.
        listeners: where it accepts.
        instruments: where what outlives a connection is started.
        drain: ends it.
        task_status: started with the server, once it accepts.
    """
    events = events_of(proxy)
    # Viewers would stay for ever, so they are sent away at once.
    drain.on_start(events.end)
    instruments.start_soon(events.run, name="events")
    served = accept(Accepted).then(ServeHttp()).layer(_Single(admin_service(proxy, viewer_pages(events))))
    await serve(
        served, listeners, upstreams=instruments, drain=drain, grace=_GRACE, name="admin", task_status=task_status
    )


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
