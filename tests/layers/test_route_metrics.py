"""RouteMetrics: what clients see of a route, and each try at its backends."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.errors import ConnectError, StreamReset
from meshcore.http.body import Chunks, Full
from meshcore.http.classification import Classification
from meshcore.http.message import Response
from meshcore.layers import Retry, RouteMetrics
from meshcore.metrics import Registry
from meshcore.metrics.route_views import route_views
from meshcore.testing import mock_service, request, response
from meshcore.transport.target import Backend, BackendRef, HttpRoute

ROUTE = HttpRoute("r", parent="public")
REFERENCE = BackendRef(Backend("b"), route="r", parent="public")
LABELS = 'parent_name="public",route_name="r"'


def lines(registry: Registry, *names: str) -> list[str]:
    text = registry.render().splitlines()
    return [line for line in text if line.partition("{")[0] in names]


async def taken(service: Any, sent: Any = None) -> None:
    answer = await service(request() if sent is None else sent)
    while await answer.body.receive_some():
        pass


@pytest.mark.parity("U-10")
async def test_a_route_counts_what_clients_see_by_status_once_it_has_ended(autojump_clock: MockClock) -> None:
    registry = Registry()
    body = Chunks()
    inner = mock_service(200, response(404, b"x"), Response(200, body=body), ConnectError("no"))
    service = RouteMetrics(registry).wrap(inner, ROUTE)
    await taken(service)
    await taken(service)
    answer = await service(request())
    name = "outbound_http_route_request_statuses_total"
    assert lines(registry, name) == [f'{name}{{{LABELS},http_status="{status}"}} 1' for status in (200, 404)]
    await trio.sleep(0.7)
    body.push_end()
    assert answer.body.end is not None
    with pytest.raises(ConnectError):
        await service(request())
    assert lines(registry, name) == [
        f'{name}{{{LABELS},http_status="200"}} 2',
        f'{name}{{{LABELS},http_status="404"}} 1',
        f'{name}{{{LABELS},error="IO"}} 1',
    ]
    duration = "outbound_http_route_request_duration_seconds"
    assert f'{duration}_bucket{{{LABELS},le="0.5"}} 3' in registry.render()
    assert f"{duration}_sum{{{LABELS}}} 0.7" in registry.render()


@pytest.mark.parity("U-10")
async def test_a_body_that_breaks_or_is_given_up_says_so() -> None:
    registry = Registry()
    broken, left = Chunks(), Chunks()
    service = RouteMetrics(registry).wrap(mock_service(Response(200, body=broken), Response(200, body=left)), ROUTE)
    await service(request())
    broken.push_error(StreamReset("no", h2_code=2))
    (await service(request())).body.abort()
    name = "outbound_http_route_request_statuses_total"
    assert lines(registry, name) == [
        f'{name}{{{LABELS},http_status="200",error="RESET"}} 1',
        f'{name}{{{LABELS},http_status="200",error="CANCEL"}} 1',
    ]


@pytest.mark.parity("U-10")
async def test_grpc_calls_count_apart_by_their_status() -> None:
    registry = Registry()
    inner = mock_service(Response(200, body=Full(b"x", [(b"grpc-status", b"5")])))
    service = RouteMetrics(registry).wrap(inner, ROUTE)
    headers = [(b"content-type", b"application/grpc")]
    await taken(service, request(b"POST", version=20, headers=headers))
    name = "outbound_grpc_route_request_statuses_total"
    assert lines(registry, name) == [f'{name}{{{LABELS},grpc_status="5"}} 1']
    assert "outbound_http_route" not in registry.render()


@pytest.mark.parity("U-10", "R-27")
async def test_each_try_at_a_backend_counts() -> None:
    registry = Registry()
    inner = mock_service(ConnectError("no"), 200)
    backend = RouteMetrics(registry, "backend").wrap(inner, REFERENCE)
    service = RouteMetrics(registry).wrap(Retry(1).wrap(backend, ROUTE), ROUTE)
    await taken(service)
    requests = "outbound_http_route_backend_requests_total"
    statuses = "outbound_http_route_backend_response_statuses_total"
    labels = f'{LABELS},backend_name="b"'
    assert lines(registry, requests, statuses) == [
        f"{requests}{{{labels}}} 2",
        f'{statuses}{{{labels},error="IO"}} 1',
        f'{statuses}{{{labels},http_status="200"}} 1',
    ]
    assert lines(registry, "outbound_http_route_request_statuses_total") == [
        f'outbound_http_route_request_statuses_total{{{LABELS},http_status="200"}} 1'
    ]


@pytest.mark.parity("U-10")
async def test_what_comes_in_for_the_application_has_linkerds_names() -> None:
    registry = Registry()
    service = RouteMetrics(registry, "inbound").wrap(mock_service(), HttpRoute("api", parent="inbound"))
    await taken(service)
    text = registry.render()
    assert 'inbound_http_requests_total{parent_name="inbound",route_name="api"} 1' in text
    assert 'inbound_http_statuses_total{parent_name="inbound",route_name="api",http_status="200"} 1' in text
    assert 'inbound_http_request_duration_seconds_count{parent_name="inbound",route_name="api"} 1' in text


@pytest.mark.parametrize("scope", ["route", "backend"])
async def test_what_a_failure_is_can_be_said_for_a_route(scope: Any) -> None:
    registry = Registry()
    target = ROUTE if scope == "route" else REFERENCE
    service = RouteMetrics(registry, scope).wrap(mock_service(404, 503, ConnectError("no")), target)
    said = Classification(failed=frozenset({404}))
    for _ in range(2):
        sent = request()
        sent.classification = said
        await taken(service, sent)
    with pytest.raises(ConnectError):
        await service(request())

    of = f'{LABELS},backend_name="b"' if scope == "backend" else LABELS
    name = f"outbound_http_route_{'request' if scope == 'route' else 'backend_response'}_statuses_total"
    assert lines(registry, name) == [
        f'{name}{{{of},http_status="404",classification="failure"}} 1',
        f'{name}{{{of},http_status="503",classification="success"}} 1',
        f'{name}{{{of},error="IO"}} 1',
    ]
    view = "route_response_total" if scope == "route" else "route_actual_response_total"
    assert sorted(line.partition("classification=")[2] for line in lines(_viewed(registry), view)) == [
        '"failure"} 1',
        '"failure"} 1',
        '"success"} 1',
    ]


def _viewed(registry: Registry) -> Registry:
    route_views(registry)
    return registry


async def test_a_destination_without_routes_has_the_default_one() -> None:
    registry = Registry()
    await taken(RouteMetrics(registry).wrap(mock_service(200), Backend("payments:80")))
    name = "outbound_http_route_request_statuses_total"
    assert lines(registry, name) == [f'{name}{{parent_name="payments:80",route_name="default",http_status="200"}} 1']
