"""AccessLog: one line a request, whatever a peer sends."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
import trio.lowlevel
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.compiled import is_compiled
from meshcore.errors import FailFastError, StreamReset
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.access_log import AccessLog, output
from meshcore.layers.access_log.exchange import Exchange
from meshcore.layers.metrics import Metrics
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request, response
from meshcore.tracing.propagation import Link
from meshcore.transport.target import Accepted, Endpoint


def logged(nursery: trio.Nursery, inner: Any, format: Any = "json", **options: Any) -> tuple[Any, list[str]]:
    written: list[str] = []
    layer = AccessLog(written.append, format, **options)
    new: Any = MockNewService(lambda target: inner)
    return layer.layer(new).new_service(Accepted(), nursery), written


async def full(nursery: trio.Nursery, format: Any) -> list[str]:
    async def inner(sent: Request) -> Response:
        await trio.sleep(0.25)
        sent.endpoint = Endpoint(("10.0.0.7", 8080))
        sent.avoid = (sent.endpoint,)
        sent.route, sent.backend = "orders", "stable"
        sent.path = b"/rewritten"
        body = Chunks()
        nursery.start_soon(answer, body)
        return Response(200, Headers(), body)

    async def answer(body: Chunks) -> None:
        for chunk in (b"12345", b"678"):
            await trio.sleep(0.5)
            body.push(chunk)
        body.push_end()

    service, written = logged(nursery, inner, format, clock=lambda: 1_700_000_000.0, direction="inbound")
    sent = request(
        b"POST",
        b"/a?b=c",
        b"hello",
        headers=[(b"user-agent", b"curl/8"), (b"traceparent", b"00-abc-def-01")],
        version=20,
    )
    client, server = memory_connection_pair()
    server.peer, server.local, server.identity = ("10.1.1.1", 5000), ("::1", 80), "web.shop"
    sent.connection = server
    response = await service(sent)
    await read_all(sent.body)
    await read_all(response.body)
    await wait_all_tasks_blocked()
    client.close()
    server.close()
    return written


@pytest.mark.parity("M-12")
async def test_a_line_of_json_has_every_field(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    (line,) = await full(nursery, "json")

    assert line.endswith("\n")
    assert {
        "time": "2023-11-14T22:13:20.000Z",
        "direction": "inbound",
        "client": "10.1.1.1:5000",
        "client_id": "web.shop",
        "server": "[::1]:80",
        "method": "POST",
        "authority": "a.test",
        "path": "/a?b=c",
        "version": "HTTP/2.0",
        "status": 200,
        "grpc_status": None,
        "request_bytes": 5,
        "response_bytes": 8,
        "first_byte_s": 0.75,
        "total_s": 1.25,
        "route": "orders",
        "backend": "stable",
        "endpoint": "10.0.0.7:8080",
        "retries": 1,
        "error": None,
        "trace_id": "00-abc-def-01",
        "user_agent": "curl/8",
    } == json.loads(line)


async def test_a_line_of_text_has_the_same(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    assert [
        '2023-11-14T22:13:20.000Z 10.1.1.1:5000 web.shop "POST a.test/a?b=c HTTP/2.0" 200 direction=inbound '
        "server=[::1]:80 request_bytes=5 response_bytes=8 first_byte_s=0.750000 total_s=1.250000 route=orders "
        "backend=stable endpoint=10.0.0.7:8080 retries=1 error=- grpc_status=- trace_id=00-abc-def-01 "
        "user_agent=curl/8\n"
    ] == await full(nursery, "text")


async def test_the_code_of_an_error_is_told(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    rescued = response(504, headers=[(b"x-meshcore-error", b"fail-fast")])
    broken = Response(200, body=(body := Chunks()))
    service, written = logged(nursery, mock_service(rescued, broken, FailFastError("x"), 30.0))

    await service(request())
    await service(request())
    body.push_error(StreamReset("x", h2_code=2))
    with pytest.raises(FailFastError):
        await service(request())
    with trio.move_on_after(1):
        await service(request())
    await wait_all_tasks_blocked()

    lines = [json.loads(line) for line in "".join(written).splitlines()]
    assert [(504, "fail-fast"), (200, "h2(INTERNAL_ERROR)"), (None, "fail-fast"), (None, "cancelled")] == [
        (line["status"], line["error"]) for line in lines
    ]
    assert [0, 0, 0, 0] == [line["response_bytes"] for line in lines]


async def test_bodies_without_a_declared_size_are_counted(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        return Response(200, body=Full(await read_all(sent.body)))

    service, written = logged(nursery, inner)
    sent = request(b"POST")
    body = sent.body = Chunks()
    body.push(b"123")
    body.push(b"4567")
    body.push_end()
    response = await service(sent)
    assert b"1234567" == await read_all(response.body)
    await wait_all_tasks_blocked()

    assert (7, 7) == (json.loads(written[0])["request_bytes"], json.loads(written[0])["response_bytes"])


@hypothesis.given(
    path=st.binary(max_size=40),
    agent=st.binary(max_size=40),
    method=st.binary(max_size=8),
    format=st.sampled_from(["text", "json"]),
)
@hypothesis.settings(max_examples=100)
def test_nothing_that_a_peer_sends_makes_a_second_line_or_another_field(
    path: bytes, agent: bytes, method: bytes, format: str
) -> None:
    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            service, written = logged(nursery, mock_service(), format)
            await service(request(method, path, headers=[(b"user-agent", agent)]))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return written

    (line,) = trio.run(main, clock=MockClock(autojump_threshold=0))

    assert line.isascii()
    assert line[:-1].isprintable()
    assert line.endswith("\n")
    if format == "json":
        assert agent.decode("utf-8", "backslashreplace") == json.loads(line)["user_agent"]
    else:
        words = shlex.split(line.replace("'", "\\'") if "'" in line else line)
        assert 1 == sum(word.startswith("error=") for word in words)
        assert words[-1].startswith("user_agent=")


async def test_long_fields_are_cut(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service, written = logged(nursery, mock_service())
    await service(request(path=b"/" + b"a" * 100_000))
    await wait_all_tasks_blocked()
    assert 2_048 == len(json.loads(written[0])["path"])


async def test_what_the_queue_cannot_hold_is_dropped_and_counted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    written: list[str] = []

    async def slow(lines: str) -> None:
        await trio.sleep(10)
        written.append(lines)

    layer = AccessLog(slow, "text", capacity=5)
    new: Any = MockNewService()
    service = layer.layer(new).new_service(Accepted(), nursery)
    await service(request())
    await wait_all_tasks_blocked()
    for _ in range(20):
        await service(request())
    await trio.sleep(30)

    lines = "".join(written).splitlines()
    assert 1 + 5 + 1 == len(lines)
    assert "dropped=15" == lines[-1]


async def test_many_lines_are_written_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service, written = logged(nursery, mock_service())
    for _ in range(300):
        await service(request())
    await wait_all_tasks_blocked()

    assert 300 == len("".join(written).splitlines())
    assert len(written) <= 3


async def test_what_is_left_is_written_at_the_end(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service, written = logged(nursery, mock_service())
        await wait_all_tasks_blocked()
        await service(request())
        nursery.cancel_scope.cancel()

    assert 1 == len(written)


async def test_a_full_disk_ends_the_lines_not_the_proxy(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    written: list[str] = []

    def write(lines: str) -> None:
        written.append(lines)
        if len(written) == 1:
            raise OSError("no space left on device")

    new: Any = MockNewService()
    service = AccessLog(write).layer(new).new_service(Accepted(), nursery)
    await service(request())
    await trio.sleep(2)
    await service(request())
    await trio.sleep(2)

    assert 2 == len(written)
    assert "access log: no space left on device" in caplog.text


@pytest.mark.parity("M-11", "M-12")
async def test_a_line_as_linkerds_apache_format_has_it(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    assert [
        '10.1.1.1:5000 web.shop - [2023-11-14T22:13:20.000Z] "POST http://a.test/a?b=c HTTP/2.0" 200\n'
    ] == await full(nursery, "apache")


@pytest.mark.parity("M-12")
async def test_a_line_of_json_with_linkerds_names(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    (line,) = await full(nursery, "linkerd-json")
    assert {
        "client.addr": "10.1.1.1:5000",
        "client.id": "web.shop",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "method": "POST",
        "uri": "http://a.test/a?b=c",
        "version": "HTTP/2.0",
        "trace_id": "00-abc-def-01",
        "request_bytes": 5,
        "status": 200,
        "response_bytes": 8,
        "total_ns": 1_250_000_000,
        "processing_ns": 750_000_000,
        "user_agent": "curl/8",
        "host": "a.test",
    } == json.loads(line)


async def one(nursery: trio.Nursery, sent: Request, answer: Any = None, **options: Any) -> str:
    service, written = logged(nursery, mock_service(response() if answer is None else answer), "text", **options)
    answered = await service(sent)
    await read_all(answered.body)
    await wait_all_tasks_blocked()
    return "".join(written)


@pytest.mark.parity("M-13")
async def test_a_line_of_ones_own(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sent = request(b"GET", b"/a b", headers=[(b"x-tenant", b"a"), (b"x-tenant", b"b"), (b"x-empty", b"")])
    line = await one(
        nursery,
        sent,
        response(headers=[(b"content-type", b"text/plain; charset=utf-8")]),
        template='%{method} "%{path}" %{path} %{pathname} %{status} %{header.x-tenant} %{header.x-none} '
        '%{header.x-empty} %{response.content-type} "%{response.content-type}" %{tls} 100%%',
    )
    assert line == (
        'GET "/a b" "/a b" "/a b" 200 "a, b" - - "text/plain; charset=utf-8" "text/plain; charset=utf-8" - 100%\n'
    )


async def test_keys_of_json_of_ones_own(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sent = request(b"GET", b'/"x"', headers=[(b"x-tenant", b"a\nb")])
    line = await one(
        nursery,
        sent,
        fields={
            "what": 'say "%{method} %{path}"',
            "n": "%{status}",
            "s": "%{status}!",
            "none": "%{route}",
            "t": "%{time}",
            "tenant": "%{header.x-tenant}",
            "50%": "%%",
        },
    )
    assert json.loads(line) == {
        "what": 'say "GET /"x""',
        "n": 200,
        "s": "200!",
        "none": None,
        "t": "0.000s",
        "tenant": "a\nb",
        "50%": "%",
    }


async def test_secrets_are_masked_even_where_they_are_named(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    headers = [(b"authorization", b"Bearer xyzzy"), (b"x-api-key", b"plugh")]
    answer = response(headers=[(b"set-cookie", b"sid=fee")])
    line = await one(
        nursery,
        request(headers=headers),
        answer,
        template="%{header.authorization} %{header.x-api-key} %{response.set-cookie} %{header.cookie}",
        reveal=["x-api-key"],
    )
    assert line == "*** plugh *** -\n"


async def test_header_fields_are_told_as_they_came(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    async def inner(sent: Request) -> Response:
        sent.headers.set(b"x-tenant", b"rewritten")
        return Response(200)

    service, written = logged(nursery, inner, template="%{header.x-tenant}")
    await service(request(headers=[(b"x-tenant", b"acme")]))
    await wait_all_tasks_blocked()
    assert written == ["acme\n"]


async def test_a_trace_that_was_begun_here_says_the_ids(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sent = request(headers=[(b"x-request-id", b"other")])
    sent.trace = Link(b"aa" * 16, b"bb" * 8, True, 0)
    assert await one(nursery, sent, template="%{trace_id} %{span_id}") == f"{'aa' * 16} {'bb' * 8}\n"


async def test_grpc_statuses_come_from_headers_or_trailers(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    def call() -> Request:
        return request(b"POST", b"/s.S/M", headers=[(b"content-type", b"application/grpc")], version=20)

    trailers = Response(200, body=Full(b"x", [(b"grpc-status", b"14")]))
    only = response(headers=[(b"grpc-status", b"5")])
    assert await one(nursery, call(), trailers, template="%{grpc_status}") == "14\n"
    assert await one(nursery, call(), only, template="%{grpc_status}") == "5\n"
    assert await one(nursery, request(), only, template="%{grpc_status}") == "-\n"


async def test_requests_that_look_alike_have_lines_of_their_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """What many have in common is made once: it must not be told of others."""
    rescued = response(504, headers=[(b"x-meshcore-error", b"fail-fast")])
    inner = mock_service(response(200), response(404), rescued, response(200))
    template = "%{method} %{authority} %{status} %{error} %{user_agent}"
    service, written = logged(nursery, inner, template=template)
    for method, agent in ((b"GET", b"50%s"), (b"GET", b"50%s"), (b"GET", b"50%s"), (b"PUT", b"b")):
        sent = request(method, headers=[(b"user-agent", agent)])
        await service(sent)
    await wait_all_tasks_blocked()
    assert "".join(written).splitlines() == [
        "GET a.test 200 - 50%s",
        "GET a.test 404 - 50%s",
        "GET a.test 504 fail-fast 50%s",
        "PUT a.test 200 - b",
    ]


async def test_many_distinct_requests_leave_memory_bounded(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service, _ = logged(nursery, mock_service())
    for number in range(3_000):
        await service(request(authority=b"%d.test" % number))
        if number % 100 == 0:
            await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert len(service.lines.format._shapes) <= 1_024


async def test_what_an_application_says_makes_no_large_shape(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    large = [(b"x-meshcore-error", b"x" * 60_000)]
    service, _ = logged(nursery, mock_service(response(500, headers=large)))
    await service(request())
    await wait_all_tasks_blocked()
    assert not service.lines.format._shapes


async def test_two_connections_are_told_apart(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service, written = logged(nursery, mock_service(), template="%{client}")
    for port in (1, 2, 1):
        client, server = memory_connection_pair()
        server.peer = ("10.1.1.1", port)
        sent = request()
        sent.connection = server
        await service(sent)
        client.close()
        server.close()
    await wait_all_tasks_blocked()
    assert "".join(written).split() == ["10.1.1.1:1", "10.1.1.1:2", "10.1.1.1:1"]


# ----- which requests are told -----


async def test_two_proxies_tell_of_the_same_traces(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    told = []
    rng = random.Random(7)
    traces = [rng.getrandbits(128) for _ in range(200)]
    for _ in range(2):
        service, written = logged(nursery, mock_service(), "text", sample=0.3, template="%{trace_id}")
        for trace in traces:
            await service(request(headers=[(b"traceparent", b"00-%032x-%016x-01" % (trace, 1))]))
        await wait_all_tasks_blocked()
        told.append("".join(written))
    assert told[0] == told[1]
    assert 30 < len(told[0].splitlines()) < 90


@pytest.mark.parametrize(("statuses", "told"), [(("4xx",), [404]), (("404", "503"), [404, 503]), (("200",), [200])])
async def test_below_metrics_exactly_the_statuses_that_are_named_are_told(
    nursery: trio.Nursery, autojump_clock: MockClock, statuses: tuple[str, ...], told: list[int]
) -> None:
    async def inner(sent: Request) -> Response:
        return response(int(sent.path[1:]))

    written: list[str] = []
    log = AccessLog(written.append, sample=0.0, statuses=statuses, template="%{status}")
    new = Metrics(Registry(), "inbound").layer(log.layer(MockNewService(lambda target: inner)))
    service = new.new_service(Accepted(), nursery)
    for status in (200, 301, 404, 503):
        await read_all((await service(request(path=b"/%d" % status))).body)
    await wait_all_tasks_blocked()
    assert told == [int(line) for line in "".join(written).split()]


async def test_requests_without_an_id_are_drawn_by_lot(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service, written = logged(nursery, mock_service(), sample=0.3, rng=random.Random(7))
    for _ in range(200):
        await service(request())
    await wait_all_tasks_blocked()
    assert 30 < len("".join(written).splitlines()) < 90


async def test_what_failed_and_what_was_slow_is_told_whatever_the_sample(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def inner(sent: Request) -> Response:
        what = sent.path[1:]
        if what == b"slow":
            await trio.sleep(0.6)
        if what == b"broken":
            raise FailFastError("x")
        if what == b"cut":
            body = Chunks()
            body.push_error(StreamReset("x", h2_code=2))
            return Response(200, body=body)
        if what == b"grpc":
            return Response(200, body=Full(b"x", [(b"grpc-status", b"14")]))
        return Response(int(what) if what.isdigit() else 200)

    service, written = logged(
        nursery, inner, sample=0, statuses=("5xx", "404", "unavailable", "error"), slower_than=0.5, template="%{path}"
    )
    for what in (b"fast", b"200", b"403", b"404", b"503", b"slow", b"cut", b"grpc"):
        grpc = [(b"content-type", b"application/grpc")] if what == b"grpc" else []
        sent = request(b"POST" if grpc else b"GET", b"/" + what, headers=grpc, version=20)
        await read_quietly(await service(sent))
    with pytest.raises(FailFastError):
        await service(request(path=b"/broken"))
    await wait_all_tasks_blocked()
    assert "".join(written).split() == ["/404", "/503", "/slow", "/cut", "/grpc", "/broken"]


async def test_where_the_head_decides_what_failed_is_told_once_and_the_rest_by_its_share(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def inner(sent: Request) -> Response:
        if sent.path == b"/broken":
            raise FailFastError("x")
        return Response(int(sent.path[1:]), body=Full(b"abc"))

    service, written = logged(
        nursery, inner, sample=0.3, statuses=("5xx",), template="%{status} %{response_bytes}", rng=random.Random(7)
    )
    for _ in range(100):
        for path in (b"/200", b"/503"):
            await read_quietly(await service(request(path=path)))
    await wait_all_tasks_blocked()
    lines = "".join(written).splitlines()
    # Drawn once each, and as it would be at the end: with all its bytes.
    assert {"200 3", "503 3"} == set(lines)
    assert (100, True) == (lines.count("503 3"), 15 < lines.count("200 3") < 45)
    for _ in range(100):
        with pytest.raises(FailFastError):
            await service(request(path=b"/broken"))
    await wait_all_tasks_blocked()
    # No status has been told, so: a share of these.
    assert 15 < len("".join(written).splitlines()) - len(lines) < 45


@pytest.mark.parametrize("counted", [False, True])
async def test_where_the_head_decides_a_frame_above_serves_as_well(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, counted: bool
) -> None:
    """``Metrics`` above hands responses on; what is told is the same as without."""
    begun: list[int] = []
    noted = Exchange.__init__

    def begin(self: Exchange, *args: Any) -> None:
        begun.append(1)
        noted(self, *args)

    if not is_compiled():
        monkeypatch.setattr(Exchange, "__init__", begin)

    async def inner(sent: Request) -> Response:
        status = int(sent.path[1:])
        await read_all(sent.body)
        await trio.sleep(0.25)
        # As layers below do: what came is told.
        sent.method, sent.authority, sent.path, sent.body = b"PUT", b"elsewhere", b"/rewritten", Full(b"other bytes")
        if status == 599:
            raise FailFastError("x")
        return Response(status, body=Full(b"abc"))

    fields = "%{method} %{authority} %{path} %{request_bytes} %{status} %{response_bytes} %{total_s}"
    written: list[str] = []
    layer = AccessLog(written.append, sample=0.0, statuses=("5xx",), template=fields)
    new: Any = layer.layer(MockNewService(lambda target: inner))
    if counted:
        new = Metrics(Registry(), "inbound").layer(new)
    service = new.new_service(Accepted(), nursery)
    for status in (200, 503, 200, 504):
        await read_all((await service(request(b"POST", b"/%d" % status, b"hello"))).body)
    sized_by_nothing = request(b"POST", b"/500")
    sized_by_nothing.body = chunks = Chunks()
    chunks.push(b"1234567")
    chunks.push_end()
    await read_all((await service(sized_by_nothing)).body)
    with pytest.raises(FailFastError):
        await service(request(b"GET", b"/599"))
    await wait_all_tasks_blocked()
    assert [
        "POST a.test /503 5 503 3 0.250000",
        "POST a.test /504 5 504 3 0.250000",
        "POST a.test /500 7 500 3 0.250000",
    ] == "".join(written).splitlines()
    if not is_compiled():
        # Nothing was noted of those that nobody is told of, where somebody else has a frame: but for the request
        # whose bytes have to be counted, and the one that nobody answered.
        assert (3 if counted else 6) == len(begun)


async def test_each_of_two_logs_that_go_by_the_head_is_told_by_the_frame_above_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A pipeline within a pipeline sees the same request."""
    answers = iter([503, 200, FailFastError("x"), 504])

    async def inner(sent: Request) -> Response:
        answer = next(answers)
        if isinstance(answer, FailFastError):
            raise answer
        return Response(answer, body=Full(b"abc"))

    registry = Registry()
    outer: list[str] = []
    below: list[str] = []
    new: Any = MockNewService(lambda target: inner)
    for written in (below, outer):
        new = AccessLog(written.append, sample=0.0, statuses=("5xx",), template="%{status} %{path}").layer(new)
        new = Metrics(registry, "inbound").layer(new)
    service = new.new_service(Accepted(), nursery)
    again = request(path=b"/again")
    await read_all((await service(request(path=b"/1"))).body)
    await read_all((await service(request(path=b"/2"))).body)
    # One that is sent once more, as by Retry.
    with pytest.raises(FailFastError):
        await service(again)
    await read_all((await service(again)).body)
    await wait_all_tasks_blocked()
    assert ["503 /1", "504 /again"] == "".join(below).splitlines() == "".join(outer).splitlines()
    assert again.listener is None


async def read_quietly(answered: Response) -> None:
    with contextlib.suppress(StreamReset):
        await read_all(answered.body)


async def test_nothing_to_tell_is_no_layer(nursery: trio.Nursery) -> None:
    inner = mock_service()
    service, _ = logged(nursery, inner, sample=0)
    assert service is inner


async def test_a_line_that_cannot_be_made_ends_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def inner(sent: Request) -> Response:
        sent.endpoint = object() if sent.path == b"/odd" else None  # type: ignore[assignment]
        return Response(200)

    service, written = logged(nursery, inner, template="%{path} %{endpoint}")
    for path in (b"/odd", b"/odd", b"/even"):
        await service(request(path=path))
    await wait_all_tasks_blocked()
    assert "".join(written).splitlines() == ["/even -", "dropped=2"]
    assert 1 == caplog.text.count("a line cannot be made")


async def test_lines_and_what_was_dropped_are_counted(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    registry = Registry()
    service, written = logged(nursery, mock_service(), capacity=5, registry=registry)
    for _ in range(12):
        await service(request())
    await wait_all_tasks_blocked()
    text = registry.render(False)
    assert "access_log_lines_total 5" in text
    assert "access_log_dropped_total 7" in text
    assert json.loads("".join(written).splitlines()[-1]) == {"dropped": 7}


@hypothesis.given(
    path=st.binary(max_size=3_000),
    values=st.lists(st.binary(max_size=3_000), max_size=4),
    form=st.sampled_from(["json", "linkerd-json", "text", "apache", "fields", "template"]),
    max_line=st.integers(256, 4_000),
)
@hypothesis.settings(max_examples=150)
def test_one_request_is_one_line_of_bounded_length_and_json_is_json(
    path: bytes, values: list[bytes], form: str, max_line: int
) -> None:
    options: dict[str, Any] = {"max_line": max_line}
    if form == "fields":
        options["fields"] = {"a": "%{header.x-a}", "b": '"%{header.x-a}\\" %{path}', "c": "%{response.x-a}"}
    elif form == "template":
        options["template"] = '%{header.x-a} "%{path} %{response.x-a}" %{trace_id}'

    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            given = [(b"x-a", value) for value in values]
            service, written = logged(
                nursery,
                mock_service(response(headers=given)),
                form if form not in ("fields", "template") else "text",
                **options,
            )
            names = [b"x-a", b"user-agent", b"traceparent", b"x-request-id"]
            await service(request(path=path, headers=list(zip(names, values, strict=False)) + given))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return written

    (line,) = trio.run(main, clock=MockClock(autojump_threshold=0))

    assert line.isascii()
    assert line[:-1].isprintable()
    assert line.endswith("\n")
    assert len(line) <= max_line + 1
    if form in ("json", "linkerd-json", "fields"):
        assert isinstance(json.loads(line), dict)


async def test_standard_output_is_the_default(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    new: Any = MockNewService()
    service = AccessLog().layer(new).new_service(Accepted(), nursery)
    await service(request())
    while not (out := capsys.readouterr().out):
        await trio.lowlevel.checkpoint()
    assert '"GET a.test/ HTTP/1.1" 200' in out


@pytest.mark.parametrize("steps", range(4))
async def test_the_last_lines_are_written_whenever_the_end_comes(
    capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    new: Any = MockNewService()
    async with trio.open_nursery() as nursery:
        service = AccessLog().layer(new).new_service(Accepted(), nursery)
        for _ in range(3):
            await service(request())
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert 3 == capsys.readouterr().out.count('"GET a.test/ HTTP/1.1" 200')


@pytest.mark.parametrize("to_file", [False, True])
async def test_what_the_same_cancellation_ends_is_told_too(tmp_path: Path, to_file: bool) -> None:
    async def inner(sent: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    path = tmp_path / "access.log"
    written: list[str] = []
    new: Any = MockNewService(lambda target: inner)
    layer = AccessLog(None if to_file else written.append, to=str(path), template="%{path} %{error}")
    async with trio.open_nursery() as nursery:
        service = layer.layer(new).new_service(Accepted(), nursery)
        for number in range(20):
            nursery.start_soon(service, request(path=b"/%d" % number))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    lines = path.read_text() if to_file else "".join(written)
    assert sorted(lines.splitlines()) == sorted(f"/{number} cancelled" for number in range(20))


@pytest.mark.parametrize("steps", range(3))
async def test_what_fails_at_the_end_is_counted_and_replaces_no_cancellation(
    autojump_clock: MockClock, steps: int
) -> None:
    def write(lines: str) -> None:
        raise BrokenPipeError

    registry = Registry()
    new: Any = MockNewService()
    async with trio.open_nursery() as nursery:
        service = AccessLog(write, registry=registry).layer(new).new_service(Accepted(), nursery)
        for _ in range(3):
            await service(request())
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert "access_log_dropped_total 3" in registry.render(False)
    assert "access_log_lines_total 0" in registry.render(False)


class Stuck(io.StringIO):
    """A standard output that takes nothing until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = threading.Event()
        self.read_on = threading.Event()

    def flush(self) -> None:
        self.flushed.set()
        self.read_on.wait()


async def test_what_nobody_takes_at_the_end_is_not_counted_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", stuck := Stuck())
    monkeypatch.setattr(output, "LAST_WORDS", 0.01)
    registry = Registry()
    new: Any = MockNewService()
    async with trio.open_nursery() as nursery:
        service = AccessLog(registry=registry).layer(new).new_service(Accepted(), nursery)
        await service(request())
        while not stuck.flushed.is_set():
            await trio.lowlevel.checkpoint()
        for _ in range(5):
            await service(request())
        nursery.cancel_scope.cancel()
    stuck.read_on.set()
    text = registry.render(False)
    assert "access_log_lines_total 0" in text
    assert "access_log_dropped_total 6" in text


async def test_a_standard_output_that_nobody_reads_delays_the_end_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", stuck := Stuck())
    monkeypatch.setattr(output, "LAST_WORDS", 0.01)
    new: Any = MockNewService()
    async with trio.open_nursery() as nursery:
        service = AccessLog().layer(new).new_service(Accepted(), nursery)
        await service(request())
        while not stuck.flushed.is_set():
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    stuck.read_on.set()


async def test_one_writer_serves_all_targets_of_a_nursery(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    new: Any = AccessLog(lambda lines: None).layer(MockNewService())  # type: ignore[arg-type]
    services = [new.new_service(Accepted(peer=("10.1.1.1", port)), nursery) for port in range(3)]
    assert 1 == len({id(service.lines) for service in services})


def test_it_prints_its_format() -> None:
    assert "AccessLog(format='json')" == repr(AccessLog(format="json"))
    assert "AccessLog(to='access.log', sample=0.1)" == repr(AccessLog(to="access.log", sample=0.1))
    with pytest.raises(ValueError, match="format"):
        AccessLog(format="xml")  # type: ignore[arg-type]
