"""Trace: what is recorded of requests and of their tries."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Request, Response
from meshcore.abc import HttpService
from meshcore.errors import ConnectError, RemoteProtocolError
from meshcore.http.body import Chunks
from meshcore.http.headers import Headers
from meshcore.layers import Trace
from meshcore.testing import memory_connection_pair, mock_service, request, response
from meshcore.tracing.propagation import UNRECORDED
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.span import ERROR, UNSET, Span
from meshcore.tracing.tracer import Tracer
from meshcore.transport.target import Accepted, Endpoint, TlsClient
from tests.tracing.test_tracer import NO, SPAN, TRACE, YES, Recorder

Serve = Callable[[Request], Awaitable[Response]]
HERE = Endpoint(("10.0.0.7", 4143), tls=TlsClient("orders.shop"))


class Bench:
    """A layer on either side, and what they have recorded."""

    def __init__(self, **settings: Any) -> None:
        self.recorder = Recorder()
        self.tracer = Tracer(self.recorder, Tracing(**settings), rng=random.Random(1))

    def server(self, inner: Serve) -> HttpService:
        return Trace(self.tracer, "server", "inbound").wrap(inner, Accepted())

    def client(self, inner: Serve, target: object = HERE) -> HttpService:
        return Trace(self.tracer, "client", "outbound").wrap(inner, target)

    @property
    def span(self) -> Span:
        [span] = self.recorder.spans
        return span


def accepted(*fields: tuple[bytes, bytes], **more: Any) -> Request:
    asked = request(headers=fields, **more)
    asked.connection = memory_connection_pair(peer=("10.0.0.9", 1234))[0]
    asked.connection.identity = "web.shop"
    return asked


async def test_what_is_not_recorded_passes_without_a_frame_of_its_own() -> None:
    bench = Bench()
    waited = trio.lowlevel.checkpoint()
    asked = [accepted(), accepted(NO)]
    for wrap in (bench.server, bench.client):
        for each in asked:
            service = wrap(lambda request: waited)  # type: ignore[arg-type, return-value]
            assert service(each) is waited
    assert [None, TRACE.decode()] == [each.trace and each.trace.trace_id for each in asked]
    link = asked[1].trace
    assert link is not None
    assert (SPAN.decode(), False) == (link.span_id, link.sampled)
    assert [NO] == asked[1].headers.raw
    assert [] == bench.recorder.begun
    await waited


async def test_the_place_of_what_begins_here_and_is_not_recorded_is_in_its_fields() -> None:
    bench = Bench(sample=1e-9)
    asked = [accepted(), accepted()]
    for each in asked:
        await bench.server(bench.client(mock_service()))(each)
    assert asked[0].trace_mark is asked[1].trace_mark is UNRECORDED
    copy = asked[0].variant(Headers(list(asked[0].headers.raw)), 20)
    for each in (*asked, copy):
        link = each.trace
        assert link is not None
        told = f"00-{link.trace_id}-{link.span_id}-00"
        assert [(b"traceparent", told.encode())] == each.headers.raw
        assert link is each.trace
    assert copy.trace is not None
    assert asked[0].trace is not None
    assert copy.trace.trace == asked[0].trace.trace
    # Who took it out has left nothing to read, and nobody decides anew.
    bare = accepted()
    await bench.server(mock_service())(bare)
    bare.headers.remove(b"traceparent")
    assert bare.trace is None
    await bench.client(mock_service())(bare)
    assert [] == bare.headers.raw
    assert UNRECORDED.backend == ""


async def test_a_span_ends_with_the_last_byte_of_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    bench, body = Bench(), Chunks()

    async def answer(request: Request) -> Response:
        await trio.sleep(1)
        return Response(200, Headers(), body)

    asked = accepted(YES)
    got = await bench.server(answer)(asked)
    await trio.sleep(1)
    body.push(b"x")
    body.push_end()
    assert [] == bench.recorder.spans
    await trio.sleep(1)
    await got.body.receive_some()
    assert (0.0, 3.0, UNSET) == (bench.span.started, bench.span.ended, bench.span.status)
    assert asked.trace is bench.span
    assert ("10.0.0.9", 1234, "web.shop", "inbound") == tuple(
        bench.span.attribute(name) for name in ("client.address", "client.port", "client_id", "direction")
    )


@pytest.mark.parametrize(
    ("status", "server", "client"), [(200, None, None), (404, None, "404"), (503, "503", "503"), (302, None, None)]
)
async def test_statuses_are_errors_by_the_side(status: int, server: str | None, client: str | None) -> None:
    bench = Bench()
    await bench.server(bench.client(mock_service(status)))(accepted(YES))
    inner, outer = bench.recorder.spans
    for span, error in ((outer, server), (inner, client)):
        assert (error, UNSET if error is None else ERROR) == (span.attribute("error.type"), span.status)
        assert status == span.attribute("http.response.status_code")
    assert (outer.span, 0) == (inner.parent, len(outer.events or ()))


async def test_an_error_is_told_by_its_word(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench()
    with pytest.raises(ConnectError):
        await bench.server(bench.client(mock_service(ConnectError("endpoint 10.0.0.7:4143: connection refused"))))(
            accepted(YES)
        )
    for span in bench.recorder.spans:
        assert (ConnectError.code, ERROR) == (span.attribute("error.type"), span.status)
        assert "endpoint 10.0.0.7:4143: connection refused" == span.message


async def test_an_answer_that_breaks_off_is_an_error_and_one_that_is_given_up_is_not() -> None:
    for broken in (True, False):
        bench, body = Bench(), Chunks()
        got = await bench.server(mock_service(Response(200, Headers(), body)))(accepted(YES))
        if broken:
            body.push_error(RemoteProtocolError("nonsense"))
        else:
            got.body.abort()
        span = bench.span
        assert (ERROR if broken else UNSET) == span.status
        assert broken is (span.attribute("error.type") != "cancelled")


async def test_a_request_that_is_cancelled_is_a_span_that_was_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bench = Bench()
    with trio.move_on_after(1):
        await bench.server(mock_service(1e9))(accepted(YES))
    assert ("cancelled", UNSET, 1.0) == (bench.span.attribute("error.type"), bench.span.status, bench.span.ended)


async def test_the_route_is_in_the_name_and_nothing_that_a_client_makes_up() -> None:
    bench = Bench()

    async def routed(request: Request) -> Response:
        request.route = "orders"
        assert request.trace is not None
        request.trace.backend = "canary"
        return response()

    await bench.server(bench.client(routed))(accepted(YES, method=b"MAKEUP", path=b"/secret/7"))
    inner, outer = bench.recorder.spans
    assert ("HTTP orders", "HTTP orders") == (inner.name, outer.name)
    assert ("orders", "canary", "_OTHER", "MAKEUP") == tuple(
        outer.attribute(name) for name in ("route", "backend", "http.request.method", "http.request.method_original")
    )


async def test_values_of_the_network_are_text_and_cut_and_the_query_is_told_if_asked_for() -> None:
    for query in (False, True):
        bench = Bench(query=query)
        path = b"/" + b"p" * 400 + b"?key=\xff" + b"s" * 400
        fields = (YES, (b"user-agent", b"\x01\xfe" + b"u" * 400))
        await bench.server(mock_service())(accepted(*fields, path=path, authority=b"[::1]:8443"))
        span = bench.span
        assert 256 == len(span.attribute("url.path"))
        assert query is (span.attribute("url.query") is not None)
        # What was cut may end within a character, so what is none goes.
        assert "\x01" + "u" * 254 == span.attribute("user_agent.original")
        assert ("::1", 8443) == (span.attribute("server.address"), span.attribute("server.port"))


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [(b"a:81", "a", 81), (b"a", "a", 80), (b"[::1]", "::1", 80), (b"a:b", "a:b", 80), (b"a:999999", "a:999999", 80)],
)
async def test_the_server_is_who_was_asked_for(authority: bytes, host: str, port: int) -> None:
    bench = Bench()
    await bench.server(mock_service())(accepted(YES, authority=authority))
    assert (host, port) == (bench.span.attribute("server.address"), bench.span.attribute("server.port"))


async def test_tries_beside_each_other_are_told_as_such(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench()
    tries = bench.client(mock_service(2.0, 1.0))

    async def both(request: Request) -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tries, request)
            await trio.sleep(0.5)
            answer = await tries(request.variant(request.headers.copy(), request.version))
            nursery.cancel_scope.cancel()
        return answer

    await bench.server(both)(accepted(YES))
    second, first, above = bench.recorder.spans
    assert [above.span] * 2 == [first.parent, second.parent]
    assert above.events is not None
    [event] = above.events
    assert ("hedge", 0.5) == (event.name, event.time)
    assert ("cancelled", 1) == (first.attribute("error.type"), second.attribute("http.request.resend_count"))


async def test_a_try_without_a_span_above_decides_itself() -> None:
    bench = Bench()
    asked = request(headers=[YES])
    await bench.client(mock_service(), target="anything")(asked)
    assert (SPAN, True, None) == (bench.span.parent, bench.span.remote, bench.span.attribute("network.peer.address"))
    assert f"00-{TRACE.decode()}-{bench.span.span_id}-01".encode() == asked.headers.get(b"traceparent")


async def test_a_recorder_may_not_want_a_span() -> None:
    bench = Bench()

    def unwanted(span: Span, above: object) -> None:
        span.sampled = False

    bench.recorder.began = unwanted  # type: ignore[method-assign]
    asked = accepted(YES)
    await bench.server(bench.client(mock_service()))(asked)
    await bench.client(mock_service())(request(headers=[YES]))
    assert [] == bench.recorder.spans
    assert (asked.headers.get(b"traceparent") or b"").endswith(b"-00")


def test_the_layer_refuses_words_that_are_none() -> None:
    with pytest.raises(ValueError):
        Trace(Tracer(), "middle")
    with pytest.raises(ValueError):
        Trace(Tracer(), "server", "upwards")
    assert "Trace(scope='client', direction='outbound')" == repr(Trace(Tracer(), "client", "outbound"))
