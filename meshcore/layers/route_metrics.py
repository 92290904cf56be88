"""Requests counted by their route, and by the backends of it, by linkerd's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from meshcore._wakeup import clock
from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.classify import error_label, grpc_outcome
from meshcore.http.grpc import is_grpc
from meshcore.metrics.registry import Counter, Registry
from meshcore.transport.target import BackendRef, HttpRoute

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response

__all__ = ["RouteMetrics"]

_ROUTE = (0.05, 0.5, 1.0, 10.0)
_BACKEND = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0)
# Names after `outbound_http_` and the like: of requests ("" for none), of statuses, of durations; and their buckets.
_FAMILIES = {
    "route": ("", "route_request_statuses_total", "route_request_duration_seconds", _ROUTE),
    "backend": (
        "route_backend_requests_total",
        "route_backend_response_statuses_total",
        "route_backend_response_duration_seconds",
        _BACKEND,
    ),
    "inbound": ("requests_total", "statuses_total", "request_duration_seconds", _BACKEND),
}


@attrs.frozen
class RouteMetrics(ServiceLayer):
    """Counts requests and how they end, and how long that took, with the names of their route and backend.

    As *scope* ``"route"``, above ``Retry``, it counts what clients see
    (``outbound_http_route_request_statuses_total`` …); as ``"backend"``, below ``Split``, each try at each backend
    (``outbound_http_route_backend_requests_total`` …); as ``"inbound"`` what comes in for the application
    (``inbound_http_requests_total`` …).  gRPC calls count in families of their own (``…_grpc_…``).

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

    def wrap(self, inner: HttpService, target: HttpRoute | BackendRef, /) -> HttpService:
        """The measured service: one frame and one small object a request."""
        # Most routes see one kind of requests: the other one's series are not made before they are needed.
        known: dict[bool, _Series] = {}
        now = clock()

        async def route_metrics(request: Request) -> Response:
            is_call = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
            series = known.get(is_call)
            if series is None:
                series = known[is_call] = _Series(self, target, "grpc" if is_call else "http")
            series.requests.value += 1
            started = now()
            try:
                response = await inner(request)
            except BaseException as error:
                series.ended("", error_label(error), now() - started)
                raise
            response.body.on_end(_Exchange(series, response, now, started, is_call).ended)
            return response

        return route_metrics


class _Series:
    """The cells of one target and one kind of requests, bound when they are first needed."""

    __slots__ = ("_cells", "_duration", "_statuses", "_values", "requests")

    def __init__(self, layer: RouteMetrics, target: HttpRoute | BackendRef, kind: str) -> None:
        requests, statuses, durations, buckets = _FAMILIES[layer.scope]
        prefix = f"{'inbound' if layer.scope == 'inbound' else 'outbound'}_{kind}_"
        if isinstance(target, BackendRef):
            labels: tuple[str, ...] = ("parent_name", "route_name", "backend_name")
            values: tuple[str, ...] = (target.parent, target.route, target.backend.name)
        else:
            labels, values = ("parent_name", "route_name"), (target.parent, target.name)
        registry = layer.registry
        self._values = values
        self.requests = Counter()
        if requests:
            family = registry.counter(prefix + requests, "Requests, by their route.", *labels)
            self.requests = family.labels(*values)
        status = "grpc_status" if kind == "grpc" else "http_status"
        self._statuses = registry.counter(
            prefix + statuses, "Requests that have ended, by their route and status.", *labels, status, "error"
        )
        duration = registry.histogram(
            prefix + durations, "Seconds from a request to the end of its answer.", *labels, buckets=buckets
        )
        self._duration = duration.labels(*values)
        self._cells: dict[tuple[str, str], Counter] = {}

    def ended(self, status: str, error: str, seconds: float) -> None:
        """A request has ended."""
        key = (status, error)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._statuses.labels(*self._values, *key)
        cell.value += 1
        self._duration.observe(seconds)


class _Exchange:
    """What is to be known of a response when it ends."""

    __slots__ = ("_call", "_now", "_response", "_series", "_started")

    def __init__(
        self, series: _Series, response: Response, now: Callable[[], float], started: float, call: bool
    ) -> None:
        self._series = series
        self._response = response
        self._now = now
        self._started = started
        self._call = call

    def ended(self, end: EndOfStream) -> None:
        """The status is known here."""
        response = self._response
        error = "" if end.error is None else error_label(end.error)
        if not self._call:
            status = _TEXTS[response.status]
        else:
            status = str(grpc_outcome(response.headers.raw, end.trailers)[0]) if not error else ""
        self._series.ended(status, error, self._now() - self._started)


_TEXTS = [str(status) for status in range(600)]
"""Made once: a request would make them anew."""
