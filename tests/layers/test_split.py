"""Split: which backend, by weight and readiness, and how that changes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.abc import Status
from meshcore.errors import FailFastError, LoadShedError, NoEndpoints
from meshcore.http.body import Body, Chunks, Full, read_all
from meshcore.http.matching import PathMatch, RequestMatch, RouteRule
from meshcore.http.message import Request, Response
from meshcore.http.route_table import RouteTable
from meshcore.layers import (
    Balance,
    Filters,
    IdleCache,
    Mirror,
    RequestHeaders,
    Rewrite,
    Route,
    Split,
    ToBackend,
    Weights,
)
from meshcore.stack import stack
from meshcore.testing import FakeResolve, MockNewService, request
from meshcore.transport.target import Backend, BackendRef, Endpoint, HttpRoute, Mirrored
from tests.layers.fakes import Network


class Named:
    """Makes services that answer with their backend's name, and are as ready as the test says."""

    def __init__(self, **statuses: Status) -> None:
        self.statuses = statuses
        self.made: list[str] = []
        self.picks: Counter[str] = Counter()

    def new_service(self, target: BackendRef, nursery: trio.Nursery, /) -> Any:
        name = target.backend.name
        self.made.append(name)

        async def serve(sent: Request) -> Response:
            self.picks[name] += 1
            return Response(200)

        if name in self.statuses:
            serve.status = lambda: self.statuses[name]  # type: ignore[attr-defined]
        return serve


def refs(**weights: float) -> tuple[BackendRef, ...]:
    return tuple(BackendRef(Backend(name), weight) for name, weight in weights.items())


def split(inner: Any, nursery: trio.Nursery, weights: Weights | None = None, **shares: float) -> Any:
    layer = Split(weights, rng=random.Random(7))
    return layer.layer(inner).new_service(HttpRoute("r", refs(**shares)), nursery)


async def ask(service: Any, times: int = 1) -> None:
    for _ in range(times):
        await service(request())


@pytest.mark.parity("B-13", "R-27", "U-18")
async def test_requests_follow_the_weights(nursery: trio.Nursery) -> None:
    inner = Named()
    service = split(inner, nursery, a=70, b=25, c=5, none=0)
    await ask(service, 10_000)
    shares = {name: picks / 10_000 for name, picks in inner.picks.items()}
    assert shares == pytest.approx({"a": 0.7, "b": 0.25, "c": 0.05}, abs=0.01)
    # What gets nothing is not even made.
    assert inner.made == ["a", "b", "c"]
    assert [(each.backend, each.weight, each.picks) for each in service.statistics().backends] == [
        ("a", 70, inner.picks["a"]),
        ("b", 25, inner.picks["b"]),
        ("c", 5, inner.picks["c"]),
        ("none", 0, 0),
    ]
    assert set(service.services()) == {"a", "b", "c"}


@pytest.mark.parity("B-13", "U-18")
async def test_a_backend_that_is_not_ready_is_passed_over_and_the_rest_keep_their_shares(
    nursery: trio.Nursery,
) -> None:
    inner = Named(a=Status.CLOSED, b=Status.OPEN, c=Status.OPEN)
    service = split(inner, nursery, a=50, b=40, c=10)
    await ask(service, 10_000)
    assert inner.picks["a"] == 0
    assert inner.picks["c"] / 10_000 == pytest.approx(0.2, abs=0.015)
    assert service.statistics().passed_over == pytest.approx(5_000, abs=200)
    assert service.status() is Status.OPEN
    inner.statuses["a"] = Status.OPEN
    await ask(service, 1_000)
    assert inner.picks["a"] == pytest.approx(500, abs=60)


@pytest.mark.parity("B-13", "U-18")
async def test_where_none_is_ready_a_request_waits_where_it_may(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inner = Named(a=Status.CLOSED, b=Status.BUSY, c=Status.CLOSED)
    service = split(inner, nursery, a=90, b=5, c=5)
    assert service.status() is Status.BUSY
    await ask(service, 100)
    assert inner.picks == {"b": 100}
    inner.statuses["b"] = Status.CLOSED
    assert service.status() is Status.CLOSED
    await ask(service, 1_000)
    # All are asked as they would be, and say themselves what is wrong.
    assert inner.picks["a"] > 850


@pytest.mark.parity("B-13", "U-18")
async def test_the_same_backend_may_be_there_twice(nursery: trio.Nursery) -> None:
    inner = Named()
    route = HttpRoute("r", (BackendRef(Backend("a"), 1), BackendRef(Backend("a"), 1), BackendRef(Backend("b"), 2)))
    service = Split(rng=random.Random(1)).layer(inner).new_service(route, nursery)
    await ask(service, 1_000)
    assert inner.made == ["a", "b"]
    assert inner.picks["a"] == pytest.approx(500, abs=50)


@pytest.mark.parity("B-13", "U-18")
async def test_the_first_that_is_ready_gets_everything_where_backends_stand_in_for_each_other(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inner = Named(a=Status.OPEN, b=Status.OPEN, c=Status.OPEN)
    route = HttpRoute("r", refs(none=0, a=1, b=50, c=1), failover=True)
    service: Any = Split(failover=lambda target: target.failover).layer(inner).new_service(route, nursery)

    async def picked() -> str:
        inner.picks.clear()
        await ask(service, 5)
        (name,) = inner.picks
        return name

    assert await picked() == "a"
    inner.statuses["a"] = Status.BUSY
    assert await picked() == "b"
    inner.statuses["b"] = Status.CLOSED
    assert await picked() == "c"
    assert service.statistics().passed_over == 10
    # Where none is ready, the first at which a request may wait; then the first.
    inner.statuses["c"] = Status.BUSY
    assert await picked() == "a"
    inner.statuses["a"] = Status.CLOSED
    assert await picked() == "c"
    inner.statuses["c"] = Status.CLOSED
    assert await picked() == "a"
    inner.statuses["a"] = Status.OPEN
    assert await picked() == "a"


@pytest.mark.parity("B-13")
async def test_stand_ins_without_shares_or_without_a_status(nursery: trio.Nursery) -> None:
    inner = Named()
    weights = Weights(refs(a=1, b=1))
    service: Any = Split(weights, failover=True).layer(inner).new_service(HttpRoute("r"), nursery)
    await ask(service, 20)
    assert inner.picks == {"a": 20}
    weights.set({"a": 0})
    await ask(service)
    assert inner.picks == {"a": 20, "b": 1}
    weights.set({"b": 0})
    with pytest.raises(LoadShedError):
        await service(request())


async def test_a_route_with_one_backend_for_good_costs_nothing(nursery: trio.Nursery) -> None:
    inner = MockNewService[BackendRef]()
    service = Split().layer(inner).new_service(HttpRoute("r", refs(a=1)), nursery)
    assert service is inner.made[0][1]


@pytest.mark.parity("B-13", "X-27")
async def test_a_route_without_shares_refuses_its_requests(nursery: trio.Nursery) -> None:
    service = split(Named(), nursery, a=0, b=0)
    assert service.status() is Status.CLOSED
    with pytest.raises(LoadShedError, match="route r: no backend has a share") as caught:
        await service(request())
    assert caught.value.status_hint == 503


@pytest.mark.parity("X-27", "B-13")
async def test_a_split_follows_every_change_of_its_weights(nursery: trio.Nursery) -> None:
    inner = Named()
    weights = Weights(refs(stable=100, canary=0))
    service = split(inner, nursery, weights)
    await ask(service, 50)
    assert inner.picks == {"stable": 50}

    async def shares() -> dict[str, float]:
        inner.picks.clear()
        await ask(service, 2_000)
        return {name: round(picks / 2_000, 1) for name, picks in inner.picks.items()}

    weights.set({"canary": 100})
    assert await shares() == {"stable": 0.5, "canary": 0.5}
    weights.replace(refs(stable=50, canary=30, other=20))
    assert await shares() == {"stable": 0.5, "canary": 0.3, "other": 0.2}
    weights.set({"stable": 0})
    assert await shares() == {"canary": 0.6, "other": 0.4}
    weights.set({"canary": 0, "other": 0})
    with pytest.raises(LoadShedError):
        await service(request())
    weights.replace(refs(stable=1))
    assert await shares() == {"stable": 1.0}
    # Each service was made once, and kept.
    assert inner.made == ["stable", "canary", "other"]
    assert repr(weights) == "Weights(stable=1)"


async def test_a_change_that_is_wrong_changes_nothing(nursery: trio.Nursery) -> None:
    inner = Named()
    weights = Weights(refs(stable=100, canary=0))
    service = split(inner, nursery, weights)
    with pytest.raises(LookupError, match="no backend 'canari'; the backends are: canary, stable"):
        weights.set({"canari": 1, "stable": 0})
    with pytest.raises(ValueError, match="weight"):
        weights.set({"stable": -1})
    await ask(service, 10)
    assert inner.picks == {"stable": 10}


async def test_weights_outlive_their_splits(nursery: trio.Nursery) -> None:
    weights = Weights(refs(a=1, b=1))
    async with trio.open_nursery() as inner_nursery:
        service = split(Named(), inner_nursery, weights)
    del inner_nursery
    weights.set({"a": 0})
    await ask(service)
    del service
    weights.set({"a": 1})


# ----- with balancers -----


def pipeline(network: Network, rng: random.Random, weights: Weights | None = None, **options: Any) -> Any:
    return (
        stack(HttpRoute)
        .then(Split(weights, rng=rng))
        .then(ToBackend(lambda reference: reference.backend))
        .then(Balance(rng=rng, **options))
        .layer(network)
    )


def backend(name: str, *hosts: str) -> Backend:
    return Backend(name, tuple(Endpoint((host, 80)) for host in hosts))


@pytest.mark.parity("B-13", "B-17")
async def test_a_backend_whose_endpoints_are_all_out_is_passed_over_until_it_is_back(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    route = HttpRoute("r", (BackendRef(backend("a", "a1", "a2"), 50), BackendRef(backend("b", "b1"), 50)))
    service = pipeline(network, random.Random(3)).new_service(route, nursery)
    await trio.sleep(1)
    await ask(service, 100)
    assert network["a1", 80].served + network["a2", 80].served > 30
    network["a1", 80].down = network["a2", 80].down = True
    before = network["b1", 80].served
    # Nobody waits for them, those who find out included.
    started = trio.current_time()
    await ask(service, 55)
    assert trio.current_time() - started < 0.2
    assert network["b1", 80].served == before + 55
    network["a1", 80].down = False
    await trio.sleep(120)
    served = network["a1", 80].served
    await ask(service, 100)
    assert network["a1", 80].served > served + 30


@pytest.mark.parity("B-13", "R-27")
async def test_where_no_backend_has_an_endpoint_that_works_the_answer_says_so(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network["a1", 80].down = network["b1", 80].down = True
    route = HttpRoute("r", (BackendRef(backend("a", "a1")), BackendRef(backend("b", "b1"))))
    service = pipeline(network, random.Random(3), fail_fast=2.0).new_service(route, nursery)
    started = trio.current_time()
    with pytest.raises(FailFastError) as caught:
        await service(request())
    assert (trio.current_time() - started, caught.value.status_hint) == (pytest.approx(2.254), 504)
    empty = HttpRoute("e", (BackendRef(Backend("c")), BackendRef(Backend("d"))))
    service = pipeline(network, random.Random(3)).new_service(empty, nursery)
    with pytest.raises(NoEndpoints) as none:
        await service(request())
    assert none.value.status_hint == 503


@pytest.mark.parity("B-13")
async def test_the_first_request_of_all_goes_to_the_backend_that_is_ready_first(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network["a1", 80].down = True
    for seed in range(5):
        route = HttpRoute(f"r{seed}", (BackendRef(backend("a", "a1"), 90), BackendRef(backend("b", "b1"), 10)))
        service = pipeline(network, random.Random(seed)).new_service(route, nursery)
        started = trio.current_time()
        await ask(service)
        assert trio.current_time() - started < 0.01


@pytest.mark.parity("B-13", "R-27")
async def test_what_a_backends_filters_have_done_is_undone_where_it_is_not_ready(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    class Seeing:
        def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Any:
            inner: Any = network.new_service(endpoint, nursery)

            async def see(sent: Request) -> Response:
                response: Response = await inner(sent)
                seen.append((endpoint.address[0], sent.headers.raw, sent.path))
                return response

            return see

    def named(name: str) -> tuple[Any, ...]:
        return (RequestHeaders(set={f"x-{name}": "1"}), Rewrite(prefix=f"/{name}", of=["/"]))

    rng = random.Random(0)
    layers = (
        stack(HttpRoute)
        .then(Split(rng=rng))
        .then(Filters(lambda reference: reference.filters))
        .then(ToBackend(lambda reference: reference.backend))
        .then(Balance(rng=rng))
    )
    both = tuple(BackendRef(backend(name, f"{name}1"), filters=named(name)) for name in ("a", "b"))
    service: Any = layers.layer(Seeing()).new_service(HttpRoute("r", both), nursery)
    await ask(service, 20)
    network["a1", 80].down = True
    del seen[:]
    # The first of them is given to what has been ready until now.
    await ask(service, 20)
    assert seen == [("b1", [(b"x-b", b"1")], b"/b/")] * 20
    assert service.statistics().passed_over > 0


@pytest.mark.parity("B-13", "B-21")
async def test_a_request_that_waits_gets_whatever_becomes_ready_in_the_end(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network["a1", 80].down = network["b1", 80].down = True
    route = HttpRoute("r", (BackendRef(backend("a", "a1"), 100), BackendRef(backend("b", "b1"), 1)))
    service = pipeline(network, random.Random(0), fail_fast=2.0).new_service(route, nursery)

    async def later() -> None:
        await trio.sleep(1.5)
        network["b1", 80].down = False

    nursery.start_soon(later)
    await ask(service)
    assert network["b1", 80].served == 1


async def test_weights_that_change_while_requests_look_for_a_backend(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inner = Named(a=Status.BUSY, b=Status.BUSY, c=Status.OPEN)
    weights = Weights(refs(a=1, b=1))
    service = split(inner, nursery, weights)
    async with trio.open_nursery() as clients:
        for _ in range(10):
            clients.start_soon(ask, service)
        await trio.sleep(0.001)
        weights.replace(refs(b=1, c=1))
    assert inner.picks == {"c": 10}
    weights.replace(refs(a=1, b=1))
    async with trio.open_nursery() as clients:
        clients.start_soon(ask, service)
        await trio.sleep(0.001)
        weights.replace(())
    # It had been drawn before there was nothing left, and is answered by that one.
    assert inner.picks.total() == 11


@pytest.mark.parity("B-13", "X-27")
async def test_a_blue_green_switch_under_load_loses_nothing_and_keeps_its_shares_to_one_per_cent(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """100/0, then 90/10, then 0/100, with 50 clients and a stream that lasts through all of it."""
    blue, green = backend("blue", "blue1", "blue2"), backend("green", "green1", "green2")
    weights = Weights((BackendRef(blue, 100), BackendRef(green, 0)))
    service = pipeline(network, random.Random(11), weights).new_service(HttpRoute("r"), nursery)
    long = Chunks()
    bodies: Iterator[Body] = iter([long])
    for host in ("blue1", "blue2"):
        network[host, 80].body = lambda: next(bodies, None) or Full(b"x")
    stream = await service(request())
    assert stream.body is long

    def served() -> Counter[str]:
        return Counter(
            {name: sum(network[f"{name}{number}", 80].served for number in (1, 2)) for name in ("blue", "green")}
        )

    async def client(requests: int) -> None:
        for _ in range(requests):
            response = await service(request())
            assert response.status == 200
            await read_all(response.body)

    async def load() -> Counter[str]:
        before = served()
        async with trio.open_nursery() as clients:
            for _ in range(50):
                clients.start_soon(client, 200)
        return served() - before

    assert await load() == {"blue": 10_000}
    weights.set({"blue": 90, "green": 10})
    counted = await load()
    assert sum(counted.values()) == 10_000
    assert counted["green"] / 10_000 == pytest.approx(0.1, abs=0.01)
    weights.set({"blue": 0, "green": 100})
    assert await load() == {"green": 10_000}
    long.push(b"still here")
    long.push_end()
    assert await read_all(stream.body) == b"still here"


async def test_backends_that_are_made_when_they_are_used_are_asked_how_ready_they_are_then(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    rng = random.Random(5)
    layers = (
        stack(HttpRoute)
        .then(Split(rng=rng))
        .then(ToBackend(lambda reference: reference.backend))
        .then(IdleCache(60.0))
        .then(Balance(rng=rng))
    )
    route = HttpRoute("r", (BackendRef(backend("a", "a1")), BackendRef(backend("b", "b1"))))
    service: Any = layers.layer(network).new_service(route, nursery)
    await ask(service, 40)
    network["a1", 80].down = True
    started = trio.current_time()
    await ask(service, 50)
    assert trio.current_time() - started < 0.2
    # Idle, stopped, and made anew.
    network["a1", 80].down = False
    await trio.sleep(200)
    served = network["a1", 80].served
    await ask(service, 50)
    assert network["a1", 80].served > served + 10


def test_layers_tell_what_they_may_ask_for() -> None:
    a, b, c = refs(a=1, b=2, c=0)
    shadow = HttpRoute("shadow", (c,))
    route = HttpRoute("r", (a, b), mirrors=(Mirrored(shadow),))
    table = RouteTable([RouteRule(route, (RequestMatch(path=PathMatch("prefix", "/a")),)), RouteRule(route)])
    assert Route(table).targets(None) == (route,)
    assert Route({"*": Backend("x")}).targets(None) == (Backend("x"),)
    assert Route(lambda request: None).targets(None) is None
    mirror = Mirror(lambda target: target.mirrors)
    assert mirror.targets((route,)) == (route, shadow)
    assert [each.backend.name for each in Split().targets((route, shadow)) or ()] == ["a", "b", "c"]
    assert [each.backend.name for each in Split(Weights(refs(d=1))).targets((route,)) or ()] == ["d"]
    assert (mirror.targets(None), Split().targets(None)) == (None, None)
    same = RouteTable([RouteRule(route, (RequestMatch(path=PathMatch("prefix", "/a")),)), RouteRule(route)])
    assert (table, hash(table)) == (same, hash(same))
    assert table != RouteTable(table.rules, exclusive=True)
    assert table != route


async def test_the_status_of_a_balancer_says_what_would_become_of_a_request(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve()
    service: Any = Balance(resolve, fail_fast=1.0).layer(network).new_service(Backend("b"), nursery)
    assert service.status() is Status.BUSY
    resolve_started = trio.current_time()
    with pytest.raises(FailFastError):
        await service(request())
    assert trio.current_time() - resolve_started == pytest.approx(1.0)
    assert service.status() is Status.CLOSED
    resolve.publish(Endpoint(("e", 80)))
    await trio.sleep(1)
    assert service.status() is Status.OPEN
