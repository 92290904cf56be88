"""Gates under a balancer: what shuts an endpoint and opens it again, such as a breaker or a health check."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import Status
from meshcore.errors import ConnectError, FailFastError, MeshError, NotReady, chain
from meshcore.http.body import read_all
from meshcore.http.message import Request, Response
from meshcore.layers.balance import Balance
from meshcore.testing import request
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

A, B = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2"))


class Shutter:
    """A gate that a test works by hand."""

    def __init__(self, inner: Any) -> None:
        self.__wrapped__ = inner
        self.now = Status.OPEN
        self.cause: MeshError | None = None
        self.admits_one = False
        self.refused = 0
        self.changed: Callable[[], None] = lambda: None

    async def __call__(self, request: Request) -> Response:
        if self.now is not Status.OPEN:
            self.refused += 1
            raise NotReady("shut")
        if self.admits_one:
            self.set(Status.CLOSED)
        response: Response = await self.__wrapped__(request)
        return response

    def status(self) -> Status:
        return self.now

    def on_status(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def set(self, status: Status) -> None:
        self.now = status
        self.changed()


class Gated:
    """Makes services with a gate before them; ``gates[endpoint]``."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.gates: dict[Endpoint, Shutter] = {}

    def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Shutter:
        gate = self.gates[endpoint] = Shutter(self.network.new_service(endpoint, nursery))
        return gate


@pytest.fixture
def gated(network: Network) -> Gated:
    return Gated(network)


async def start(gated: Gated, nursery: trio.Nursery, *endpoints: Endpoint, **options: Any) -> Any:
    service = Balance(rng=random.Random(7), **options).layer(gated).new_service(Backend("users", endpoints), nursery)
    await wait_all_tasks_blocked()
    return service


async def ask(service: Any) -> Endpoint | None:
    sent = request()
    response = await service(sent)
    await read_all(response.body)
    return sent.endpoint


@pytest.mark.parity("U-13")
@pytest.mark.parametrize("shut", [Status.CLOSED, Status.BUSY])
async def test_an_endpoint_whose_gate_is_shut_is_not_picked_until_it_opens(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock, shut: Status
) -> None:
    service = await start(gated, nursery, A, B)

    gated.gates[A].set(shut)
    assert {B} == {await ask(service) for _ in range(20)}
    assert shut.name.lower() == service.statistics().endpoints[0].status
    gated.gates[A].set(Status.OPEN)

    assert {A, B} == {await ask(service) for _ in range(20)}
    assert 0 == gated.gates[A].refused


async def test_who_waits_is_served_when_a_gate_opens(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, A)
    gated.gates[A].set(Status.CLOSED)
    began = trio.current_time()

    async def reopen() -> None:
        await trio.sleep(1.0)
        gated.gates[A].set(Status.OPEN)

    nursery.start_soon(reopen)

    assert A == await ask(service)
    assert 1.0 <= trio.current_time() - began < 1.1


@pytest.mark.parity("B-17")
async def test_with_every_gate_shut_requests_wait_and_fail_fast_and_are_told_why(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, A, B)
    for gate in gated.gates.values():
        gate.cause = ConnectError("endpoint is broken by its last 7 failures")
        gate.set(Status.CLOSED)

    began = trio.current_time()
    with pytest.raises(FailFastError, match="users") as caught:
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - began)
    assert "last 7 failures" in chain(caught.value)
    with pytest.raises(FailFastError):
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - began)


@pytest.mark.parity("U-13")
async def test_of_those_who_wait_one_is_admitted_for_a_try_and_the_others_are_not_lost(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, A)
    gate = gated.gates[A]
    gate.set(Status.CLOSED)
    served: list[Endpoint | None] = []

    async def one() -> None:
        served.append(await ask(service))

    async with trio.open_nursery() as asking:
        for _ in range(10):
            asking.start_soon(one)
        await wait_all_tasks_blocked()
        gate.admits_one = True
        gate.set(Status.OPEN)
        await trio.sleep(0.5)
        assert 1 == len(served) == gated.network[A.address].served
        gate.admits_one = False
        gate.set(Status.OPEN)

    assert [A] * 10 == served
    (only,) = service.statistics().endpoints
    assert (0, 0) == (only.pending, only.in_flight)
    assert 0 == only.failures


async def test_a_gate_that_refuses_and_says_it_is_open_costs_no_endless_loop(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, A)
    gate = gated.gates[A]
    gate.status = lambda: Status.OPEN  # type: ignore[method-assign]
    gate.now = Status.CLOSED

    with trio.move_on_after(0.0) as scope:
        await ask(service)

    assert scope.cancelled_caught


async def test_the_worst_gate_counts(network: Network, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    outer: list[Shutter] = []
    inner: list[Shutter] = []

    class Two:
        def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Shutter:
            inner.append(Shutter(network.new_service(endpoint, nursery)))
            outer.append(Shutter(inner[-1]))
            return outer[-1]

    service: Any = Balance().layer(Two()).new_service(Backend("users", (A,)), nursery)
    await wait_all_tasks_blocked()

    for gates, status, want in (
        (outer, Status.BUSY, "busy"),
        (inner, Status.CLOSED, "closed"),
        (outer, Status.OPEN, "closed"),
        (inner, Status.OPEN, "open"),
    ):
        gates[0].set(status)
        assert want == service.statistics().endpoints[0].status
    assert A == await ask(service)
