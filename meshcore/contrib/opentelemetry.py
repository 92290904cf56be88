"""OpenTelemetry of a host application: its context is continued, and its provider may take the spans.

Needs the extra ``otel``; for spans that are recorded, an SDK that the application has set up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from meshcore.tracing.propagation import RANDOM, Joint, Link
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.span import CLIENT, ERROR, INTERNAL, SERVER
from meshcore.tracing.tracer import Tracer

if TYPE_CHECKING:
    from meshcore.http.message import Request
    from meshcore.tracing.span import Span

__all__ = ["HostRecorder", "context_of", "current_link", "host_tracer"]

_KINDS: Final = {INTERNAL: SpanKind.INTERNAL, SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT}


def host_tracer(
    provider: trace.TracerProvider | None = None, *, record: bool = True, tracing: Tracing | None = None
) -> Tracer:
    """What :func:`meshcore.serve_config` takes as ``tracer`` in a program that uses OpenTelemetry.

    Requests that are made in the program (``mesh.client(…)``) stand below its current span, unless their fields say
    otherwise.

    Args:
        provider: takes the spans; None: the program's own, as :func:`opentelemetry.trace.get_tracer_provider` has it.
        record: False: spans go to the collector of ``[tracing]`` instead, and only the context is the program's.
        tracing: which requests are recorded, where the configuration does not say so; by default those that belong to a
            trace which is recorded, and of the others those that the provider's sampler wants.
    """
    if not record:
        return Tracer(None, tracing, current=current_link)
    settings = Tracing(sample=1.0) if tracing is None else tracing
    return Tracer(HostRecorder(provider), settings, always=True, current=current_link)


def current_link() -> Link | None:
    """Where the running code stands in the program's traces; None: in none."""
    span = trace.get_current_span()
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return Joint(
        trace.format_trace_id(context.trace_id).encode(),
        trace.format_span_id(context.span_id).encode(),
        context.trace_flags.sampled,
        RANDOM if context.trace_flags & 2 else 0,
        own=not context.is_remote,
        state=context.trace_state.to_header(),
        token=span,
    )


def context_of(request: Request) -> Context:
    """The context in which a request stands, for spans that the program begins while it answers it: ``with
    tracer.start_as_current_span("work", context=context_of(request)): …``."""
    link = request.trace
    return Context() if link is None else trace.set_span_in_context(_span_of(link), Context())


def _span_of(link: Link) -> trace.Span:
    token = getattr(link, "token", None)
    if token is not None:
        return token  # type: ignore[no-any-return]
    return NonRecordingSpan(
        SpanContext(
            int(link.trace, 16),
            int(link.span, 16),
            is_remote=not link.own,
            trace_flags=TraceFlags(TraceFlags.SAMPLED if link.sampled else TraceFlags.DEFAULT),
            trace_state=TraceState.from_header([link.state] if link.state else []),
        )
    )


class HostRecorder:
    """Gives spans to a program's provider, whose ids, sampler and clock they have (see
    :class:`~meshcore.tracing.span.Recorder`)."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        """*provider*: None: the program's own, when it is first needed, so that it may be set up later."""
        self._provider = provider
        self._tracer: trace.Tracer | None = None

    def __repr__(self) -> str:
        return f"HostRecorder({self._provider!r})"

    def began(self, span: Span, above: Link, /) -> None:
        """Begins the program's own span, and takes its ids."""
        tracer = self._tracer
        if tracer is None:
            tracer = self._tracer = trace.get_tracer("meshcore", tracer_provider=self._provider)
        context = trace.set_span_in_context(_span_of(above), Context()) if above.span else Context()
        made = tracer.start_span(span.name, context=context, kind=_KINDS[span.kind])
        found = made.get_span_context()
        if not found.is_valid:
            # There is no SDK: nobody records anything.
            span.sampled = False
            return
        span.trace = trace.format_trace_id(found.trace_id).encode()
        span.span = trace.format_span_id(found.span_id).encode()
        span.sampled = found.trace_flags.sampled
        span.state = found.trace_state.to_header()
        span.token = made

    def ended(self, span: Span, /) -> None:
        """Tells the program's span what there is to tell, and ends it."""
        made = span.token
        if made is None or not made.is_recording():
            return
        made.update_name(span.name)
        made.set_attributes(dict(span.attributes))
        began: int | None = getattr(made, "start_time", None)
        for event in span.events or ():
            at = None if began is None else began + round((event.time - span.started) * 1e9)
            made.add_event(event.name, dict(event.attributes), at)
        if span.status == ERROR:
            made.set_status(StatusCode.ERROR, span.message or None)
        made.end()
