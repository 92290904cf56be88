"""What is counted and timed of a route's requests: linkerd's series, and the service that fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore._wakeup import clock
from meshcore.http.classify import grpc_outcome, status_error
from meshcore.http.grpc import is_grpc
from meshcore.http.pass_through import Framed
from meshcore.metrics.histogram import LATENCY_MS
from meshcore.metrics.registry import Counter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.http.body import EndOfStream
    from meshcore.http.classification import Classification
    from meshcore.http.message import Request, Response
    from meshcore.metrics.registry import Registry

__all__ = ["DURATIONS", "MeasuredRoute", "RouteSeries"]

_ROUTE = (0.05, 0.5, 1.0, 10.0)
_BACKEND = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0)
DURATIONS = tuple(sorted({*(bound / 1000.0 for bound in LATENCY_MS), *_BACKEND}))
"""What is counted by: shown are fewer, as linkerd does, and views show others."""
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
_LABELS = ("parent_name", "route_name", "backend_name")


class RouteSeries:
    """The cells of one route, or backend of it, for one kind of requests, bound when they are first needed."""

    __slots__ = ("_statuses", "_values", "duration", "requests", "statuses")

    def __init__(self, registry: Registry, scope: str, kind: str, values: tuple[str, ...]) -> None:
        requests, statuses, durations, buckets = _FAMILIES[scope]
        prefix = f"{'inbound' if scope == 'inbound' else 'outbound'}_{kind}_"
        labels = _LABELS[: len(values)]
        self._values = values
        self.requests = Counter()
        if requests:
            self.requests = registry.counter(prefix + requests, "Requests, by their route.", *labels).labels(*values)
        self._statuses = registry.counter(
            prefix + statuses,
            "Requests that have ended, by their route and status.",
            *labels,
            "grpc_status" if kind == "grpc" else "http_status",
            "error",
        )
        duration = registry.histogram(
            prefix + durations,
            "Seconds from a request to the end of its answer.",
            *labels,
            buckets=DURATIONS,
            shown=buckets,
        )
        self.duration = duration.labels(*values)
        # By status; what is rare has a tuple for a key.
        self.statuses: dict[int | tuple[int, str, str], Counter] = {}

    def status(self, status: int, error: str = "", judged: str = "") -> Counter:
        """The counter of a kind of end; a status of -1 is none.  *judged* is the class, where the status alone does not
        say it."""
        key = (status, error, judged) if error or judged else status
        cell = self.statuses.get(key)
        if cell is None:
            extra = (("classification", judged),) if judged else ()
            cell = self._statuses.labels(*self._values, "" if status < 0 else str(status), error, extra=extra)
            self.statuses[key] = cell
        return cell


class MeasuredRoute(Framed):
    """A measured service: one frame and one small object a request."""

    __slots__ = ("__layer__", "__wrapped__", "_grpc", "_http", "_make", "_now")

    def __init__(self, inner: HttpService, make: Callable[[str], RouteSeries]) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._make = make
        # Most routes see one kind of requests: the other one's series are not made before they are needed.
        self._http: RouteSeries | None = None
        self._grpc: RouteSeries | None = None
        self._now = clock()

    def _series(self, grpc: bool) -> RouteSeries:
        series = self._make("grpc" if grpc else "http")
        if grpc:
            self._grpc = series
        else:
            self._http = series
        return series

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        grpc = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
        series = self._grpc if grpc else self._http
        if series is None:
            series = self._series(grpc)
        series.requests.value += 1
        started = self._now()
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            series.status(-1, status_error(error)).value += 1
            series.duration.observe(self._now() - started)
            raise
        classification = request.classification
        if classification is None:
            exchange = _Exchange(series, response, self._now, started, grpc)
        else:
            exchange = _Judged(series, response, self._now, started, grpc, classification)
        response.body.on_end(exchange.ended)
        return response


class _Exchange:
    """What is to be known of a response when it ends."""

    __slots__ = ("_grpc", "_now", "_response", "_series", "_started")

    def __init__(
        self, series: RouteSeries, response: Response, now: Callable[[], float], started: float, grpc: bool
    ) -> None:
        self._series = series
        self._response = response
        self._now = now
        self._started = started
        self._grpc = grpc

    def ended(self, end: EndOfStream) -> None:
        """The status is known here."""
        series = self._series
        response = self._response
        if end.error is None and not self._grpc:
            cell = series.statuses.get(response.status)
            if cell is None:
                cell = series.status(response.status)
        elif end.error is not None:
            cell = series.status(-1 if self._grpc else response.status, status_error(end.error))
        else:
            cell = series.status(grpc_outcome(response.headers.raw, end.trailers)[0])
        cell.value += 1
        series.duration.buckets.observe(self._now() - self._started)


class _Judged(_Exchange):
    """The same where it has been said what a failure is (R-20)."""

    __slots__ = ("_classification",)

    def __init__(
        self,
        series: RouteSeries,
        response: Response,
        now: Callable[[], float],
        started: float,
        grpc: bool,
        classification: Classification,
    ) -> None:
        super().__init__(series, response, now, started, grpc)
        self._classification = classification

    def ended(self, end: EndOfStream) -> None:
        """The status and the class are known here."""
        series = self._series
        response = self._response
        verdict = self._classification.verdict(
            response.status, response.headers.raw, end.trailers, end.error, grpc=self._grpc
        )
        status = verdict.grpc_status if self._grpc else verdict.status
        error = "" if end.error is None else status_error(end.error)
        series.status(status, error, "failure" if verdict.failure else "success").value += 1
        series.duration.buckets.observe(self._now() - self._started)
