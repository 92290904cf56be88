"""LoadShed and ConcurrencyLimit: what is refused, what waits, and in which order."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import Status
from meshcore.errors import ConnectionLost, FailFastError, LoadShedError, StreamTimeout, chain
from meshcore.http.body import Chunks, read_all
from meshcore.http.message import Request, Response, Timeouts
from meshcore.layers import Balance, ConcurrencyLimit, LoadShed
from meshcore.layers.concurrency_limit import Concurrency, Gradient
from meshcore.layers.concurrency_limit.adaptive import Adaptive
from meshcore.metrics import Registry
from meshcore.stack import stack
from meshcore.testing import FakeResolve, MockNewService, explore_schedules, mock_service, request, response
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

A, B = Endpoint(("10.0.0.1", 8080)), Endpoint(("10.0.0.2", 8080))


def limited(inner: Any, limit: Any, **options: Any) -> Any:
    new = ConcurrencyLimit(limit, **options).layer(MockNewService(lambda _: inner))
    return new.new_service(Backend("users"), None)  # type: ignore[arg-type]


async def ask(service: Any) -> int:
    answer = await service(request())
    await read_all(answer.body)
    status: int = answer.status
    return status


# ----- load shedding -----


def balanced(network: Network, nursery: trio.Nursery, *layers: Any, **options: Any) -> Any:
    pipeline = stack(Backend)
    for layer in layers:
        pipeline = pipeline.then(layer)
    return (
        pipeline.then(Balance(rng=random.Random(1), **options))
        .layer(network)
        .new_service(Backend("users", (A, B)), nursery)
    )


@pytest.mark.parity("B-09", "B-10", "X-15")
async def test_who_waited_gets_504_and_who_comes_later_503_until_an_endpoint_is_ready(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for each in (A, B):
        network[each.address].down = True
    service = balanced(network, nursery, LoadShed())
    told: list[type[Exception]] = []

    async def wait() -> None:
        with pytest.raises((FailFastError, LoadShedError)) as caught:
            await ask(service)
        told.append(caught.type)

    async with trio.open_nursery() as waiting:
        for _ in range(3):
            waiting.start_soon(wait)
    assert [FailFastError] * 3 == told
    assert 3.0 == pytest.approx(trio.current_time())

    with pytest.raises(LoadShedError) as caught:
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time())
    assert chain(caught.value).startswith("users: service unavailable: backend users: service in fail-fast: endpoint ")

    for each in (A, B):
        network[each.address].down = False
    await trio.sleep(5.0)
    assert 200 == await ask(service)


@pytest.mark.parity("R-17", "R-18")
async def test_a_wait_for_an_endpoint_ends_with_the_requests_own_limit(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for each in (A, B):
        network[each.address].down = True
    service = balanced(network, nursery)
    sent = request()
    sent.timeouts = Timeouts(request=1.0)

    with pytest.raises(StreamTimeout, match="no endpoint within the request timeout") as caught:
        await service(sent)

    assert 1.0 == pytest.approx(trio.current_time())
    assert "connection refused" in chain(caught.value)
    # Others are as patient as ever.
    with pytest.raises(FailFastError):
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time())


async def test_it_may_refuse_what_would_have_to_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for each in (A, B):
        network[each.address].down = True
    service = balanced(network, nursery, LoadShed(Status.BUSY))
    await wait_all_tasks_blocked()

    with pytest.raises(LoadShedError, match="users: service unavailable"):
        await ask(service)


async def test_above_what_is_always_ready_it_is_not_there() -> None:
    inner = mock_service()
    assert inner is LoadShed().wrap(inner, None)
    with pytest.raises(ValueError, match="at is"):
        LoadShed(Status.OPEN)


@pytest.mark.parity("B-08")
async def test_more_than_the_capacity_do_not_wait_for_an_endpoint(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve()
    service = balanced(network, nursery, resolve=resolve, capacity=2)
    outcomes: list[str] = []

    async def one() -> None:
        try:
            await ask(service)
            outcomes.append("served")
        except LoadShedError:
            outcomes.append("shed")

    async with trio.open_nursery() as waiting:
        for _ in range(4):
            waiting.start_soon(one)
            await wait_all_tasks_blocked()
        # Discovery is applied while requests wait (B-11).
        resolve.publish(A)

    assert ["shed", "shed", "served", "served"] == outcomes


# ----- limits -----


@pytest.mark.parity("B-12")
async def test_more_than_the_limit_are_refused_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inner = mock_service(10.0)
    registry = Registry()
    service = limited(inner, 2, registry=registry)
    for _ in range(2):
        nursery.start_soon(ask, service)
    await wait_all_tasks_blocked()

    with pytest.raises(LoadShedError, match="users: service unavailable: 2 requests are in flight already"):
        await ask(service)

    assert Status.CLOSED is service.status()
    assert 'concurrency_limit_refused_total{limit="concurrency_limit",target="users"} 1' in registry.render()
    await trio.sleep(10.0)
    assert 200 == await ask(service)
    assert (0, 1) == (service.statistics().in_flight, service.statistics().refused)


async def test_a_request_is_in_flight_until_its_response_has_ended(autojump_clock: MockClock) -> None:
    body = Chunks()
    service = limited(mock_service(Response(200, body=body)), 1)
    answer = await service(request())
    assert 1 == service.statistics().in_flight

    answer.body.abort()

    assert 0 == service.statistics().in_flight


@pytest.mark.parametrize("ends", ["error", "cancelled"])
async def test_one_that_fails_or_is_given_up_is_not_in_flight_any_more(ends: str, autojump_clock: MockClock) -> None:
    service = limited(mock_service(10.0 if ends == "cancelled" else ConnectionLost("x")), 1)
    if ends == "error":
        with pytest.raises(ConnectionLost):
            await ask(service)
    with trio.move_on_after(1):
        if ends == "cancelled":
            await ask(service)

    assert 0 == service.statistics().in_flight


@pytest.mark.parity("B-11", "U-13")
async def test_who_waits_gets_a_turn_in_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    order: list[int] = []

    async def inner(sent: Request) -> Response:
        order.append(int(sent.path))
        await trio.sleep(1.0)
        return response()

    service = limited(inner, Concurrency(1, wait=60.0))

    async def one(number: int) -> None:
        await read_all((await service(request(path=b"%d" % number))).body)

    async with trio.open_nursery() as waiting:
        for number in range(10):
            waiting.start_soon(one, number)
            await wait_all_tasks_blocked()
        assert Status.BUSY is service.status()

    assert list(range(10)) == order


@pytest.mark.parity("B-08")
async def test_waits_are_bounded_in_time_and_number(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    service = limited(mock_service(100.0), Concurrency(1, wait=2.0, waiting=1))
    nursery.start_soon(ask, service)
    await wait_all_tasks_blocked()

    async def waits() -> None:
        with pytest.raises(LoadShedError, match="no turn within 2 s"):
            await ask(service)
        assert 2.0 == pytest.approx(trio.current_time())

    async with trio.open_nursery() as waiting:
        waiting.start_soon(waits)
        await wait_all_tasks_blocked()
        with pytest.raises(LoadShedError, match="1 requests are in flight already"):
            await ask(service)
    assert 0 == service.statistics().waiting


async def test_each_target_has_its_own_limit_or_all_share_one(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    for shared, refused in ((False, False), (True, True)):
        new = ConcurrencyLimit(1, shared=shared).layer(MockNewService(lambda _: mock_service(10.0)))
        first, second = (new.new_service(name, nursery) for name in "ab")
        nursery.start_soon(ask, first)
        await wait_all_tasks_blocked()
        if refused:
            with pytest.raises(LoadShedError):
                await ask(second)
        else:
            assert 200 == await ask(second)


async def test_without_a_limit_it_is_not_there(nursery: trio.Nursery) -> None:
    inner = mock_service()
    assert inner is limited(inner, None)
    assert inner is limited(inner, lambda target: None)


@pytest.mark.parity("B-10", "U-13")
async def test_load_is_shed_before_a_limit_that_would_make_it_wait(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = LoadShed(Status.BUSY).wrap(limited(mock_service(10.0), Concurrency(1, wait=5.0)), Backend("users"))
    nursery.start_soon(ask, service)
    await wait_all_tasks_blocked()

    with pytest.raises(LoadShedError):
        await ask(service)


async def test_no_turn_is_lost_whoever_goes_away_and_when() -> None:
    async def main() -> None:
        service = limited(mock_service(0.0), Concurrency(2, wait=1.0))

        async def one(patience: float) -> None:
            with trio.move_on_after(patience):
                await ask(service)

        async with trio.open_nursery() as nursery:
            for patience in (0.0, 1.0, 0.0, 1.0, 0.0, 1.0):
                nursery.start_soon(one, patience)
        assert (0, 0) == (service.statistics().in_flight, service.statistics().waiting)

    explore_schedules(main)


class PermitsMachine(RuleBasedStateMachine):
    """Requests come, end and go away in any order: there are never too many, and nobody is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 3
        self.bodies: list[Chunks] = []
        self.refused = 0

        async def inner(_: Request) -> Response:
            body = Chunks()
            self.bodies.append(body)
            return Response(200, body=body)

        async def make() -> Any:
            return limited(inner, self.limit)

        self.service: Any = trio.run(make)

    @rule()
    def a_request_comes(self) -> None:
        async def one() -> None:
            try:
                await self.service(request())
            except LoadShedError:
                assert len(self.bodies) == self.limit
                self.refused += 1

        trio.run(one)

    @rule(index=st.integers(0, 5), well=st.booleans())
    def a_response_ends(self, index: int, well: bool) -> None:
        if index < len(self.bodies):
            body = self.bodies.pop(index)
            if well:
                body.push_end()
            else:
                body.abort()

    @invariant()
    def as_many_as_have_not_ended(self) -> None:
        assert self.service.statistics().in_flight == len(self.bodies) <= self.limit


PermitsMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestPermits = PermitsMachine.TestCase


# ----- limits that find themselves -----


async def simulate(capacity: int, load: int, seconds: float, *, limit: Concurrency) -> tuple[float, Any]:
    """A service that serves *capacity* requests at once in 50 ms each and queues the rest; the mean latency of the
    last second."""
    places = trio.CapacityLimiter(capacity)
    taken: list[tuple[float, float]] = []

    async def inner(_: Request) -> Response:
        async with places:
            await trio.sleep(0.05)
        return response()

    service = limited(inner, limit)

    async def client() -> None:
        while True:
            started = trio.current_time()
            try:
                await ask(service)
                taken.append((started, trio.current_time() - started))
            except LoadShedError:
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for _ in range(load):
            nursery.start_soon(client)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    last = [latency for started, latency in taken if started > seconds - 1.0]
    return sum(last) / len(last), service.statistics()


async def test_an_adaptive_limit_grows_while_latency_stays_what_it_is(autojump_clock: MockClock) -> None:
    latency, told = await simulate(200, 100, 20.0, limit=Concurrency(1_000, adaptive=Gradient(initial=5)))

    assert latency == pytest.approx(0.05)
    assert told.limit >= 100


async def test_an_adaptive_limit_keeps_the_queue_of_an_overloaded_service_short(autojump_clock: MockClock) -> None:
    unlimited, _ = await simulate(10, 100, 10.0, limit=Concurrency(1_000))
    latency, told = await simulate(10, 100, 10.0, limit=Concurrency(1_000, adaptive=Gradient(initial=10)))

    assert unlimited == pytest.approx(0.5, rel=0.1)
    assert latency < 0.2
    assert told.limit < 40


def test_an_adaptive_limit_stays_within_its_bounds_whatever_it_is_told() -> None:
    rng = random.Random(4)
    adaptive = Adaptive(Gradient(initial=20, minimum=5), 200, 0.0)
    now = 0.0
    for _ in range(20_000):
        now += rng.expovariate(50.0)
        adaptive.sample(now, rng.choice([0.0, 0.001, 0.1, 10.0]), rng.randrange(400), rng.random() < 0.02)
        assert 5 <= adaptive.limit <= 200
