"""The admin server's own pipeline: small, apart from the others, and measured like them (M-20, X-45)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.layers.metrics import Metrics
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.server.http import ServeHttp
from meshcore.server.options import ServerOptions
from meshcore.stack import accept
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    import trio

    from meshcore.abc import HttpService, NewAccept
    from meshcore.metrics.registry import Registry

__all__ = ["OPTIONS", "pipeline"]

OPTIONS = ServerOptions(idle_timeout=300.0, write_timeout=10.0)
"""Who asks for something and does not take it is not waited for as long as an application's clients are."""


def pipeline(service: HttpService, registry: Registry) -> NewAccept[Accepted]:
    """From a connection to the admin server to *service*; what it does is counted as ``listener="admin"``, for that is
    the listener's name."""
    return (
        accept(Accepted)
        # Every byte, so: above what makes requests of them.
        .then(TcpMetrics(registry, "inbound", name="admin_tcp_metrics"))
        .then(ServeHttp(OPTIONS))
        # All that is asked, what is refused too, so: above the service.
        .then(Metrics(registry, "inbound", name="admin_metrics"))
        .layer(_Single(service))
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
