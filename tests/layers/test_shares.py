"""Shares that are not everyone's alike: the own zone first, slow starts, and panics."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import Status
from meshcore.errors import FailFastError
from meshcore.http.body import read_all
from meshcore.layers.balance import Balance, Balancing, P2c, RoundRobin, Zoned
from meshcore.layers.balance.load import Pending
from meshcore.layers.balance.member import Member
from meshcore.testing import FakeResolve, request
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network
from tests.layers.test_gates import Gated
from tests.layers.test_load import Someone

NEAR = tuple(Endpoint((f"10.0.1.{number}", 80), zone="west") for number in (1, 2, 3, 4))
FAR = tuple(Endpoint((f"10.0.2.{number}", 80), zone="east") for number in (1, 2, 3, 4))


async def ask(service: Any, count: int = 1, *, wait: float = 0.0) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(count):
        sent = request()
        await read_all((await service(sent)).body)
        seen[str(sent.endpoint)] += 1
        await trio.sleep(wait)
    return seen


def zone(seen: Counter[str], number: int) -> float:
    return sum(count for name, count in seen.items() if name.startswith(f"10.0.{number}.")) / seen.total()


async def start(network: Any, nursery: trio.Nursery, resolve: Any, **balancing: Any) -> Any:
    balance = Balance(resolve, policy=Balancing(**balancing), rng=random.Random(5))
    service = balance.layer(network).new_service(Backend("web"), nursery)
    await wait_all_tasks_blocked()
    return service


# ----- zones -----


@pytest.mark.parity("B-28")
@pytest.mark.parametrize("policy", ["p2c-ewma", "round-robin", "least-request"])
async def test_the_own_zone_gets_everything_while_enough_of_it_is_ready(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock, policy: str
) -> None:
    service = await start(network, nursery, FakeResolve(*NEAR, *FAR), policy=policy, zone="west")

    seen = await ask(service, 200)
    assert 1.0 == zone(seen, 1)
    assert 4 == len(seen)

    network[NEAR[0].address].down = True
    seen = await ask(service, 200)
    assert 1.0 == zone(seen, 1)


@pytest.mark.parity("B-28")
async def test_what_the_rest_of_the_zone_would_be_too_much_for_spills_over_and_comes_back(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(network, nursery, FakeResolve(*NEAR, *FAR), zone="west", zone_enough=0.8)

    for endpoint in NEAR[:3]:
        network[endpoint.address].down = True
    await ask(service, 40)
    seen = await ask(service, 600)
    # One of four is ready, where 3.2 would be enough.
    assert abs(zone(seen, 1) - 1 / 3.2) < 0.06

    network[NEAR[3].address].down = True
    await ask(service, 40)
    assert 0.0 == zone(await ask(service, 50), 1)
    for endpoint in NEAR:
        network[endpoint.address].down = False
    await trio.sleep(120)

    assert 1.0 == zone(await ask(service, 100), 1)


async def test_a_zone_without_endpoints_is_no_reason_to_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(*FAR)
    service = await start(network, nursery, resolve, zone="west")

    assert 0.0 == zone(await ask(service, 20), 1)
    resolve.publish(*FAR, *NEAR)
    await wait_all_tasks_blocked()
    assert 1.0 == zone(await ask(service, 20), 1)


async def test_busy_endpoints_of_the_zone_spill_over_to_others_that_are_less_so(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (NEAR[0], FAR[0]):
        network[endpoint.address].latency = 10.0
    service = await start(network, nursery, FakeResolve(NEAR[0], FAR[0]), zone="west", zone_spill_over=5)

    async with trio.open_nursery() as asking:
        for _ in range(20):
            asking.start_soon(ask, service)
        await wait_all_tasks_blocked()
        near, far = (each.in_flight for each in service.statistics().endpoints)
        asking.cancel_scope.cancel()

    # Five near ones at first, then whoever has fewer.
    assert (10, 10) == (near, far)


async def test_retries_stay_in_the_zone_where_they_can(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(network, nursery, FakeResolve(*NEAR[:2], *FAR), zone="west")

    for avoid, want in (((NEAR[0],), NEAR[1:2]), (NEAR[:2], FAR)):
        sent = request()
        sent.avoid = avoid
        await read_all((await service(sent)).body)
        assert sent.endpoint in want


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 7)), max_size=60),
    st.sampled_from([P2c(), RoundRobin()]),
)
def test_only_ready_endpoints_are_picked_whatever_zone_comes_and_goes(
    steps: list[tuple[str, int]], policy: Any
) -> None:
    picker = Zoned(policy, "west").start(random.Random(2))
    everyone = [Someone(Pending().start(0.0)) for _ in range(8)]
    for number, someone in enumerate(everyone):
        someone.endpoint = (NEAR + FAR)[number]
    picker.known(NEAR + FAR)
    inside: set[Someone] = set()
    for what, number in steps:
        someone = everyone[number]
        if what == "+" and someone not in inside:
            inside.add(someone)
            picker.ready.add(someone)  # type: ignore[arg-type]
        elif what == "-":
            inside.discard(someone)
            picker.ready.remove(someone)  # type: ignore[arg-type]
        assert len(inside) == len(picker.ready) == len(picker.ready.members)
        picked = picker.pick(0.0)
        assert (picked in inside) if inside else picked is None


# ----- slow start -----


async def test_a_new_endpoint_starts_with_a_tenth_and_has_its_share_after_the_slow_start(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(*NEAR[:2])
    service = await start(network, nursery, resolve, policy="least-request", slow_start=20.0)
    await trio.sleep(30)
    resolve.publish(*NEAR[:3])
    await wait_all_tasks_blocked()
    late = str(NEAR[2])

    got = []
    for _ in range(5):
        seen = await ask(service, 500, wait=0.01)
        got.append(seen[late] / seen.total())

    assert got[0] < 0.15
    assert max(abs(a - b) for a, b in zip(got, sorted(got), strict=True)) < 0.04
    assert abs(got[4] - 1 / 3) < 0.04
    assert [1.0] * 3 == [each.weight for each in service.statistics().endpoints]


async def test_an_endpoint_that_comes_back_starts_slowly_again(
    gated: Gated, network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, FakeResolve(*NEAR[:2]), policy="round-robin", slow_start=10.0)
    await trio.sleep(20)
    gated.gates[NEAR[0]].set(Status.CLOSED)
    await trio.sleep(5)
    gated.gates[NEAR[0]].set(Status.OPEN)

    seen = await ask(service, 110)
    assert abs(seen[str(NEAR[0])] - 10) <= 4
    await trio.sleep(15)
    seen = await ask(service, 100)
    assert abs(seen[str(NEAR[0])] - 50) <= 10


async def test_a_weight_that_changes_in_a_slow_start_is_that_part_of_the_new_one(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(NEAR[0])
    service = await start(network, nursery, resolve, slow_start=10.0)
    await trio.sleep(5.01)
    heavy = Endpoint(NEAR[0].address, zone="west", weight=4.0)
    resolve.publish(heavy)

    (only,) = service.statistics().endpoints
    assert 2.0 == pytest.approx(only.weight, abs=0.05)
    await trio.sleep(6)
    (only,) = service.statistics().endpoints
    assert 4.0 == only.weight
    assert 1 == network[NEAR[0].address].made


@pytest.fixture
def gated(network: Network) -> Gated:
    return Gated(network)


@hypothesis.given(
    st.floats(0.5, 600), st.floats(0.1, 10), st.lists(st.floats(0, 100), max_size=20), st.floats(0, 1_000)
)
def test_a_share_grows_from_a_tenth_to_all_of_it_and_never_shrinks(
    window: float, weight: float, steps: list[float], began: float
) -> None:
    class Pool:
        slow_start = window

    member = Member(Pool(), Endpoint(("a", 80), weight=weight), Pending().start(0.0), 0.0)  # type: ignore[arg-type]
    assert weight == member.weight
    member.start_slowly(began)
    shares = [member.weight]
    assert weight / 10 == pytest.approx(shares[0])

    now = began
    for step in steps:
        now += step
        shares.append(member.share(now))
    assert shares == sorted(shares)
    assert weight == pytest.approx(member.share(began + window * 1.001))
    # It is over for good.
    assert weight == member.share(began)


# ----- panic -----


async def test_with_too_few_open_the_busy_ones_get_requests_as_well_until_enough_are_open(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, FakeResolve(*NEAR), policy="round-robin")

    for endpoint in NEAR[:2]:
        gated.gates[endpoint].set(Status.BUSY)
    assert {str(endpoint) for endpoint in NEAR[2:]} == set(await ask(service, 20))
    assert not service.statistics().panic

    # A gate that is closed is never asked, not even in a panic.
    gated.gates[NEAR[2]].set(Status.CLOSED)
    assert service.statistics().panic
    for endpoint in NEAR[:2]:
        gated.gates[endpoint].now = Status.OPEN
    assert {str(NEAR[0]), str(NEAR[1]), str(NEAR[3])} == set(await ask(service, 20))
    for endpoint in NEAR[:2]:
        gated.gates[endpoint].now = Status.BUSY

    gated.gates[NEAR[2]].set(Status.OPEN)
    assert not service.statistics().panic
    assert {str(endpoint) for endpoint in NEAR[2:]} == set(await ask(service, 20))


async def test_without_a_threshold_health_is_always_heeded(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, FakeResolve(*NEAR[:2]), panic=0.0)
    for endpoint in NEAR[:2]:
        gated.gates[endpoint].set(Status.BUSY)

    with pytest.raises(FailFastError):
        await ask(service)


async def test_removals_and_additions_count_as_a_whole(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(*NEAR)
    service = await start(gated, nursery, resolve)
    for endpoint in NEAR[:2]:
        gated.gates[endpoint].set(Status.BUSY)

    # Two of four are open; then one of two.
    resolve.publish(NEAR[0], NEAR[2])
    assert not service.statistics().panic
    assert {str(NEAR[2])} == set(await ask(service, 10))
    resolve.publish(NEAR[0])
    assert service.statistics().panic


async def test_who_waits_is_served_when_a_panic_begins(
    gated: Gated, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = await start(gated, nursery, FakeResolve(*NEAR[:2]))
    for endpoint in NEAR[:2]:
        gated.gates[endpoint].set(Status.CLOSED)
    served: list[Counter[str]] = []

    async def one() -> None:
        served.append(await ask(service))

    nursery.start_soon(one)
    await wait_all_tasks_blocked()
    gated.gates[NEAR[0]].now = Status.OPEN
    gate = gated.gates[NEAR[0]]
    gate.status = lambda: Status.BUSY  # type: ignore[method-assign]
    gate.changed()
    await trio.sleep(0.1)

    assert [Counter({str(NEAR[0]): 1})] == served
