"""What a scrape tells of whole sidecars, scenario by scenario: requests, connections, labels, the admin server."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Proxy, Response
from meshcore.errors import MeshError
from meshcore.http.body import Chunks, read_all
from meshcore.testing import MemoryMesh, mock_service, request, response
from tests.metrics.exposed import Exposed, parse

OUTBOUND, INBOUND, ADMIN = ("127.0.0.1", 4140), ("orders", 4143), ("127.0.0.9", 4191)

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
listen = "127.0.0.9:4191"
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
[outbound.to."plain:80"]
endpoints = ["plain:80"]
[outbound.to."bytes:90"]
listen = "127.0.0.1:9090"
endpoints = ["bytes:90"]
protocol = "tcp"
[outbound.to."orders:5432"]
listen = "127.0.0.1:5432"
endpoints = ["orders:4143"]
protocol = "tcp"
identity = "orders.shop"
[admin]
listen = "127.0.0.1:4191"
"""


class Pair:
    """Web, which calls, and orders, which answers."""

    def __init__(self, mesh: MemoryMesh, web: Proxy, orders: Proxy) -> None:
        self.mesh, self.web, self.orders = mesh, web, orders

    async def ask(self, version: int = 11, authority: bytes = b"orders:80", **more: Any) -> Response:
        answer = await self.mesh.client(OUTBOUND)(request(authority=authority, version=version, **more))
        await read_all(answer.body)
        return answer


async def start(nursery: trio.Nursery, application: Any, more: str = "") -> Pair:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("orders", 8000), application)
    orders = await mesh.start(ORDERS + more)
    web = await mesh.start(WEB + more)
    return Pair(mesh, web, orders)


def total(proxy: Proxy, family: str, **labels: str) -> float:
    """The sum of a family's samples that have these labels, as a strict reader finds them."""
    text = proxy.registry.render()
    found = parse(text).get(family) or parse(text).get(family.rpartition("_")[0]) or Exposed(family, "", "", {})
    return sum(
        value
        for (name, has), value in found.samples.items()
        if name == family and labels.items() <= dict(has).items()
    )


# ----- requests -----


@pytest.mark.parity("X-46")
@pytest.mark.parametrize("version", [11, 20])
async def test_requests_and_responses_are_counted_in_both_directions(
    version: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200))
    for _ in range(3):
        await pair.ask(version)

    secured = {"direction": "outbound", "tls": "true", "server_id": "orders.shop"}
    assert 3 == total(pair.web, "request_total", **secured, target_addr="orders:4143")
    assert 3 == total(pair.web, "response_total", **secured, status_code="200", classification="success")
    served = {"direction": "inbound", "tls": "true", "client_id": "web.shop", "srv_name": "inbound"}
    assert 3 == total(pair.orders, "request_total", **served, target_addr="orders:4143")
    assert 3 == total(pair.orders, "response_total", **served, status_code="200", classification="success")
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-47")
async def test_responses_are_classified_by_their_status(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(lambda sent: response(int(sent.path[1:]))), "")
    statuses = (200, 204, 302, 404, 499, 500, 503, 599)
    for status in statuses:
        await pair.ask(method=b"POST", path=b"/%d" % status)

    for proxy, direction in ((pair.web, "outbound"), (pair.orders, "inbound")):
        for status in statuses:
            expected = "failure" if status >= 500 else "success"
            labels = {"direction": direction, "status_code": str(status)}
            assert 1 == total(proxy, "response_total", classification=expected, **labels)
            assert 1 == total(proxy, "response_total", **labels)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-48", "M-03")
async def test_latencies_land_in_their_buckets_on_both_sides_and_their_sums_add_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    delay = [0.5]

    async def slow(_: Any) -> Response:
        await trio.sleep(delay[0])
        return response(200, b"fine")

    pair = await start(nursery, mock_service(slow))
    await pair.ask()
    delay[0] = 0.0402
    await pair.ask()

    for proxy, direction in ((pair.web, "outbound"), (pair.orders, "inbound")):
        (found,) = (
            each
            for labels, each in parse(proxy.registry.render())["response_latency_ms"].histograms().items()
            if ("direction", direction) in labels
        )
        assert [0, 1, 1, 2] == [found[bound] for bound in ("40", "50", "400", "1000")]
        assert 2 == found["count"]
        assert 540.2 == pytest.approx(found["sum"], abs=1.0)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("M-10")
async def test_a_status_counts_at_the_streams_end_with_why_it_ended(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    body = Chunks()
    await mesh.serve(("one", 80), mock_service(Response(200, body=body)))
    web = await mesh.start(
        '[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."orders:80"]\nendpoints = ["one:80"]\n'
        '[[outbound.to."orders:80".route]]\nname = "all"\ntimeout = { idle = "1s" }\n'
        '[outbound.to."gone:80"]\nendpoints = ["gone:80"]\n[[outbound.to."gone:80".route]]\nname = "all"\n'
        '[admin]\nlisten = "off"\n'
    )
    answer = await mesh.client(OUTBOUND)(request(authority=b"orders:80"))
    name = "outbound_http_route_request_statuses_total"
    assert 200 == answer.status
    assert 0 == total(web, name)
    with pytest.raises(MeshError):
        await read_all(answer.body)
    assert 1 == total(web, name, http_status="200", error="IDLE_TIMEOUT", parent_name="orders:80", route_name="all")

    for _ in range(2):
        assert 503 <= (await mesh.client(OUTBOUND)(request(authority=b"gone:80"))).status <= 504
    assert 2 == total(web, name, parent_name="gone:80")
    assert 2 == total(web, name, parent_name="gone:80", error="FAIL_FAST") + total(web, name, error="LOAD_SHED")
    nursery.cancel_scope.cancel()


async def test_routes_are_told_as_linkerds_route_dashboards_ask_for_them(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    statuses = iter([200, 503, 200, 404, 500, 500])

    async def service(_: Any) -> Response:
        await trio.sleep(0.015)
        return response(next(statuses))

    await mesh.serve(("one", 80), mock_service(service))
    web = await mesh.start(
        '[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."orders:80"]\nendpoints = ["one:80"]\n'
        '[[outbound.to."orders:80".route]]\nname = "all"\nretry = { on = ["5xx"], limit = 1 }\n'
        '[admin]\nlisten = "off"\n'
    )
    for expected in (200, 200, 404, 500):
        answer = await mesh.client(OUTBOUND)(request(authority=b"orders:80"))
        assert expected == answer.status
        await read_all(answer.body)

    route = {"direction": "outbound", "dst": "orders:80", "rt_route": "all"}
    assert 4 == total(web, "route_request_total", **route)
    assert 3 == total(web, "route_response_total", classification="success", **route)
    assert 1 == total(web, "route_response_total", classification="failure", status_code="500", **route)
    assert 6 == total(web, "route_actual_request_total", **route)
    assert 3 == total(web, "route_actual_response_total", classification="failure", **route)
    families = parse(web.registry.render())
    (found,) = families["route_response_latency_ms"].histograms().values()
    assert [0, 2, 4, 4] == [found[bound] for bound in ("10", "20", "40", "count")]
    (seconds,) = families["outbound_http_route_request_duration_seconds"].histograms().values()
    assert ["0.05", "0.5", "1", "10", "+Inf", "sum", "count"] == list(seconds)
    assert found["sum"] == pytest.approx(seconds["sum"] * 1_000)
    retries = {"parent_name": "orders:80", "route_name": "all"}
    assert 2 == total(web, "outbound_http_route_retry_requests_total", **retries)
    assert 1 == total(web, "outbound_http_route_retry_successes_total", **retries)
    assert 1 == total(web, "outbound_http_route_retry_limit_exceeded_total", **retries)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("M-04")
@pytest.mark.parametrize("asked", [False, True])
async def test_there_is_an_authority_label_only_where_it_is_asked_for(
    asked: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200), "[metrics]\nauthority = true\n" if asked else "")
    for authority in (b"orders:80", b"ORDERS:80"):
        await pair.ask(authority=authority)

    for proxy, direction in ((pair.web, "outbound"), (pair.orders, "inbound")):
        assert 2 == total(proxy, "request_total", direction=direction)
        assert (2 if asked else 0) == total(proxy, "request_total", direction=direction, authority="orders:80")
        assert asked == ("authority=" in proxy.registry.render())
    nursery.cancel_scope.cancel()


# ----- labels of endpoints -----


@pytest.mark.parity("X-49")
async def test_labels_of_endpoints_reach_the_metrics_and_follow_updates(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("one", 80), mock_service(200))
    path = tmp_path / "orders.json"

    def tell(**labels: str) -> None:
        path.write_text(json.dumps([{"address": "one:80", "labels": labels}]))

    tell(zone="a", pod="one", odd='"\n{}\\')
    web = await mesh.start(
        f'[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."orders:80"]\ndiscover = "file:{path}"\n'
        '[admin]\nlisten = "off"\n'
    )

    async def ask() -> None:
        await read_all((await mesh.client(OUTBOUND)(request(authority=b"orders:80"))).body)

    await ask()
    assert 1 == total(web, "request_total", dst_zone="a", dst_pod="one", dst_odd='"\n{}\\')
    tell(zone="b", pod="one")
    await trio.sleep(2.5)
    await ask()
    await ask()
    assert 2 == total(web, "request_total", dst_zone="b", dst_pod="one")
    assert 1 == total(web, "request_total", dst_zone="a", dst_pod="one")
    assert 3 == total(web, "request_total", direction="outbound")
    nursery.cancel_scope.cancel()


# ----- connections -----


@pytest.mark.parity("X-52", "M-05")
async def test_connections_and_their_bytes_are_right_and_the_gauge_goes_down_when_they_close(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200))

    async def echo(connection: Any) -> None:
        while data := await connection.receive_some():
            await connection.send_all(data)
        connection.close()

    await pair.mesh.serve_bytes(("bytes", 90), echo)
    connection = await pair.mesh.network.open_stream(("127.0.0.1", 9090))
    await connection.send_all(b"\x00hello")
    assert b"\x00hello" == await connection.receive_some()

    # An endpoint is tried once, before it gets anything.
    ends = (({"peer": "src", "target_port": "9090"}, 0), ({"peer": "dst", "target_addr": "bytes:90"}, 1))
    for labels, tried in ends:
        assert tried + 1 == total(pair.web, "tcp_open_total", direction="outbound", **labels)
        assert 1 == total(pair.web, "tcp_open_connections", **labels)
        assert 6 == total(pair.web, "tcp_read_bytes_total", **labels)
        assert 6 == total(pair.web, "tcp_write_bytes_total", **labels)
        assert tried == total(pair.web, "tcp_close_total", **labels)
    assert 1 == total(pair.web, "outbound_tcp_protocol_connections_total", protocol="opaq")

    await connection.aclose()
    await trio.sleep(1)
    for labels, tried in ends:
        assert 0 == total(pair.web, "tcp_open_connections", **labels)
        assert tried + 1 == total(pair.web, "tcp_close_total", **labels)
        assert 6 == total(pair.web, "tcp_read_bytes_total", **labels)

    await pair.ask()
    served = {"direction": "inbound", "peer": "src", "tls": "true", "client_id": "web.shop"}
    assert 1 == total(pair.orders, "tcp_open_total", **served) == total(pair.orders, "tcp_open_connections", **served)
    assert 1 == total(pair.orders, "tcp_open_total", direction="inbound", peer="dst")
    assert total(pair.orders, "tcp_read_bytes_total", **served) > 50
    assert 1 == total(pair.web, "outbound_tcp_protocol_connections_total", protocol="http/1")
    nursery.cancel_scope.cancel()


async def test_connections_with_a_transport_header_are_counted_by_what_it_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200))
    stream = await pair.mesh.network.open_stream(("127.0.0.1", 5432))
    await stream.send_all(b"hello")
    await trio.sleep(2)

    family = "inbound_tcp_transport_header_connections_total"
    assert 1 == total(pair.orders, family, target_port="5432", client_id="web.shop")
    await stream.aclose()
    nursery.cancel_scope.cancel()


# ----- the admin server, and the text itself -----


@pytest.mark.parity("X-45")
async def test_admin_traffic_is_counted_under_its_own_labels(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200))
    admin = pair.mesh.client(ADMIN)
    for path, status in ((b"/ready", 200), (b"/ready", 200), (b"/nothing", 404)):
        answer = await admin(request(path=path, authority=b"localhost:4191"))
        assert status == answer.status
        await read_all(answer.body)

    own = {"direction": "admin", "srv_name": "admin", "listener": "admin", "target_port": "4191"}
    assert 3 == total(pair.orders, "request_total", **own)
    assert 2 == total(pair.orders, "response_total", status_code="200", classification="success", **own)
    assert 1 == total(pair.orders, "response_total", status_code="404", **own)
    assert 3 == total(pair.orders, "request_total")
    assert 1 == total(pair.orders, "tcp_open_total", direction="admin", peer="src", target_port="4191")
    await pair.ask()
    assert 3 == total(pair.orders, "request_total", **own)
    assert 4 == total(pair.orders, "request_total")
    nursery.cancel_scope.cancel()


@pytest.mark.parity("X-50", "X-51", "X-53")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("accept", [b"", b"application/openmetrics-text"])
async def test_the_exposition_can_be_read_strictly_and_has_the_start_time(
    accept: bytes, compressed: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200, 500, 404))
    for version in (11, 20, 20):
        await pair.ask(version, method=b"POST")
    headers = [(b"accept", accept)] if accept else []
    if compressed:
        headers.append((b"accept-encoding", b"gzip"))
    answer = await pair.mesh.client(ADMIN)(request(path=b"/metrics", authority=b"127.0.0.1", headers=headers))
    data = await read_all(answer.body)

    assert (b"gzip" if compressed else None) == answer.headers.get(b"content-encoding")
    text = (gzip.decompress(data) if compressed else data).decode()
    families = parse(text, openmetrics=bool(accept))
    assert 1.5e9 < families["process_start_time_seconds"].samples["process_start_time_seconds", ()]
    for wrong in (",,", "{,", ",}", "{}"):
        assert wrong not in text
    nursery.cancel_scope.cancel()


# ----- tap -----


async def test_what_the_program_itself_asks_is_tapped_as_its_applications_requests_are(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pair = await start(nursery, mock_service(200))
    async with pair.web.tap() as events:
        answer = await pair.web.client("orders:80")(request(authority=b"orders:80"))
        await read_all(answer.body)
        await pair.ask()
        seen = [events.receive_nowait() for _ in range(6)]
        with pytest.raises(MeshError):
            await pair.web.client("plain:80")(request(authority=b"plain:80"))
        *_, failed = [events.receive_nowait() for _ in range(2)]
    kinds = ["request_init", "response_init", "response_end"]
    assert [(kind, "outbound") for kind in kinds * 2] == [(each["event"], each["direction"]) for each in seen]
    mine, applications = seen[2], seen[5]
    assert {"addr": None, "identity": None, "secured": False} == mine["source"]
    assert "orders.shop" == mine["target"]["identity"]
    told = ("target", "secured", "backend", "method", "authority", "path", "status", "response_bytes", "retries")
    assert {name: mine[name] for name in told} == {name: applications[name] for name in told}
    assert (None, True) == (failed["status"], failed["failed"])
    nursery.cancel_scope.cancel()
