"""Traces across two sidecars in memory, seen by a collector."""

from __future__ import annotations

import itertools
import json
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from meshcore import Headers, Proxy, Request, Response
from meshcore.config import parse_config
from meshcore.errors import MeshError
from meshcore.http.body import Chunks, read_all
from meshcore.proxy import run
from meshcore.testing import MemoryMesh, MemoryNetwork, mock_service, request, response
from meshcore.transport.drain import Drain
from tests.tracing.collector import Collector

APPLICATION, SECOND, OUTBOUND, COLLECTOR = ("orders", 8000), ("orders2", 8000), ("127.0.0.1", 4140), ("collector", 4318)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()

TRACING = """
[tracing]
collector = "http://collector:4318"
interval = "1s"
"""
ORDERS = """
[service]
name = "orders"
namespace = "shop"
[identity]
mode = "dev"
[inbound]
listen = "orders:4143"
forward = "orders:8000"
[admin]
listen = "off"
"""
WEB = """
[service]
name = "web"
namespace = "shop"
[identity]
mode = "dev"
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."orders:80"]
endpoints = ["orders:4143"]
identity = "orders.shop"
retry = { limit = 2, on = ["5xx"] }
[admin]
listen = "off"
"""


class Pair:
    """Web, which calls, and orders, which answers, and a collector that both tell."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.mesh = MemoryMesh(nursery, MemoryNetwork())
        self.collector = Collector()

    async def start(self, application: Any, web: str = TRACING, orders: str = TRACING) -> None:
        await self.mesh.serve(COLLECTOR, self.collector)
        await self.mesh.serve(APPLICATION, application)
        self.orders = await self.mesh.start(ORDERS + orders)
        self.web = await self.mesh.start(WEB + web)

    async def ask(self, *fields: tuple[bytes, bytes], **more: Any) -> Response:
        send = self.mesh.client(OUTBOUND)
        answer = await send(request(authority=b"orders:80", headers=fields, **more))
        answer.body.on_end(lambda _: None)
        await read_all(answer.body)
        return answer


async def traced(nursery: trio.Nursery, application: Any = None, **more: str) -> Pair:
    pair = Pair(nursery)
    await pair.start(mock_service() if application is None else application, **more)
    return pair


def metric(proxy: Proxy, name: str) -> float:
    text = proxy.registry.render()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("M-17", "M-18")
async def test_a_trace_goes_across_two_sidecars_each_span_below_the_one_before(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, version: int
) -> None:
    application = mock_service()
    pair = await traced(nursery, application)
    fields = [(b"traceparent", PARENT), (b"tracestate", b"a=1,b=2"), (b"user-agent", b"test/1")]

    await pair.ask(*fields, version=version, path=b"/orders/7?key=secret")
    spans = await pair.collector.wait_for(4)

    chain = [
        pair.collector.one("web", "outbound", "server"),
        pair.collector.one("web", "outbound", "client"),
        pair.collector.one("orders", "inbound", "server"),
        pair.collector.one("orders", "inbound", "client"),
    ]
    assert {TRACE} == {span.trace_id for span in spans}
    assert [SPAN, *[span.span_id for span in chain[:-1]]] == [span.parent for span in chain]
    assert 4 == len({span.span_id for span in spans})
    [seen] = application.requests
    assert f"00-{TRACE}-{chain[-1].span_id}-01".encode() == seen.headers.get(b"traceparent")
    assert b"a=1,b=2" == seen.headers.get(b"tracestate")
    assert {"a=1,b=2"} == {span.raw.trace_state for span in spans}
    for outer, inner in itertools.pairwise(chain):
        assert outer.raw.start_time_unix_nano <= inner.raw.start_time_unix_nano
        assert inner.raw.end_time_unix_nano <= outer.raw.end_time_unix_nano
    assert abs(chain[0].raw.start_time_unix_nano / 1e9 - pair.mesh.now()) < 60
    # Whether the parent is another process's is known of each.
    assert [0x301, 0x101, 0x301, 0x101] == [span.raw.flags for span in chain]
    nursery.cancel_scope.cancel()


@pytest.mark.parity("M-18")
async def test_spans_tell_what_linkerds_tell_and_who_was_at_the_ends(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await traced(nursery, mock_service(lambda _: response(200, b"hello")))
    await pair.ask((b"traceparent", PARENT), (b"user-agent", b"test/1"), path=b"/orders/7?key=secret")
    await pair.collector.wait_for(4)

    server = pair.collector.one("orders", "inbound", "server").attributes
    common = {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/orders/7",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "user_agent.original": "test/1",
        "http.response.status_code": 200,
        "server.address": "orders",
        "server.port": 80,
        "http.request.body.size": 0,
    }
    peer = {"client.address": "10.255.0.1", "client_id": "web.shop", "l5d-orig-proto": "HTTP/1.1"}
    where = {"direction": "inbound", "network.protocol.version": "2", "backend": "application"}
    # Its length was told by the application, not between the proxies.
    assert 5 == server.pop("http.response.body.size")
    port = server.pop("client.port")
    assert port > 50_000
    assert common | peer | where == server
    client = pair.collector.one("web", "outbound", "client")
    to = {"network.peer.address": "orders", "network.peer.port": 4143, "server_id": "orders.shop"}
    where = {"direction": "outbound", "network.protocol.version": "1.1", "backend": "orders:80"}
    assert common | to | where == client.attributes
    assert "GET" == client.name
    resource = client.resource
    assert ("web", "shop", "meshcore") == tuple(
        resource[name] for name in ("service.name", "service.namespace", "telemetry.sdk.name")
    )
    assert resource["process.pid"] > 0
    assert resource["host.name"]
    nursery.cancel_scope.cancel()


async def test_each_try_is_a_span_of_its_own_and_the_span_above_has_an_event_for_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    application = mock_service(503, 500, 200)
    pair = await traced(nursery, application)
    await pair.ask((b"traceparent", PARENT))
    await pair.collector.wait_for(8)

    server = pair.collector.one("web", "outbound", "server")
    tries = pair.collector.by("web", "outbound", "client")
    assert [server.span_id] * 3 == [each.parent for each in tries]
    assert [None, 1, 2] == [each.attributes.get("http.request.resend_count") for each in tries]
    assert [503, 500, 200] == [each.attributes["http.response.status_code"] for each in tries]
    assert [("503", True), ("500", True), (None, False)] == [
        (each.attributes.get("error.type"), each.failed) for each in tries
    ]
    assert [
        ("retry", {"http.request.resend_count": 1, "endpoint": "orders:4143", "reason": "503"}),
        ("retry", {"http.request.resend_count": 2, "endpoint": "orders:4143", "reason": "500"}),
    ] == server.events
    assert (200, False) == (server.attributes["http.response.status_code"], server.failed)
    # Each of them is seen at the other end below the try that it was.
    assert [each.span_id for each in tries] == [
        each.parent for each in pair.collector.by("orders", "inbound", "server")
    ]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("flags", [b"00", b"01"])
async def test_what_was_decided_once_is_followed_by_all(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, flags: bytes
) -> None:
    application = mock_service()
    pair = await traced(nursery, application, web=TRACING + "sample = 1\n", orders=TRACING + "sample = 1\n")
    parent = PARENT[:-2] + flags
    await pair.ask((b"traceparent", parent))
    await pair.ask()
    recorded = 4 if flags == b"01" else 0
    await pair.collector.wait_for(recorded + 4)
    await trio.sleep(10)
    assert recorded + 4 == len(pair.collector.spans)
    if flags == b"00":
        assert parent == application.requests[0].headers.get(b"traceparent")
    begun = [span for span in pair.collector.spans if span.trace_id != TRACE]
    assert 1 == len({span.trace_id for span in begun})
    assert "" == next(span for span in begun if span.who == ("web", "outbound", "server")).parent
    nursery.cancel_scope.cancel()


async def test_what_a_proxy_decides_against_is_not_decided_again_by_the_next_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    application = mock_service()
    pair = await traced(nursery, application, web=TRACING + "sample = 1e-9\n", orders=TRACING + "sample = 1\n")
    for _ in range(5):
        await pair.ask()
    await trio.sleep(10)
    assert [] == pair.collector.spans
    flags = [(seen.headers.get(b"traceparent") or b"")[-3:] for seen in application.requests]
    assert [b"-00"] * 5 == flags
    nursery.cancel_scope.cancel()


async def test_without_tracing_fields_pass_as_they_are(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    application = mock_service()
    pair = await traced(nursery, application, web="", orders="")
    fields = [(b"traceparent", PARENT), (b"b3", b"nonsense"), (b"x-b3-traceid", b"1"), (b"grpc-trace-bin", b"AAA")]
    await pair.ask(*fields)
    [seen] = application.requests
    assert fields == [field for field in seen.headers.raw if field in fields]
    stacks = [stack for each in (pair.web, pair.orders) for stack in each.stacks.values()]
    assert not any("trace" in role for stack in stacks for role in stack.roles())
    assert 0 == metric(pair.web, "otlp_")
    nursery.cancel_scope.cancel()


async def test_a_grpc_call_is_told_by_service_method_and_status(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    def call(seen: Request) -> Response:
        body = Chunks()
        body.push(b"\0\0\0\0\0")
        body.push_end([(b"grpc-status", b"5")])
        return Response(200, Headers([(b"content-type", b"application/grpc")]), body)

    pair = await traced(nursery, mock_service(call))
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"traceparent", PARENT)]
    await pair.ask(*fields, method=b"POST", path=b"/shop.Orders/Get", body=b"\0\0\0\0\0", version=20)
    await pair.collector.wait_for(4)
    for span in pair.collector.spans:
        told = {name: value for name, value in span.attributes.items() if name.startswith("rpc.")}
        assert {
            "rpc.system": "grpc",
            "rpc.service": "shop.Orders",
            "rpc.method": "Get",
            "rpc.grpc.status_code": 5,
        } == told
        # Not found is no fault of who serves, and one for who asks.
        assert (span.kind == "client") is span.failed
        assert ("NOT_FOUND" if span.failed else None) == span.attributes.get("error.type")
    nursery.cancel_scope.cancel()


async def test_an_answer_that_a_proxy_made_is_told_by_its_code(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await traced(nursery)
    pair.mesh.network.faults(("orders", 4143)).connect = "refuse"
    answer = await pair.ask((b"traceparent", PARENT))
    await trio.sleep(10)
    server = pair.collector.one("web", "outbound", "server")
    code = answer.headers.get(b"x-meshcore-error")
    assert code is not None
    assert (answer.status, code.decode(), True) == (
        server.attributes["http.response.status_code"],
        server.attributes["error.type"],
        server.failed,
    )
    nursery.cancel_scope.cancel()


async def test_the_access_log_the_spans_and_the_metrics_of_a_request_agree(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    logged = '[proxy]\naccess_log = "json"\n' + TRACING + "sample = 1\n"
    pair = await traced(nursery, mock_service(lambda _: response(503, b"no")), web=logged, orders=logged)
    await pair.ask()
    await pair.collector.wait_for(8)
    await trio.sleep(1)
    nursery.cancel_scope.cancel()
    await trio.lowlevel.checkpoint()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    [web] = [line for line in lines if line["retries"] or line["client_id"] is None]
    server = pair.collector.one("web", "outbound", "server")
    assert server.trace_id in web["trace_id"]
    assert 503 == web["status"]
    tries = pair.collector.by("web", "outbound", "client")
    assert len(tries) - 1 == web["retries"] == len(server.events)
    assert len(tries) == metric(pair.web, "request_total{")


async def test_logs_and_traces_with_one_share_tell_of_the_same_requests(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = '[access_log]\nformat = "json"\nsample = 0.2\n' + TRACING + "sample = 0.2\n"
    pair = await traced(nursery, web=shares, orders=shares)
    for _ in range(100):
        await pair.ask()
    await trio.sleep(10)
    nursery.cancel_scope.cancel()
    await trio.lowlevel.checkpoint()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    told: dict[str, set[str]] = {"inbound": set(), "outbound": set()}
    for line in lines:
        told[line["direction"]].add(line["trace_id"])
    recorded = {span.trace_id for span in pair.collector.spans}
    assert 5 < len(recorded) < 45
    assert told == {"inbound": recorded, "outbound": recorded}


@pytest.mark.parametrize("kind", ["refused", "black-hole", "error", "silent", "closed"])
async def test_a_collector_that_is_not_well_disturbs_nobody_and_what_is_lost_is_counted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, kind: str
) -> None:
    few = TRACING + 'sample = 1\nqueue = 50\nbatch = 10\ntimeout = "2s"\n'
    pair = await traced(nursery, web=few, orders="")
    if kind == "silent":
        pair.collector.answer = trio.sleep_forever  # type: ignore[assignment]
    elif kind == "error":
        pair.collector.answer = partial(response, 503)
    else:
        words: dict[str, Any] = {"refused": "refuse", "black-hole": "black-hole", "closed": "close"}
        pair.mesh.network.faults(COLLECTOR).connect = words[kind]
    for _ in range(100):
        began = trio.current_time()
        assert 200 == (await pair.ask()).status
        assert trio.current_time() == began
    await trio.sleep(400)
    dropped = metric(pair.web, "otlp_spans_dropped_total")
    assert 200 == dropped
    assert metric(pair.web, 'otlp_spans_dropped_total{reason="queue_full"}') >= 130
    assert metric(pair.web, 'otlp_spans_dropped_total{reason="unavailable"}') >= 50
    assert 0 == metric(pair.web, "otlp_spans_exported_total")

    # And once it is well, spans come again.
    pair.mesh.network.heal()
    pair.collector.answer = response
    await pair.ask()
    await pair.collector.wait_for(2)
    assert 2 == metric(pair.web, "otlp_spans_exported_total")
    nursery.cancel_scope.cancel()


async def test_the_last_spans_are_sent_at_the_end_of_a_drain(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = Pair(nursery)
    await pair.mesh.serve(COLLECTOR, pair.collector)
    await pair.mesh.serve(("orders", 4143), mock_service())
    drain = Drain()
    config = WEB.replace('identity = "orders.shop"\n', "").replace('[identity]\nmode = "dev"\n', "")
    await pair.mesh.start(config + TRACING + "sample = 1\n", drain=drain)
    await pair.ask()
    assert [] == pair.collector.spans
    began = trio.current_time()
    drain.start("test")
    await pair.collector.wait_for(2)
    assert trio.current_time() - began < 1
    nursery.cancel_scope.cancel()


async def test_a_collector_that_does_not_answer_does_not_hold_up_the_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh, collector, ended = MemoryMesh(nursery), Collector(), trio.Event()
    collector.answer = trio.sleep_forever  # type: ignore[assignment]
    await mesh.serve(COLLECTOR, collector)
    await mesh.serve(("orders", 4143), mock_service())
    drain = Drain()
    config = WEB.replace('identity = "orders.shop"\n', "").replace('[identity]\nmode = "dev"\n', "")
    told = parse_config(config + TRACING + "sample = 1\n")
    registry: list[Proxy] = []

    async def running() -> None:
        async with trio.open_nursery() as inner:
            start = partial(run, told, drain=drain, connect=mesh.network.connect, listen=mesh.network.open_listeners)
            registry.append(await inner.start(start))
        ended.set()

    nursery.start_soon(running)
    while not registry:
        await trio.sleep(0.01)
    await read_all((await mesh.client(OUTBOUND)(request(authority=b"orders:80"))).body)
    began = trio.current_time()
    drain.start("test")
    await ended.wait()
    assert 1.0 <= trio.current_time() - began <= 2.0
    assert 2 == metric(registry[0], 'otlp_spans_dropped_total{reason="shutdown"}')
    nursery.cancel_scope.cancel()


async def test_a_reload_changes_who_is_recorded_and_who_gets_it_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await traced(nursery, web="", orders="")
    other = Collector()
    await pair.mesh.serve(("other", 4318), other)
    await pair.ask((b"traceparent", PARENT))
    await pair.web.reload(parse_config(WEB + TRACING))
    await pair.ask((b"traceparent", PARENT))
    await pair.ask()
    assert 2 == len(await pair.collector.wait_for(2))

    # The same pipelines, another share: nothing is built anew.
    kept = dict(pair.web.stacks)
    await pair.web.reload(parse_config(WEB + TRACING + "sample = 1\n"))
    assert kept == pair.web.stacks
    await pair.ask()
    assert 4 == len(await pair.collector.wait_for(4))

    await pair.web.reload(parse_config(WEB + TRACING.replace("collector:", "other:")))
    await pair.ask((b"traceparent", PARENT))
    assert 2 == len(await other.wait_for(2))

    await pair.web.reload(parse_config(WEB))
    await pair.ask((b"traceparent", PARENT))
    await trio.sleep(10)
    assert (4, 2) == (len(pair.collector.spans), len(other.spans))
    assert 0 == metric(pair.web, "otlp_spans_dropped_total")
    nursery.cancel_scope.cancel()


async def test_a_request_of_an_embedder_is_a_span_with_its_tries_below(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await traced(nursery, mock_service(503, 200), orders="")
    send = pair.web.client("orders:80")
    answer = await send(request(authority=b"orders:80", headers=[(b"traceparent", PARENT)]))
    await read_all(answer.body)
    await pair.collector.wait_for(3)
    above = pair.collector.one("web", "outbound", "internal")
    assert (TRACE, SPAN) == (above.trace_id, above.parent)
    assert [above.span_id] * 2 == [each.parent for each in pair.collector.by("web", "outbound", "client")]
    pair.mesh.network.faults(("orders", 4143)).connect = "refuse"
    pair.mesh.network.reset_all(("orders", 4143))
    with pytest.raises(MeshError):
        await send(request(authority=b"orders:80", headers=[(b"traceparent", PARENT)]))
    await trio.sleep(10)
    assert pair.collector.by("web", "outbound", "internal")[-1].failed
    nursery.cancel_scope.cancel()
