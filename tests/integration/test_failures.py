"""Retries, circuit breakers and limits of config files, from an application's request to what its services see."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Headers, Response
from meshcore.http.body import Chunks, read_all
from meshcore.testing import MemoryMesh, MockService, mock_service, request, response

OUTBOUND, ADMIN = ("127.0.0.1", 4140), ("127.0.0.1", 4191)
GRPC = [(b"content-type", b"application/grpc")]

WEB = """
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."orders:80"]
endpoints = [{endpoints}]
{more}
[admin]
listen = "127.0.0.1:4191"
"""


class Web:
    """An application's proxy, and services called one, two, …"""

    def __init__(self, mesh: MemoryMesh, services: dict[str, MockService]) -> None:
        self.mesh = mesh
        self.services = services

    async def ask(self, version: int = 11, **options: Any) -> tuple[Response, bytes]:
        answer = await self.mesh.client(OUTBOUND)(request(authority=b"orders:80", version=version, **options))
        return answer, await read_all(answer.body)

    async def statuses(self, count: int) -> list[int]:
        return [(await self.ask())[0].status for _ in range(count)]

    def metrics(self, *names: str) -> dict[str, float]:
        """Samples by name and, of their labels, the last."""
        text = self.mesh.proxies["proxy"].registry.render()
        found = {}
        for line in text.splitlines():
            name, _, rest = line.partition("{")
            if name in names:
                labels, _, value = rest.rpartition("} ")
                found[f"{name} {labels.rpartition(',')[2]}"] = float(value)
        return found

    async def stack(self, role: str) -> list[dict[str, Any]]:
        """What /stack tells of the layers of a role."""
        answer = await self.mesh.client(ADMIN)(request(path=b"/stack", authority=b"127.0.0.1:4191"))
        found: list[dict[str, Any]] = []

        def walk(value: Any) -> None:
            if isinstance(value, dict):
                if value.get("role") == role and "statistics" in value:
                    found.append(value["statistics"])
                for each in value.values():
                    walk(each)
            elif isinstance(value, list):
                for each in value:
                    walk(each)

        walk(json.loads(await read_all(answer.body)))
        return found


async def start(nursery: trio.Nursery, more: str, **services: MockService) -> Web:
    mesh = MemoryMesh(nursery)
    for name, service in services.items():
        await mesh.serve((name, 80), service)
    endpoints = ", ".join(f'"{name}:80"' for name in services)
    await mesh.start(WEB.format(endpoints=endpoints, more=more))
    return Web(mesh, services)


def grpc(code: int, *, data: bytes = b"message") -> Response:
    body = Chunks()
    body.push(data)
    body.push_end([(b"grpc-status", b"%d" % code)])
    return Response(200, Headers(GRPC), body)


@pytest.mark.parity("B-14", "U-09")
async def test_an_endpoint_that_answers_with_errors_is_taken_out_and_comes_back_when_it_is_well(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    well = False
    bad = mock_service(lambda _: response(200 if well else 500))
    web = await start(nursery, "failure_accrual = { consecutive = 3, jitter = 0.0 }", one=mock_service(200), two=bad)

    assert 3 == (await web.statuses(60)).count(500)
    assert 3 == len(bad.requests)
    (breaker, other) = sorted(await web.stack("failure_accrual"), key=lambda told: -told["trips"])
    assert ("open", "consecutive failures", 1, "closed") == (
        breaker["state"],
        breaker["reason"],
        breaker["trips"],
        other["state"],
    )
    name = "circuit_breaker_trips_total"
    assert {f'{name} reason="consecutive failures"': 1.0} == web.metrics(name)

    await trio.sleep(1.1)
    # One tries, and fails: two seconds more.
    assert 1 == (await web.statuses(60)).count(500)
    well = True
    await trio.sleep(2.1)
    assert [200] * 60 == await web.statuses(60)
    assert 10 <= len(bad.requests) - 4
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-05", "X-28", "U-09")
async def test_retries_hide_an_endpoint_that_answers_with_errors(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    web = await start(nursery, 'retry = { on = ["5xx"] }', one=mock_service(200), two=mock_service(503))

    assert [200] * 40 == await web.statuses(40)

    (told,) = [each for each in await web.stack("retry") if each["requests"]]
    assert told["retries"] == told["recovered"] > 5
    name = "outbound_http_route_retry_successes_total"
    assert {f'{name} backend="orders:80"': float(told["recovered"])} == web.metrics(name)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-10", "X-36")
async def test_grpc_statuses_in_trailers_are_tried_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(lambda _: grpc(14), lambda _: grpc(0, data=b"fine"))
    web = await start(nursery, 'retry = { on = ["unavailable"] }', one=service)

    answer, body = await web.ask(20, method=b"POST", headers=GRPC, body=b"call")

    assert b"fine" == body
    assert answer.body.end is not None
    assert (b"grpc-status", b"0") in answer.body.end.trailers
    assert 2 == len(service.requests)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-13", "U-09")
async def test_a_slow_endpoint_is_given_up_for_another_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    slow = mock_service(30.0)
    web = await start(
        nursery, 'retry = { timeout = "500ms" }\nfailure_accrual = { consecutive = 1 }', one=mock_service(200), two=slow
    )

    assert [200] * 20 == await web.statuses(20)

    # That it was too slow counted against it.
    assert 1 == len(slow.requests)
    assert trio.current_time() < 1.0
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-15", "U-09")
async def test_a_request_may_ask_for_retries_where_that_is_allowed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(500, 200)
    web = await start(nursery, "allow_l5d_headers = true\nretry = { limit = 0 }", one=service)

    answer, _ = await web.ask(headers=[(b"l5d-retry-http", b"5xx")])

    assert 200 == answer.status
    assert not [name for seen in service.requests for name, _ in seen.headers.raw if name.startswith(b"l5d-retry")]
    nursery.cancel_scope.cancel()


@pytest.mark.parity("R-17", "R-18", "X-34")
@pytest.mark.parametrize("kind", ["http", "grpc", "deadline"])
async def test_a_request_that_takes_too_long_is_told_so(
    kind: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    service = mock_service(30.0)
    web = await start(nursery, f'timeout = {{ request = "{"20s" if kind == "deadline" else "1s"}" }}', one=service)
    headers = [*GRPC, (b"grpc-timeout", b"1S")] if kind == "deadline" else GRPC

    if kind == "http":
        answer, _ = await web.ask()
        assert 504 == answer.status
    else:
        answer, _ = await web.ask(20, method=b"POST", headers=list(headers))
        assert (200, b"4") == (answer.status, answer.headers.get(b"grpc-status"))
    assert b"stream-timeout" == answer.headers.get(b"x-meshcore-error")
    assert trio.current_time() < 2.0
    if kind == "deadline":
        assert b"1000m" == service.requests[0].headers.get(b"grpc-timeout")
    nursery.cancel_scope.cancel()


@pytest.mark.parity("B-10", "B-17")
async def test_with_every_breaker_open_the_first_are_told_504_and_later_ones_503(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    web = await start(
        nursery, 'failure_accrual = { consecutive = 1, penalty = "30s" }', one=mock_service(500), two=mock_service(500)
    )
    assert [500, 500] == await web.statuses(2)

    first, _ = await web.ask()
    then, _ = await web.ask()

    assert (504, b"fail-fast") == (first.status, first.headers.get(b"x-meshcore-error"))
    assert (503, b"load-shed") == (then.status, then.headers.get(b"x-meshcore-error"))
    assert b"circuit open after consecutive failures" in (then.headers.get(b"l5d-proxy-error") or b"")
    assert trio.current_time() < 3.1
    nursery.cancel_scope.cancel()


async def in_flight(nursery: trio.Nursery, ask: Any, count: int) -> None:
    for _ in range(count):
        nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parity("B-12")
async def test_a_destination_takes_as_many_requests_as_its_limit_says(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    web = await start(nursery, "concurrency_limit = 2", one=mock_service(5.0))
    await in_flight(nursery, web.ask, 2)

    answer, _ = await web.ask()
    assert (503, b"load-shed") == (answer.status, answer.headers.get(b"x-meshcore-error"))
    assert [2] == [each["limit"] for each in await web.stack("concurrency_limit") if each["in_flight"]]
    answer, _ = await web.ask(20, method=b"POST", headers=GRPC)
    assert b"14" == answer.headers.get(b"grpc-status")
    await trio.sleep(6.0)
    assert [200] == await web.statuses(1)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("side", ["inbound", "gateway"])
async def test_a_listener_takes_as_many_requests_as_its_limit_says(
    side: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("orders", 8000), mock_service(5.0))
    if side == "inbound":
        text = '[inbound]\nlisten = "orders:4143"\nforward = "orders:8000"\n'
    else:
        text = '[backend.orders]\nendpoints = ["orders:8000"]\n'
        text += '[listen.public]\nbind = "orders:4143"\nto = [{ backend = "orders" }]\n'
    await mesh.start(text + 'concurrency_limit = { limit = 2, wait = "2s" }\n[admin]\nlisten = "off"\n')

    async def ask() -> int:
        # Each over a connection of its own: they share one limit all the same.
        answer = await mesh.client(("orders", 4143))(request(authority=b"orders:80"))
        await read_all(answer.body)
        status: int = answer.status
        return status

    await in_flight(nursery, ask, 2)
    assert 503 == await ask()
    assert 2.0 == pytest.approx(trio.current_time(), abs=0.1)
    await trio.sleep(1.5)
    assert 200 == await ask()
    nursery.cancel_scope.cancel()


GATEWAY = """
[backend.orders]
endpoints = ["one:80", "two:80"]
failure_accrual = {{ consecutive = 2, penalty = "30s" }}
classify = {{ status = ["418"] }}
[listen.public]
bind = "127.0.0.1:4140"
{where}
[admin]
listen = "127.0.0.1:4191"
"""
PLAIN = 'to = [{ backend = "orders" }]\nretry = { on = ["418"] }\ntimeout = { request = "5s" }'
ROUTED = """
[[listen.public.route]]
match = [{ path = { prefix = "/" } }]
to = [{ backend = "orders" }]
retry = { on = ["418"] }
timeout = { request = "5s" }
"""


@pytest.mark.parametrize("where", [PLAIN, ROUTED], ids=["listener", "route"])
@pytest.mark.parity("R-20", "B-14")
async def test_a_gateway_retries_and_breaks_as_its_listener_its_routes_and_its_backends_say(
    where: str, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    services = {"one": mock_service(200), "two": mock_service(418)}
    for name, service in services.items():
        await mesh.serve((name, 80), service)
    await mesh.start(GATEWAY.format(where=where))
    web = Web(mesh, services)

    assert [200] * 40 == await web.statuses(40)

    # What failed by its backend's own measure was tried elsewhere, twice, and then left alone.
    assert 2 == len(services["two"].requests)
    name = "circuit_breaker_trips_total"
    assert {f'{name} reason="consecutive failures"': 1.0} == web.metrics(name)
    nursery.cancel_scope.cancel()
