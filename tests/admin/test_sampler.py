"""The sampler, under a clock that jumps: exact figures of a whole mesh in memory."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore import Headers, Proxy, Request, Response
from meshcore.abc import HttpService
from meshcore.admin.stats import EndpointFigures, Golden, Stats
from meshcore.admin.stats.page import stats_page
from meshcore.admin.stats.sampler import Sampler
from meshcore.http.body import Full, read_all
from meshcore.testing import MemoryMesh, request, response
from tests.admin.sampled import Sampled

FIXTURE = Path(__file__).parent.parent / "fixtures" / "stats.json"
GATEWAY = """
[service]
name = "edge"
namespace = "shop"
[listen.public]
bind = "edge:8080"
[[listen.public.route]]
name = "slow"
match = [{ path = { prefix = "/slow" } }]
retry = { limit = 0 }
to = [{ backend = "one" }]
[[listen.public.route]]
name = "quick"
retry = { limit = 0 }
to = [{ backend = "both" }]
[backend.one]
endpoints = ["a:80"]
[backend.both]
endpoints = ["a:80", "b:80"]
[admin]
listen = "127.0.0.9:4191"
"""


async def application(asked: Request) -> Response:
    if asked.path.startswith(b"/slow"):
        await trio.sleep(0.15)
    return response(500 if b"fail" in asked.path else 200, b"x")


class Clients:
    """Sends requests to a gateway, and reads the answers."""

    def __init__(self, service: HttpService) -> None:
        self.service = service

    async def send(self, path: bytes, times: int = 1) -> None:
        for _ in range(times):
            answer = await self.service(request(path=path, authority=b"shop"))
            await read_all(answer.body)


async def gateway(nursery: trio.Nursery, text: str = GATEWAY) -> tuple[MemoryMesh, Proxy, Clients]:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("a", 80), application)
    await mesh.serve(("b", 80), application)
    proxy = await mesh.start(text)
    return mesh, proxy, Clients(mesh.client(("edge", 8080)))


async def over(proxy: Proxy, window: float, during: Callable[[], Awaitable[None]]) -> Stats:
    """The figures of a window within which something is done, the sampler looking already."""
    await proxy.stats()
    await during()
    assert proxy.sampler is not None
    # Until the look after what was done.
    await trio.sleep(1.0)
    return await proxy.stats(window)


def bucket(proxy: Proxy, family: str, value: float) -> tuple[float, float]:
    """The bounds of the bucket that a value is counted in."""
    (found,) = [each for each in proxy.registry.families() if each.name == family]
    bounds = (0.0, *found.series()[0][1].bounds)
    index = bisect_left(bounds, value) or 1
    return bounds[index - 1], bounds[index]


async def test_rates_success_and_latencies_are_exact(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    _, proxy, clients = await gateway(nursery)
    await clients.send(b"/", 3)

    async def load() -> None:
        await clients.send(b"/slow", 4)
        await clients.send(b"/fail", 1)
        await clients.send(b"/", 5)

    stats = await over(proxy, 10, load)
    # Two looks at least: what came before the first of them is in no window.
    assert stats.window == pytest.approx(round(stats.window))
    seconds = stats.window
    rows = {(each.parent, each.route): each for each in stats.routes}
    assert set(rows) == {("public", "slow"), ("public", "quick")}
    slow, quick = rows["public", "slow"], rows["public", "quick"]
    assert (slow.direction, slow.golden.requests, slow.golden.success) == ("inbound", 4, 1.0)
    assert slow.golden.rps == pytest.approx(4 / seconds)
    # All of them in one bucket: evenly spread there.
    low, high = bucket(proxy, "outbound_http_route_request_duration_seconds", 0.15)
    spread = [1_000 * (low + part * (high - low)) for part in (0.5, 0.95, 0.99)]
    assert [slow.golden.p50, slow.golden.p95, slow.golden.p99] == pytest.approx(spread)
    assert (quick.golden.requests, quick.golden.success) == (6, pytest.approx(5 / 6))
    assert quick.golden.p50 == pytest.approx(500 * bucket(proxy, "outbound_http_route_request_duration_seconds", 0)[1])
    # In the other one those of all routes.
    assert stats.total["inbound"].p99 == pytest.approx(197.5)
    assert (stats.total["inbound"].requests, stats.total["inbound"].success) == (10, 0.9)
    assert stats.total["outbound"].requests == 10
    assert stats.overflow.requests == 0


async def test_backends_that_share_an_endpoint_get_what_their_balancers_gave_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    _, proxy, clients = await gateway(nursery)

    async def load() -> None:
        await clients.send(b"/slow", 4)
        await clients.send(b"/", 8)

    await clients.send(b"/")
    await clients.send(b"/slow")
    stats = await over(proxy, 10, load)
    backends = {each.backend: each for each in stats.backends}
    assert {name: each.golden.requests for name, each in backends.items()} == {"one": 4, "both": 8}
    assert (backends["both"].ready, backends["both"].pending, backends["both"].retry_budget) == (2, 0, None)
    endpoints = {(each.backend, each.address): each for each in stats.endpoints}
    assert set(endpoints) == {("one", "a:80"), ("both", "a:80"), ("both", "b:80")}
    assert endpoints["one", "a:80"].golden.requests == 4
    both = [endpoints["both", address].golden.requests for address in ("a:80", "b:80")]
    assert sum(both) == 8
    assert all(each.state == "ready" and each.breaker == "none" for each in stats.endpoints)


async def test_a_window_looks_back_as_far_as_it_says(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    _, proxy, clients = await gateway(nursery)
    await proxy.stats()
    # Between two looks, each time.
    await trio.sleep(0.5)
    for _ in range(8):
        await clients.send(b"/", 2)
        await trio.sleep(1.0)
    for window in (1, 3, 5):
        stats = await proxy.stats(window)
        assert stats.window == pytest.approx(window)
        assert stats.total["inbound"].requests == 2 * window
        assert stats.total["inbound"].rps == pytest.approx(2.0)
    # There is no more than it has seen; and no more than a minute.
    assert (await proxy.stats(60)).window == pytest.approx(9.0, abs=1.0)


async def test_the_first_who_asks_waits_for_a_second(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    _, proxy, clients = await gateway(nursery)
    await clients.send(b"/", 5)
    began = trio.current_time()
    stats = await proxy.stats(10)
    assert trio.current_time() - began == pytest.approx(1.0)
    assert (stats.window, stats.total["inbound"].requests) == (pytest.approx(1.0), 0)
    began = trio.current_time()
    await proxy.stats(10)
    assert trio.current_time() == began


async def test_it_looks_only_while_somebody_asks(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    await trio.sleep(100)
    assert (sampler.looking, sampled.asked) == (False, 0)
    await sampler.stats()
    await trio.sleep(10)
    assert sampler.looking
    await trio.sleep(10)
    looked = sampled.asked
    # 15 s after the question.
    assert 14 <= looked <= 17
    assert not sampler.looking
    await trio.sleep(100)
    assert sampled.asked == looked
    # Whoever comes then sees what comes from then on.
    sampled.counter.value += 50
    assert (await sampler.stats()).total["inbound"].requests == 0


async def test_many_who_ask_cost_one_look_and_one_reckoning(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    found: list[Stats] = []

    async def ask() -> None:
        found.append(await sampler.stats(10))

    async with trio.open_nursery() as viewers:
        for _ in range(50):
            viewers.start_soon(ask)
    assert sampled.asked == 2
    assert all(each is found[0] for each in found)


async def test_no_more_than_a_minute_is_kept(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    for _ in range(20):
        await sampler.stats(60)
        sampled.counter.value += 10
        await trio.sleep(10)
    stats = await sampler.stats(1_000)
    assert stats.window == pytest.approx(60.0)
    assert stats.total["inbound"].requests == 60


async def test_counters_that_begin_anew_and_series_that_vanish_leave_no_hole(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    sampled.counter.value = 1_000
    await sampler.stats()
    sampled.counter.value += 7
    await trio.sleep(1.5)
    sampled.counter.value = 5
    await trio.sleep(1.5)
    assert (await sampler.stats(60)).total["inbound"].requests == 12
    sampled.gone = True
    await trio.sleep(1.5)
    sampled.gone = False
    sampled.counter.value = 3
    await trio.sleep(1.5)
    stats = await sampler.stats(60)
    assert stats.total["inbound"].requests == 15
    assert stats.total["inbound"].rps >= 0


async def test_what_cannot_be_told_apart_is_in_no_other_figure(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampled = Sampled(max_series=3)
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    await sampler.stats()
    for number in range(10):
        sampled.request("inbound", "public", f"10.0.0.{number}:80").value += 1
    await trio.sleep(1.5)
    stats = await sampler.stats(60)
    assert stats.overflow.requests > 0
    assert stats.overflow.requests + stats.total["inbound"].requests == 10


async def test_lists_are_bounded_the_busiest_first(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sampled = Sampled(max_series=5_000)
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    await sampler.stats()
    for number in range(700):
        sampled.request("inbound", f"listener-{number}", "10.0.0.1:80").value += number + 1
    await trio.sleep(1.5)
    stats = await sampler.stats(60)
    assert (len(stats.routes), stats.more["routes"]) == (500, 200)
    assert [each.golden.requests for each in stats.routes[:2]] == [700, 699]
    assert (len(stats.edges), stats.more["edges"]) == (500, 200)


async def test_a_look_that_crashes_is_told_and_ends_nothing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    sampled.broken = 3
    nursery.start_soon(sampler.run)
    assert (await sampler.stats()).total["inbound"].requests == 0
    assert sampled.crashes == [("the sampler", "ValueError: broken")] * 3


async def test_who_waits_is_told_what_is_known_when_it_is_stopped(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampler = Sampler(Sampled())

    async def stop() -> None:
        await trio.sleep(0.5)
        sampler.stop()

    nursery.start_soon(sampler.run)
    nursery.start_soon(stop)
    stats = await sampler.stats()
    assert (stats.window, stats.total["inbound"].rps, trio.current_time()) == (0.0, 0.0, pytest.approx(0.5))


async def test_an_embedder_may_ask_without_an_admin_server(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    text = GATEWAY.replace('listen = "127.0.0.9:4191"', 'listen = "off"')
    _, proxy, clients = await gateway(nursery, text)
    await clients.send(b"/")
    stats = await proxy.stats(1)
    assert (stats.proxy.name, stats.proxy.namespace, stats.proxy.state) == ("edge", "shop", "ready")
    assert stats.time == pytest.approx(proxy.sampler.time()) if proxy.sampler else False


async def test_routes_that_have_seen_nothing_are_told_too(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    _, proxy, _ = await gateway(nursery)
    stats = await proxy.stats(1)
    assert [(each.direction, each.parent, each.route, each.golden.requests) for each in stats.routes] == [
        ("inbound", "public", "quick", 0),
        ("inbound", "public", "slow", 0),
    ]


SIDECARS = """
[service]
name = "{name}"
namespace = "shop"
[identity]
mode = "dev"
[inbound]
listen = "{name}:4143"
forward = "{name}:8000"
[outbound]
listen = "{name}:4140"
[outbound.to."{other}:80"]
endpoints = ["{other}:4143"]
identity = "{other}.shop"
retry = {{ limit = 1 }}
[outbound.to."plain:80"]
endpoints = ["plain:80"]
failure_accrual = {{ consecutive = 2, penalty = "10s..20s" }}
[admin]
listen = "{name}:4191"
open = ["/live", "/ready"]
"""


async def test_edges_tell_who_talks_to_whom_and_how_it_is_secured(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    for name in ("web:8000", "orders:8000", "plain:80"):
        host, _, port = name.partition(":")
        await mesh.serve((host, int(port)), application)
    web = await mesh.start(SIDECARS.format(name="web", other="orders"))
    orders = await mesh.start(SIDECARS.format(name="orders", other="web"))
    outbound = mesh.client(("web", 4140))
    stranger = mesh.client(("orders", 4143))
    await web.stats()
    await orders.stats()
    for _ in range(3):
        await read_all((await outbound(request(authority=b"orders:80"))).body)
        await read_all((await outbound(request(authority=b"plain:80"))).body)
    await read_all((await stranger(request(authority=b"orders"))).body)
    await trio.sleep(1.5)
    told = await web.stats(60)
    going = {each.target: each for each in told.edges if each.direction == "outbound"}
    secured = going["orders:80"]
    assert (secured.source, secured.secured, secured.no_tls_reason) == ("web.shop", True, "")
    assert (secured.source_identity, secured.target_identity) == ("web.shop", "orders.shop")
    assert (secured.golden.requests, secured.connections) == (3, 1)
    plain = going["plain:80"]
    assert (plain.secured, plain.no_tls_reason) == (False, "not_provided_by_service_discovery")
    assert (plain.source_identity, plain.target_identity, plain.golden.requests) == (None, None, 3)
    assert {(each.direction, each.parent, each.route, each.golden.requests) for each in told.routes} == {
        ("outbound", "orders:80", "default", 3),
        ("outbound", "plain:80", "default", 3),
    }
    budgets = {each.backend: each.retry_budget for each in told.backends}
    assert budgets == {"orders:80": pytest.approx(1.0), "plain:80": pytest.approx(1.0)}
    told = await orders.stats(60)
    coming = {each.source: each for each in told.edges if each.direction == "inbound"}
    assert set(coming) == {"web.shop", "unknown"}
    known = coming["web.shop"]
    assert (known.target, known.secured, known.source_identity) == ("orders.shop", True, "web.shop")
    assert (known.target_identity, known.golden.requests, known.connections) == ("orders.shop", 3, 1)
    unknown = coming["unknown"]
    assert (unknown.secured, unknown.no_tls_reason, unknown.source_identity) == (False, "no_tls_from_remote", None)
    assert (unknown.golden.requests, unknown.connections) == (1, 1)
    application_told = {each.backend: each for each in told.backends}["application"]
    assert (application_told.direction, application_told.golden.requests) == ("inbound", 4)


async def test_an_open_breaker_is_seen_at_its_endpoint_and_its_backend(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(("plain", 80), application)
    web = await mesh.start(SIDECARS.format(name="web", other="orders"))
    outbound = mesh.client(("web", 4140))
    await web.stats()
    for _ in range(2):
        await read_all((await outbound(request(authority=b"plain:80", path=b"/fail"))).body)
    await trio.sleep(1.5)
    told = await web.stats(60)
    found = next(each for each in told.endpoints if each.address == "plain:80")
    assert (found.breaker, found.state, found.golden.success) == ("open", "pending", 0.0)
    backend = next(each for each in told.backends if each.backend == "plain:80")
    assert (backend.breakers_open, backend.ready, backend.pending) == (1, 0, 1)


async def test_an_endpoint_that_is_gone_is_told_as_long_as_the_window_has_requests_of_its_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    await sampler.stats()
    sampled.request("outbound", "", "10.0.0.9:80").value += 4
    await trio.sleep(1.5)
    (found,) = (await sampler.stats(60)).endpoints
    assert isinstance(found, EndpointFigures)
    assert (found.address, found.backend, found.state, found.golden.requests) == ("10.0.0.9:80", "", "draining", 4)


# ----- the page -----


async def admin(mesh: MemoryMesh, path: bytes, method: bytes = b"GET") -> tuple[int, Any]:
    service = mesh.client(("127.0.0.9", 4191))
    answer = await service(Request(method, b"http", b"127.0.0.1:4191", path, Headers([]), Full(b"")))
    body = await read_all(answer.body)
    return answer.status, json.loads(body) if body[:1] in b"{[" and body else body


def shape(value: Any) -> Any:
    """Names and types, for telling whether two values are alike."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number or null" if value is None or isinstance(value, int | float) else type(value).__name__


async def test_the_page_has_the_documented_shape(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    mesh, proxy, clients = await gateway(nursery)
    await proxy.stats()
    await clients.send(b"/", 3)
    await trio.sleep(1.5)
    status, told = await admin(mesh, b"/stats?window=5")
    assert status == 200
    documented = json.loads(FIXTURE.read_text())
    assert list(told) == list(documented)
    for name in ("routes", "backends", "endpoints", "edges"):
        assert told[name], name
        assert list(told[name][0]) == list(documented[name][0])
    for name in ("total", "overflow", "more", "window", "time"):
        assert shape(told[name]) == shape(documented[name])
    assert list(told["proxy"]) == list(documented["proxy"])


@pytest.mark.parametrize("window", ["0", "-1", "x", "nan", "inf", "1e999"])
async def test_a_window_that_is_none_is_refused(
    nursery: trio.Nursery, autojump_clock: MockClock, window: str
) -> None:
    mesh, _, _ = await gateway(nursery)
    status, told = await admin(mesh, b"/stats?window=" + window.encode())
    assert status == 400
    assert b"not a number of seconds" in told


@pytest.mark.parametrize("path", [b"/stats", b"/endpoints", b"/tasks", b"/identity"])
async def test_the_pages_are_for_reading(nursery: trio.Nursery, autojump_clock: MockClock, path: bytes) -> None:
    mesh, _, _ = await gateway(nursery)
    assert (await admin(mesh, path, b"POST"))[0] == 405
    assert (await admin(mesh, path))[0] == 200


async def test_names_from_elsewhere_stay_names(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sampled = Sampled()
    sampler = Sampler(sampled)
    nursery.start_soon(sampler.run)
    await sampler.stats()
    hostile = '\x00\x1b[2J<b>é"\\\udc80'
    sampled.request("inbound", hostile, "10.0.0.1:80").value += 1
    await trio.sleep(1.5)
    answer = await stats_page(sampler)(request(path=b"/stats?window=60"))
    told = json.loads(await read_all(answer.body))
    # Registries may have replaced some of it.
    assert any('[2J<b>é"\\' in each["parent"] for each in told["routes"])


def test_the_documented_rows_end_with_the_golden_metrics() -> None:
    documented = json.loads(FIXTURE.read_text())
    golden = tuple(Golden().value())
    assert golden == ("requests", "rps", "success", "p50", "p95", "p99")
    for row in (each for name in ("routes", "backends", "endpoints", "edges") for each in documented[name]):
        assert tuple(row)[-6:] == golden
