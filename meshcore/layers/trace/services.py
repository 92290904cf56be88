"""The services that :class:`~meshcore.layers.Trace` makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore._wakeup import clock
from meshcore.http.pass_through import PassThrough
from meshcore.tracing.attributes import answered, broke, of_client, of_endpoint, of_request, span_name
from meshcore.tracing.span import CLIENT, INTERNAL, SERVER, Span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.tracing.propagation import Link
    from meshcore.tracing.span import Attribute
    from meshcore.tracing.tracer import Tracer
    from meshcore.transport.target import Endpoint

__all__ = ["Endpointed", "Served"]


class Served(PassThrough):
    """Decides about each request, and records it as it was accepted."""

    __slots__ = ("__layer__", "__wrapped__", "_direction", "_now", "_tracer")

    def __init__(self, inner: HttpService, tracer: Tracer, direction: str) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._tracer = tracer
        self._direction = direction
        self._now = clock()

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """The exchange, if it is recorded."""
        accepted: Request = request
        link = self._tracer.decide(accepted)
        if link is None:
            return None
        accepted.trace_mark = link
        return self._recorded(accepted, link) if link.sampled else None

    async def _recorded(self, request: Request, link: Link) -> Response:
        tracer = self._tracer
        kind = INTERNAL if request.connection is None else SERVER
        attributes = of_request(request, query=tracer.tracing.query)
        attributes.append(("direction", self._direction))
        span = tracer.span(link, kind, span_name(request.method), self._now(), request)
        span.attributes = attributes
        request.trace_mark = span
        if not span.sampled:
            passed: Response = await self._inner(request)
            return passed
        attributes += of_client(request)
        exchange = _Exchange(tracer, span, request, self._now)
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            exchange.failed(error)
            raise
        exchange.response = response
        response.body.on_end(exchange.ended)
        return response


class _Exchange:
    """What is to be known of a request when it is over."""

    __slots__ = ("_now", "_request", "_span", "_tracer", "response")

    def __init__(self, tracer: Tracer, span: Span, request: Request, now: Callable[[], float]) -> None:
        self._tracer = tracer
        self._span = span
        self._request = request
        self._now = now
        self.response: Response | None = None

    def failed(self, error: BaseException) -> None:
        """There was no response."""
        broke(self._span, error)
        self._over()

    def ended(self, end: EndOfStream) -> None:
        """The last byte has gone."""
        assert self.response is not None
        answered(self._span, self.response, end)
        self._over()

    def _over(self) -> None:
        span, request = self._span, self._request
        if request.route:
            span.name = span_name(request.method, request.route)
            span.attributes.append(("route", request.route))
        if span.backend:
            span.attributes.append(("backend", span.backend))
        self._tracer.end(span, self._now())


class _Try(_Exchange):
    """The same of one try."""

    __slots__ = ("_above",)

    def __init__(
        self, tracer: Tracer, span: Span, request: Request, now: Callable[[], float], above: Span | None
    ) -> None:
        super().__init__(tracer, span, request, now)
        self._above = above

    def _over(self) -> None:
        above = self._above
        if above is not None:
            above.last = self._span.last
            self._span.backend = above.backend
        super()._over()


class Endpointed(PassThrough):
    """Records each try at one endpoint."""

    __slots__ = ("__layer__", "__wrapped__", "_attributes", "_endpoint", "_now", "_tracer")

    def __init__(self, inner: HttpService, tracer: Tracer, direction: str, endpoint: Endpoint | None) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self._tracer = tracer
        self._endpoint = "" if endpoint is None else str(endpoint)
        of_target = [] if endpoint is None else of_endpoint(endpoint)
        self._attributes: list[Attribute] = [("direction", direction), *of_target]
        self._now = clock()

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """The try, if it is recorded."""
        sent: Request = request
        link = sent.trace_mark
        if link is None:
            # Nobody above has decided: a copy of a request (a mirror's), say.
            link = self._tracer.decide(sent)
            if link is None:
                return None
        return self._recorded(sent, link) if link.sampled else None

    async def _recorded(self, request: Request, link: Link) -> Response:
        tracer, now = self._tracer, self._now()
        above = link if isinstance(link, Span) else None
        span = tracer.span(link, CLIENT, span_name(request.method), now, request)
        if not span.sampled:
            passed: Response = await self._inner(request)
            return passed
        span.attributes = of_request(request, query=tracer.tracing.query)
        span.attributes += self._attributes
        if above is not None:
            if above.tries:
                span.attributes.append(("http.request.resend_count", above.tries))
                self._again(above, now)
            above.tries += 1
            above.last = ""
        exchange = _Try(tracer, span, request, self._now, above)
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            exchange.failed(error)
            raise
        exchange.response = response
        response.body.on_end(exchange.ended)
        return response

    def _again(self, above: Span, now: float) -> None:
        """The request is tried once more."""
        attributes: list[Attribute] = [("http.request.resend_count", above.tries)]
        if self._endpoint:
            attributes.append(("endpoint", self._endpoint))
        if above.last:
            # Without, the last try goes on: this one is beside it.
            attributes.append(("reason", above.last))
        above.event(now, "retry" if above.last else "hedge", attributes)
