"""A host application's OpenTelemetry: its context continued, its provider given the spans."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio
import trio.testing

from meshcore import Proxy
from meshcore.config import parse_config
from meshcore.http.body import read_all
from meshcore.proxy import run
from meshcore.testing import MemoryMesh, MockService, mock_service, request
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.tracer import Tracer
from tests.tracing.collector import Collector

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: E402

from meshcore.contrib.opentelemetry import context_of, current_link, host_tracer  # noqa: E402

CONFIG = """
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."orders:80"]
endpoints = ["orders:8000"]
retry = { limit = 2, on = ["5xx"] }
[admin]
listen = "off"
"""
RECORDED = (b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")
TRACING = '[tracing]\ncollector = "http://collector:4318"\ninterval = "1s"\n'


class Host:
    """A program with a provider of its own."""

    def __init__(self, sampler: object = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("host")

    @property
    def spans(self) -> dict[str, list[object]]:
        found: dict[str, list[object]] = {}
        for span in self.exporter.get_finished_spans():
            found.setdefault(span.kind.name.lower(), []).append(span)
        return found


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.provider.shutdown()


async def started(
    nursery: trio.Nursery, tracer: Tracer, application: MockService, config: str = CONFIG
) -> tuple[MemoryMesh, Proxy]:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("orders", 8000), application)
    options = {"connect": mesh.network.connect, "listen": mesh.network.open_listeners, "tracer": tracer}
    proxy: Proxy = await nursery.start(partial(run, parse_config(config), **options))  # type: ignore[arg-type]
    return mesh, proxy


async def ask(proxy: Proxy, *fields: tuple[bytes, bytes]) -> None:
    answer = await proxy.client("orders:80")(request(authority=b"orders:80", headers=fields))
    await read_all(answer.body)


async def test_a_request_of_the_program_stands_below_its_current_span_and_its_provider_gets_the_spans(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, host: Host
) -> None:
    application = mock_service(503, 200)
    _, proxy = await started(nursery, host_tracer(host.provider), application)
    with host.tracer.start_as_current_span("order a coffee") as own:
        await ask(proxy)
    internal, mine = host.spans["internal"]
    first, second = host.spans["client"]
    assert "order a coffee" == mine.name  # type: ignore[attr-defined]
    assert own.get_span_context().span_id == internal.parent.span_id  # type: ignore[attr-defined]
    ids = {span.context.trace_id for each in host.spans.values() for span in each}  # type: ignore[attr-defined]
    assert {own.get_span_context().trace_id} == ids
    for each in (first, second):
        assert internal.context.span_id == each.parent.span_id  # type: ignore[attr-defined]
    last = application.requests[-1].headers.get(b"traceparent")
    # The SDK says that its ids are random, and so do we.
    assert last == b"00-%032x-%016x-03" % (second.context.trace_id, second.context.span_id)  # type: ignore[attr-defined]
    assert ("GET", "orders:80", 200) == (
        internal.name,  # type: ignore[attr-defined]
        internal.attributes["backend"],  # type: ignore[attr-defined]
        internal.attributes["http.response.status_code"],  # type: ignore[attr-defined]
    )
    [event] = internal.events  # type: ignore[attr-defined]
    assert "retry" == event.name
    assert internal.start_time <= event.timestamp  # type: ignore[attr-defined]
    assert [False, True] == [span.status.is_ok for span in (first, second)]  # type: ignore[attr-defined]
    nursery.cancel_scope.cancel()


async def test_what_is_accepted_is_recorded_by_the_program_too(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, host: Host
) -> None:
    application = mock_service()
    mesh, _ = await started(nursery, host_tracer(host.provider), application)
    send = mesh.client(("127.0.0.1", 4140))
    with host.tracer.start_as_current_span("somebody else's"):
        # Over a connection: only its fields tell.
        await read_all((await send(request(authority=b"orders:80"))).body)
    for field in (RECORDED, (b"traceparent", RECORDED[1][:-1] + b"0")):
        await read_all((await send(request(authority=b"orders:80", headers=[field]))).body)
    alone, continued = host.spans["server"]
    assert alone.parent is None  # type: ignore[attr-defined]
    assert int("2" * 16, 16) == continued.parent.span_id  # type: ignore[attr-defined]
    assert continued.parent.is_remote  # type: ignore[attr-defined]
    assert 2 == len(host.spans["client"])
    nursery.cancel_scope.cancel()


async def test_the_sampler_of_the_program_decides(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host, application = Host(ALWAYS_OFF), mock_service()
    _, proxy = await started(nursery, host_tracer(host.provider), application)
    await ask(proxy)
    assert {} == host.spans
    assert (application.requests[0].headers.get(b"traceparent") or b"").endswith(b"-00")
    nursery.cancel_scope.cancel()


async def test_without_an_sdk_nothing_is_recorded(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    application = mock_service()
    tracer = host_tracer(trace.NoOpTracerProvider())
    _, proxy = await started(nursery, tracer, application)
    await ask(proxy)
    await ask(proxy, RECORDED)
    # Who is next may still record it.
    assert RECORDED in application.requests[1].headers.raw
    nursery.cancel_scope.cancel()


async def test_only_the_context_is_the_programs_where_spans_go_to_a_collector(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, host: Host
) -> None:
    collector, application = Collector(), mock_service()
    mesh, proxy = await started(nursery, host_tracer(record=False), application, CONFIG + TRACING)
    await mesh.serve(("collector", 4318), collector)
    await ask(proxy)
    state = trace.TraceState([("a", "1")])
    with host.tracer.start_as_current_span("mine") as own:
        context = own.get_span_context()
        told = trace.SpanContext(context.trace_id, context.span_id, False, context.trace_flags, state)
        with trace.use_span(trace.NonRecordingSpan(told)):
            await ask(proxy)
    await collector.wait_for(2)
    internal = next(span for span in collector.spans if span.kind == "internal")
    assert f"{context.span_id:016x}" == internal.parent
    assert f"{context.trace_id:032x}" == internal.trace_id
    assert ("a=1", 0x101) == (internal.raw.trace_state, internal.raw.flags & 0x3FD)
    assert b"a=1" == application.requests[1].headers.get(b"tracestate")
    assert {"internal"} == set(host.spans)
    nursery.cancel_scope.cancel()


async def test_what_is_not_recorded_is_told_onwards_as_well(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    host, application = Host(ALWAYS_OFF), mock_service()
    _, proxy = await started(nursery, host_tracer(host.provider, tracing=Tracing()), application)
    with host.tracer.start_as_current_span("mine") as own:
        await ask(proxy)
    context = own.get_span_context()
    expected = b"00-%032x-%016x-02" % (context.trace_id, context.span_id)
    assert expected == application.requests[0].headers.get(b"traceparent")
    nursery.cancel_scope.cancel()


def test_a_context_of_a_request_is_where_it_stands(host: Host) -> None:
    assert current_link() is None
    asked = request(headers=[RECORDED])
    assert not trace.get_current_span(context_of(asked)).get_span_context().is_valid
    asked.trace = host_tracer(host.provider).decide(asked)
    with host.tracer.start_as_current_span("work", context=context_of(asked)):
        pass
    [work] = host.spans["internal"]
    assert int("2" * 16, 16) == work.parent.span_id  # type: ignore[attr-defined]
