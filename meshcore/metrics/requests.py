"""What is counted and timed of requests, at one target: linkerd's series, and the service that fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore._native import mypyc_attr
from meshcore._wakeup import clock
from meshcore.http.classification import Verdict
from meshcore.http.classify import error_label, grpc_outcome, is_failure
from meshcore.http.grpc import is_grpc
from meshcore.http.pass_through import Framed, listener_below
from meshcore.metrics.labels import TARGET_LABELS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.body import EndOfStream
    from meshcore.http.classification import Classification
    from meshcore.http.message import Request, Response
    from meshcore.metrics.histogram import Histogram
    from meshcore.metrics.prometheus import Labels
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["Measured", "RequestSeries"]


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestSeries:
    """The cells of one target, those of responses bound when they are first needed."""

    __slots__ = (
        "_extra",
        "_latency",
        "_responses",
        "_values",
        "calls",
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
        self.responses: dict[int | tuple[int, int, str] | Verdict, Counter] = {}
        # By the status of gRPC, of complete answers with 200 to its calls.
        self.calls: dict[int, Counter] = {}

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
            cell = self.responses[key] = self.judged(Verdict(failure, status, grpc_status, error))
        return cell

    def judged(self, verdict: Verdict) -> Counter:
        """The counter of a verdict."""
        cell = self.responses.get(verdict)
        if cell is None:
            cell = self.responses[verdict] = self._responses.labels(
                *self._values,
                str(verdict.status) if verdict.status else "",
                "failure" if verdict.failure else "success",
                str(verdict.grpc_status) if verdict.grpc_status >= 0 else "",
                verdict.error,
                extra=self._extra,
            )
        return cell


class Measured(Framed):
    """A measured service: one frame and one small object a request."""

    __slots__ = ("__layer__", "__wrapped__", "_listener", "_series")

    def __init__(self, inner: HttpService, series: RequestSeries) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._listener = listener_below(inner)
        self._series = series

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request."""
        return self._answer(request)

    async def _answer(self, request: Request) -> Response:
        series = self._series
        series.requests.value += 1
        started = series.now()
        listener = self._listener
        if listener is not None:
            # It needs no frame of its own.  One of a pipeline above this one has its place again afterwards.
            above = request.listener
            request.listener = listener
            method, authority, path, sent = request.method, request.authority, request.path, request.body
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            series.response(0, True, error=error_label(error)).value += 1
            if listener is not None:
                request.listener = above
            raise
        if listener is not None:
            left = request.listener is listener
            request.listener = above
            if left and response.status >= listener.lowest:
                listener.answered(request, response, method, authority, path, sent, started)
        grpc = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
        classification = request.classification
        if classification is None:
            exchange = _Exchange(series, response, started, grpc)
        else:
            exchange = _Judged(series, response, started, grpc, classification)
        body = response.body
        body.observe(exchange.first_data, exchange.ended)
        return response


class _Exchange:
    """What is to be known of a response when its body begins and ends."""

    __slots__ = ("_grpc", "_response", "_series", "_started")

    def __init__(self, series: RequestSeries, response: Response, started: float, grpc: bool) -> None:
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
        cell.buckets.observe((series.now() - self._started) * 1000.0)

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
            known = series.calls.get(grpc_status) if status == 200 else None
            if known is None:
                known = series.response(status, failure or is_failure(status), grpc_status)
                if status == 200:
                    series.calls[grpc_status] = known
            cell = known
        cell.value += 1


class _Judged(_Exchange):
    """The same where a route has said what a failure is (R-20)."""

    __slots__ = ("_classification",)

    def __init__(
        self,
        series: RequestSeries,
        response: Response,
        started: float,
        grpc: bool,
        classification: Classification,
    ) -> None:
        super().__init__(series, response, started, grpc)
        self._classification = classification

    def ended(self, end: EndOfStream) -> None:
        """The class is known here."""
        response = self._response
        verdict = self._classification.verdict(
            response.status, response.headers.raw, end.trailers, end.error, grpc=self._grpc
        )
        self._series.judged(verdict).value += 1
