"""Metrics, TcpMetrics, ConnectMetrics: what is counted, when, and with which labels."""

from __future__ import annotations

import errno
import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import ConnectionLost, ConnectTimeout, FailFastError, ResponseTimeout, StreamReset
from meshcore.http.body import Chunks, Empty, Full, read_all
from meshcore.http.classification import Classification
from meshcore.http.headers import Headers
from meshcore.http.message import Response
from meshcore.layers.classify import Classify
from meshcore.layers.connect_metrics import ConnectMetrics
from meshcore.layers.metrics import Metrics
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.metrics import Registry
from meshcore.metrics.connections import ConnectionCounts
from meshcore.stack import role, stack
from meshcore.testing import MockNewService, memory_connection_pair, mock_service, request, response
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Backend, Endpoint, TlsClient

GRPC = [(b"content-type", b"application/grpc")]
ENDPOINT = Endpoint(("10.0.0.1", 8080), labels=(("pod", "web-1"),))


def samples(registry: Registry, family: str) -> dict[str, float]:
    """The samples of one family by their labels, those that are always the same left out."""
    found = {}
    for line in registry.render().splitlines():
        match = re.fullmatch(rf"{family}\{{(.*)\}} (\S+)", line)
        if match:
            always = r'(direction|target_\w+|tls|no_tls_reason|dst_pod|listener|srv_name)="[^"]*",?'
            labels = re.sub(always, "", match[1])
            found[labels.strip(",")] = float(match[2])
    return found


async def measured(inner: Any, nursery: trio.Nursery, target: Any = ENDPOINT) -> tuple[Any, Registry]:
    registry = Registry()
    new: Any = MockNewService(lambda target: inner)
    return Metrics(registry).layer(new).new_service(target, nursery), registry


async def test_a_request_is_counted_at_once_and_its_response_at_its_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    body = Chunks()
    service, registry = await measured(mock_service(0.0, Response(200, body=body)), nursery)

    answer = await service(request())
    assert {"": 1} == samples(registry, "request_total")
    assert {} == samples(registry, "response_total")

    body.push(b"x")
    await answer.body.receive_some()
    assert {} == samples(registry, "response_total")

    body.push_end()
    assert {'status_code="200",classification="success"': 1} == samples(registry, "response_total")


@pytest.mark.parity("B-03", "X-48")
async def test_the_latency_ends_at_the_first_byte_of_the_body(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    body = Chunks()
    service, registry = await measured(mock_service(0.25, Response(200, body=body)), nursery)

    answer = await service(request())
    await trio.sleep(0.1)
    body.push(b"x")
    await answer.body.receive_some()
    await trio.sleep(1_000)
    body.push_end()

    assert pytest.approx(350.0) == samples(registry, "response_latency_ms_sum")['status_code="200"']
    buckets = samples(registry, "response_latency_ms_bucket")
    assert 0 == buckets['status_code="200",le="300"']
    assert 1 == buckets['status_code="200",le="400"']


@pytest.mark.parity("R-20", "X-47")
@pytest.mark.parametrize(
    ("status", "classification"),
    [(200, "success"), (404, "success"), (499, "success"), (500, "failure"), (599, "failure")],
)
async def test_a_failure_is_500_to_599(
    status: int, classification: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service, registry = await measured(mock_service(status), nursery)
    await service(request())

    assert {f'status_code="{status}",classification="{classification}"': 1} == samples(registry, "response_total")


@pytest.mark.parity("R-20")
@pytest.mark.parametrize(
    ("headers", "trailers", "expected"),
    [
        ([], [(b"grpc-status", b"0")], 'classification="success",grpc_status="0"'),
        ([], [(b"grpc-status", b"5")], 'classification="success",grpc_status="5"'),
        ([], [(b"grpc-status", b"14")], 'classification="failure",grpc_status="14"'),
        ([], [(b"grpc-status", b"15")], 'classification="failure",grpc_status="15"'),
        ([], [(b"grpc-status", b"bogus")], 'classification="failure",grpc_status="2"'),
        ([], [], 'classification="success",grpc_status="2"'),
        ([(b"grpc-status", b"7")], [], 'classification="failure",grpc_status="7"'),
    ],
)
async def test_grpc_is_classified_by_its_status_in_headers_or_trailers(
    headers: Any, trailers: Any, expected: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    body = Empty() if headers else Full(b"message", trailers)
    service, registry = await measured(mock_service(Response(200, Headers(headers), body)), nursery)

    answer = await service(request(b"POST", headers=GRPC, version=20))
    await read_all(answer.body)

    assert {f'status_code="200",{expected}': 1} == samples(registry, "response_total")


@pytest.mark.parity("R-21")
@pytest.mark.parametrize(
    ("error", "label"),
    [
        (ResponseTimeout("x"), "timeout"),
        (ConnectTimeout("x"), "timeout"),
        (StreamReset("x", h2_code=7), "h2(REFUSED_STREAM)"),
        (StreamReset("x", h2_code=99), "h2(UNKNOWN)"),
        (FailFastError("x"), "fail-fast"),
        (ConnectionLost("x"), "connection-lost"),
        (ValueError("x"), "unclassified"),
    ],
)
async def test_an_exchange_without_a_response_is_a_failure_with_its_error(
    error: Exception, label: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service, registry = await measured(mock_service(error), nursery)
    with pytest.raises(type(error)):
        await service(request())

    assert {f'classification="failure",error="{label}"': 1} == samples(registry, "response_total")

    service, registry = await measured(mock_service(Response(200, body=(body := Chunks()))), nursery)
    await service(request())
    body.push_error(error)

    expected = f'status_code="200",classification="failure",error="{label}"'
    assert {expected: 1} == samples(registry, "response_total")


async def test_a_client_that_leaves_is_no_failure_of_the_response(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service, registry = await measured(mock_service(Response(200, body=Chunks())), nursery)
    (await service(request())).body.abort()
    assert {'status_code="200",classification="success",error="cancelled"': 1} == samples(registry, "response_total")

    service, registry = await measured(mock_service(lambda sent: trio.sleep_forever()), nursery)
    with trio.move_on_after(1):
        await service(request())
    assert {'classification="failure",error="cancelled"': 1} == samples(registry, "response_total")


async def test_responses_and_requests_add_up(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    steps: list[Any] = [response(200), response(503), ConnectionLost("x"), Response(200, body=Full(b"x")), 204]
    service, registry = await measured(mock_service(*steps), nursery)
    for _ in range(20):
        try:
            answer = await service(request())
        except ConnectionLost:
            continue
        answer.body.abort()

    assert 20 == sum(samples(registry, "request_total").values()) == sum(samples(registry, "response_total").values())


async def test_the_labels_are_the_targets(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    secured = Endpoint(("::1", 443), tls=TlsClient("users.internal", identity="users.shop"))
    cases: list[tuple[Any, str, str]] = [
        (
            ENDPOINT,
            "endpoint",
            'direction="outbound",target_addr="10.0.0.1:8080",target_ip="10.0.0.1",target_port="8080",'
            'tls="no_identity",no_tls_reason="not_provided_by_service_discovery",dst_pod="web-1"',
        ),
        (
            secured,
            "outbound",
            'direction="outbound",target_addr="[::1]:443",target_ip="::1",target_port="443",tls="true",'
            'server_id="users.shop"',
        ),
        (
            Accepted("public", ("10.0.0.9", 80), ("10.1.1.1", 5)),
            "inbound",
            'direction="inbound",target_addr="10.0.0.9:80",target_ip="10.0.0.9",target_port="80",tls="no_identity",'
            'no_tls_reason="no_tls_from_remote",listener="public",srv_name="public"',
        ),
        (
            Accepted("public", ("10.0.0.9", 80), ("10.1.1.1", 5), secure=True, client_id="web.shop"),
            "inbound",
            'direction="inbound",target_addr="10.0.0.9:80",target_ip="10.0.0.9",target_port="80",tls="true",'
            'listener="public",srv_name="public",client_id="web.shop"',
        ),
        (Backend("users"), "outbound", 'direction="outbound",backend="users"'),
        ("anything", "inbound", 'direction="inbound"'),
    ]
    for target, scope, labels in cases:
        registry = Registry()
        service: Any = Metrics(registry, scope).layer(MockNewService()).new_service(target, nursery)
        await service(request())
        assert f"request_total{{{labels}}} 1\n" in registry.render()


async def test_connections_accepted_at_one_address_share_their_series(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry()
    new: Any = Metrics(registry, "inbound").layer(MockNewService())
    services = [new.new_service(Accepted("l", ("10.0.0.9", 80), ("10.1.1.1", port)), nursery) for port in range(5)]
    for service in services:
        await service(request())

    assert 1 == len({id(service._series) for service in services})
    assert {"": 5} == samples(registry, "request_total")


def test_it_prints_its_scope_and_may_have_another_role() -> None:
    assert "Metrics(scope='outbound')" == repr(Metrics(Registry(), "outbound"))
    with pytest.raises(ValueError, match="scope"):
        Metrics(Registry(), "sideways")


# ----- connections -----


@pytest.mark.parity("M-05", "X-52")
async def test_accepted_connections_are_counted_with_their_bytes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry()
    running = trio.Event()

    class Echo:
        def new_service(self, target: Accepted, under: trio.Nursery, /) -> Any:
            async def serve(connection: Connection) -> None:
                await connection.send_all(await connection.receive_some())
                await running.wait()
                connection.close()

            return serve

    target = Accepted("public", ("10.0.0.9", 80))
    service: Any = TcpMetrics(registry).layer(Echo()).new_service(target, nursery)
    client, server = memory_connection_pair()
    nursery.start_soon(service, server)
    await client.send_all(b"12345")
    assert b"12345" == await client.receive_some()

    key = 'peer="src"'
    assert {key: 1} == samples(registry, "tcp_open_total") == samples(registry, "tcp_open_connections")
    assert {key: 5} == samples(registry, "tcp_read_bytes_total") == samples(registry, "tcp_write_bytes_total")
    assert 'tls="no_identity",no_tls_reason="no_tls_from_remote"' in registry.render()

    running.set()
    await client.receive_some()
    await trio.sleep(1)
    assert {key: 0} == samples(registry, "tcp_open_connections")
    assert {key: 1} == samples(registry, "tcp_close_total")
    assert {key: 5} == samples(registry, "tcp_read_bytes_total")


@pytest.mark.parity("M-05", "X-52")
async def test_connections_made_are_counted_until_they_are_closed_with_the_reason(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry()
    made: list[Any] = []

    async def connect(endpoint: Endpoint) -> Connection:
        await trio.lowlevel.checkpoint()
        made.append(memory_connection_pair())
        return made[-1][0]  # type: ignore[no-any-return]

    counted = ConnectMetrics(registry).layer(connect)
    for _ in range(3):
        await counted(ENDPOINT)
    await made[0][0].send_all(b"1234")
    made[0][0].close()
    made[1][0].error = ConnectionLost("x")
    made[1][0].error.__cause__ = OSError(errno.ECONNRESET, "reset")
    made[1][0].close()

    key = 'peer="dst"'
    for _ in range(2):
        assert {key: 3} == samples(registry, "tcp_open_total")
        assert {key: 1} == samples(registry, "tcp_open_connections")
        assert {key: 4} == samples(registry, "tcp_write_bytes_total")
        assert {key: 1, f'{key},errno="ECONNRESET"': 1} == samples(registry, "tcp_close_total")


async def test_connect_errors_open_nothing(autojump_clock: MockClock) -> None:
    registry = Registry()

    async def connect(endpoint: Endpoint) -> Connection:
        raise ConnectTimeout("x")

    with pytest.raises(ConnectTimeout):
        await ConnectMetrics(registry).layer(connect)(ENDPOINT)
    assert {} == samples(registry, "tcp_open_total")


async def test_closed_connections_are_let_go_without_a_scrape(autojump_clock: MockClock) -> None:
    counts = ConnectionCounts(Registry(), "outbound", "dst")
    for _ in range(1_000):
        client, server = memory_connection_pair()
        series = counts.series(ENDPOINT, client)
        series.add(client)
        client.close()
        server.close()

    assert len(series.live) <= 64


async def test_series_of_connections_that_are_closed_make_room_for_those_of_others(autojump_clock: MockClock) -> None:
    registry = Registry(max_series=64)
    accepted, made = ConnectionCounts(registry, "inbound", "src"), ConnectionCounts(registry, "outbound", "dst")
    for number in range(64):
        client, server = memory_connection_pair()
        series = accepted.series(Accepted("public", (f"10.0.0.{number}", 80)), client)
        series.add(client)
        client.close()
        server.close()
    del series

    client, server = memory_connection_pair()
    made.series(ENDPOINT, client).add(client)

    opened = [line for line in registry.render().splitlines() if line.startswith("tcp_open_total{")]
    assert 65 == sum(int(line.rpartition(" ")[2]) for line in opened)
    assert 1 == sum('peer="dst"' in line for line in opened)
    client.close()
    server.close()


async def test_a_stack_may_have_two_by_name() -> None:
    registry = Registry()
    both = stack(Endpoint).then(Metrics(registry, "inbound", name="above")).then(Metrics(registry, name="below"))

    assert ["above", "below"] == both.roles()
    assert "metrics" == role(Metrics(registry))
    assert both.remove("above").roles() == ["below"]


@pytest.mark.parity("R-20", "R-21")
async def test_what_a_failure_is_can_be_said_for_a_route(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    registry = Registry()
    inner = MockNewService(lambda _: mock_service(404))
    measured = Metrics(registry).layer(inner).new_service("users", nursery)
    strict = Classify(Classification.of(["404"], [])).wrap(measured, "users")
    for service in (measured, strict, strict):
        await read_all((await service(request())).body)

    text = registry.render()
    assert 'status_code="404",classification="success"} 1' in text
    assert 'status_code="404",classification="failure"} 2' in text
