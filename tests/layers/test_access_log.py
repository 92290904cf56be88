"""AccessLog: one line a request, whatever a peer sends."""

from __future__ import annotations

import io
import json
import shlex
import sys
import threading
from typing import Any

import hypothesis
import pytest
import trio
import trio.lowlevel
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.errors import FailFastError, StreamReset
from meshcore.http.body import Chunks, Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.access_log import AccessLog, output
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request, response
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


async def test_a_standard_output_that_nobody_reads_delays_the_end_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuck(io.StringIO):
        flushed = threading.Event()
        read = threading.Event()

        def flush(self) -> None:
            self.flushed.set()
            self.read.wait()

    monkeypatch.setattr(sys, "stdout", stuck := Stuck())
    monkeypatch.setattr(output, "LAST_WORDS", 0.01)
    new: Any = MockNewService()
    async with trio.open_nursery() as nursery:
        service = AccessLog().layer(new).new_service(Accepted(), nursery)
        await service(request())
        while not stuck.flushed.is_set():
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    stuck.read.set()


async def test_one_writer_serves_all_targets_of_a_nursery(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    new: Any = AccessLog(lambda lines: None).layer(MockNewService())  # type: ignore[arg-type]
    services = [new.new_service(Accepted(peer=("10.1.1.1", port)), nursery) for port in range(3)]
    assert 1 == len({id(service.lines) for service in services})


def test_it_prints_its_format() -> None:
    assert "AccessLog(format='json')" == repr(AccessLog(format="json"))
    assert "AccessLog(to='access.log', sample=0.1)" == repr(AccessLog(to="access.log", sample=0.1))
    with pytest.raises(ValueError, match="format"):
        AccessLog(format="xml")  # type: ignore[arg-type]
