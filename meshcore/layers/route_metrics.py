"""Requests counted by their route, and by the backends of it, by linkerd's names."""

from __future__ import annotations

from functools import partial
from typing import Literal

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.metrics.registry import Registry
from meshcore.metrics.route_requests import MeasuredRoute, RouteSeries
from meshcore.metrics.route_views import route_views
from meshcore.transport.target import Backend, BackendRef, HttpRoute

__all__ = ["RouteMetrics"]


@attrs.frozen
class RouteMetrics(ServiceLayer):
    """Counts requests and how they end, and how long that took, with the names of their route and backend.

    As *scope* ``"route"``, above ``Retry``, it counts what clients see
    (``outbound_http_route_request_statuses_total`` …); as ``"backend"``, below ``Split``, each try at each backend
    (``outbound_http_route_backend_requests_total`` …); as ``"inbound"`` what comes in for the application
    (``inbound_http_requests_total`` …).  gRPC calls count in families of their own (``…_grpc_…``).  What has no
    routes has one, ``default``.

    Attributes:
        registry: where the series are.
        scope: ``"route"``, ``"backend"`` or ``"inbound"``.
        name: the role, where a stack has more than one.
    """

    registry: Registry = attrs.field(repr=False)
    scope: Literal["route", "backend", "inbound"] = attrs.field(
        default="route", validator=attrs.validators.in_(("route", "backend", "inbound"))
    )
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def wrap(self, inner: HttpService, target: HttpRoute | BackendRef | Backend, /) -> HttpService:
        """The measured service."""
        if isinstance(target, Backend):
            values: tuple[str, ...] = (target.name, "default")
        elif isinstance(target, BackendRef):
            values = (target.parent, target.route, target.backend.name)
        else:
            values = (target.parent, target.name)
        return MeasuredRoute(inner, partial(self._series, values))

    def _series(self, values: tuple[str, ...], kind: str) -> RouteSeries:
        self.registry.shared(route_views, partial(route_views, self.registry))
        return RouteSeries(self.registry, self.scope, kind, values)
