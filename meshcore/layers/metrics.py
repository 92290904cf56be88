"""Requests counted and timed, by linkerd's names."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore._wakeup import clock
from meshcore.abc import HttpService, NewHttp, link
from meshcore.http.classify import error_label, grpc_outcome, is_failure
from meshcore.http.grpc import is_grpc
from meshcore.metrics.labels import TARGET_LABELS, extra_labels, target_labels
from meshcore.metrics.registry import Counter, Registry

if TYPE_CHECKING:
    import trio

    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.metrics.histogram import Histogram
    from meshcore.metrics.prometheus import Labels

__all__ = ["Metrics"]

T = TypeVar("T")


@attrs.frozen
class Metrics:
    """Counts requests and responses, and times responses up to the first byte of their body.

    ``request_total`` counts at the call; ``response_total{status_code, classification, grpc_status, error}``
    at the end of the body, when it is known whether it was a success; ``response_latency_ms{status_code}``
    is observed when the first chunk of the body is taken.  The labels of the target (``direction``,
    ``target_addr`` …) are bound when the stack is built.  An exchange that ends without a response counts in
    ``response_total`` without a status code.

    Attributes:
        registry: where the series are.
        scope: ``"inbound"`` or ``"outbound"``: the label ``direction``.  ``"endpoint"`` is outbound.  One
            layer for each direction, or the same request is counted twice.
        name: the role, where a stack has more than one.
    """

    registry: Registry = attrs.field(repr=False)
    scope: str = attrs.field(default="outbound", validator=attrs.validators.in_(("inbound", "outbound", "endpoint")))
    name: str = attrs.field(default="metrics", repr=False)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Measures every service that *inner* makes; equal labels share their series."""
        return _NewMeasured(self, inner)


class _NewMeasured(Generic[T]):
    """Makes measured services; the series of one set of labels live as long as a service with them."""

    __slots__ = ("_direction", "_inner", "_layer", "_series")

    def __init__(self, layer: Metrics, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._direction = "inbound" if layer.scope == "inbound" else "outbound"
        self._series: weakref.WeakValueDictionary[tuple[tuple[str, ...], Labels], _Series] = (
            weakref.WeakValueDictionary()
        )

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The measured service for *target*."""
        inner = self._inner.new_service(target, nursery)
        key = (target_labels(self._direction, target), extra_labels(target))
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self._layer.registry, *key)
        return link(_Measured(inner, series), inner, self._layer)


class _Series:
    """The cells of one target, those of responses bound when they are first needed."""

    __slots__ = (
        "__weakref__",
        "_extra",
        "_latency",
        "_responses",
        "_values",
        "latencies",
        "now",
        "requests",
        "responses",
    )

    def __init__(self, registry: Registry, values: tuple[str, ...], extra: Labels) -> None:
        self.now = clock()
        self._values = values
        self._extra = extra
        self.requests = registry.counter("request_total", "Total count of HTTP requests.", *TARGET_LABELS).labels(
            *values, extra=extra
        )
        self._latency = registry.histogram(
            "response_latency_ms",
            "Elapsed times between a request's headers being received and its response's first byte of body.",
            *TARGET_LABELS,
            "status_code",
        )
        self._responses = registry.counter(
            "response_total",
            "Total count of HTTP responses.",
            *TARGET_LABELS,
            "status_code",
            "classification",
            "grpc_status",
            "error",
        )
        # By status; what is rare has a tuple for a key.
        self.latencies: dict[int, Histogram] = {}
        self.responses: dict[int | tuple[int, int, str], Counter] = {}

    def latency(self, status: int) -> Histogram:
        """The histogram of a status."""
        cell = self.latencies.get(status)
        if cell is None:
            cell = self.latencies[status] = self._latency.labels(*self._values, str(status), extra=self._extra)
        return cell

    def response(self, status: int, failure: bool, grpc_status: int = -1, error: str = "") -> Counter:
        """The counter of a kind of end."""
        key = status if grpc_status < 0 and not error else (status, grpc_status, error)
        cell = self.responses.get(key)
        if cell is None:
            cell = self.responses[key] = self._responses.labels(
                *self._values,
                str(status) if status else "",
                "failure" if failure else "success",
                str(grpc_status) if grpc_status >= 0 else "",
                error,
                extra=self._extra,
            )
        return cell


class _Measured:
    """A measured service: one frame and one small object a request."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_inner", "_series")

    def __init__(self, inner: HttpService, series: _Series) -> None:
        self._inner = inner
        self._series = series

    async def __call__(self, request: Request, /) -> Response:
        series = self._series
        series.requests.value += 1
        started = series.now()
        try:
            response = await self._inner(request)
        except BaseException as error:
            series.response(0, True, error=error_label(error)).value += 1
            raise
        grpc = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
        exchange = _Exchange(series, response, started, grpc)
        body = response.body
        body.observe(exchange.first_data, exchange.ended)
        return response


class _Exchange:
    """What is to be known of a response when its body begins and ends."""

    __slots__ = ("_grpc", "_response", "_series", "_started")

    def __init__(self, series: _Series, response: Response, started: float, grpc: bool) -> None:
        self._series = series
        self._response = response
        self._started = started
        self._grpc = grpc

    def first_data(self) -> None:
        """The latency ends here."""
        status = self._response.status
        series = self._series
        cell = series.latencies.get(status)
        if cell is None:
            cell = series.latency(status)
        cell.observe((series.now() - self._started) * 1000.0)

    def ended(self, end: EndOfStream) -> None:
        """The class is known here."""
        status = self._response.status
        series = self._series
        if end.error is None and not self._grpc:
            cell = series.responses.get(status)
            if cell is None:
                cell = series.response(status, is_failure(status))
        elif end.error is not None:
            label = error_label(end.error)
            # A client that leaves early is no failure of what it left (as an early drop is none for linkerd).
            cell = series.response(status, label != "cancelled" or is_failure(status), error=label)
        else:
            grpc_status, failure = grpc_outcome(self._response.headers.raw, end.trailers)
            cell = series.response(status, failure or is_failure(status), grpc_status)
        cell.value += 1
