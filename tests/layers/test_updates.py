"""Updates from discovery, while requests wait and while they do not (B-11, B-22; linkerd's tests of the pool)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import attrs
import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import Status
from meshcore.errors import FailFastError, NoEndpoints
from meshcore.http.body import Chunks, read_all
from meshcore.layers import Balance, Route
from meshcore.resolve import changes
from meshcore.resolve.update import identity
from meshcore.testing import FakeResolve, explore_schedules, request
from meshcore.transport.target import Accepted, Backend, Endpoint, TlsClient
from tests.layers.fakes import Network

A, B, C = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))


def start(network: Network, nursery: trio.Nursery, resolve: Any, **options: Any) -> Any:
    return Balance(resolve, rng=random.Random(7), **options).layer(network).new_service(Backend("users"), nursery)


async def ask(service: Any) -> Endpoint | None:
    sent = request()
    await read_all((await service(sent)).body)
    return sent.endpoint


async def seen(service: Any, count: int = 20) -> set[Endpoint | None]:
    return {await ask(service) for _ in range(count)}


# ----- what an update does -----


@pytest.mark.parity("B-22", "U-13")
async def test_an_endpoint_that_is_told_again_unchanged_is_not_touched(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A, B)
    service = start(network, nursery, resolve)
    await seen(service)
    before = {each.address: each for each in service.statistics().endpoints}

    for again in ((A, B), (B, A), (A, B, A), (A, B, C), (A, B)):
        resolve.publish(*again)
        await wait_all_tasks_blocked()

    after = {each.address: each for each in service.statistics().endpoints}
    for endpoint in (A, B):
        assert 1 == network[endpoint.address].made
        assert (before[endpoint.address].rtt, before[endpoint.address].successes) == (
            after[endpoint.address].rtt,
            after[endpoint.address].successes,
        )
    assert 1 == network[C.address].stopped


@pytest.mark.parity("B-22")
@pytest.mark.parametrize(
    "change",
    [
        {"tls": TlsClient("users.test")},
        {"labels": (("pod", "users-2"),)},
        {"zone": "west"},
        {"protocol": "h2"},
        {"mesh_proxy": True},
    ],
)
async def test_a_change_of_what_is_told_of_an_endpoint_replaces_it_and_lets_the_old_one_finish(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock, change: dict[str, Any]
) -> None:
    resolve = FakeResolve(A)
    service = start(network, nursery, resolve)
    body = Chunks()
    network[A.address].body = lambda: body
    response = await service(request())
    changed = attrs.evolve(A, **change)

    resolve.publish(changed)
    body, old = Chunks(), body
    body.push_end()

    assert changed == await ask(service)
    assert 2 == network[A.address].made
    assert 0 == network[A.address].stopped
    assert ["draining", "ready"] == sorted(each.state for each in service.statistics().endpoints)
    old.push_end()
    await read_all(response.body)
    await wait_all_tasks_blocked()
    assert 1 == network[A.address].stopped


@pytest.mark.parity("B-22", "X-14")
async def test_after_a_reset_whoever_is_not_named_any_more_gets_nothing(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A, B)
    service = start(network, nursery, resolve)
    assert {A, B} == await seen(service)

    resolve.publish(B, C)
    await wait_all_tasks_blocked()
    assert {B, C} == await seen(service)
    resolve.publish()
    with pytest.raises(NoEndpoints):
        await ask(service)


@pytest.mark.parity("B-22", "X-10", "X-11")
async def test_without_endpoints_requests_fail_after_the_fail_fast_time_and_then_at_once(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A)
    service = start(network, nursery, resolve)
    await ask(service)
    resolve.publish()
    began = trio.current_time()

    with pytest.raises(NoEndpoints, match="users"):
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - began)
    with pytest.raises(NoEndpoints, match="users"):
        await ask(service)
    assert 3.0 == pytest.approx(trio.current_time() - began)

    resolve.publish(A)
    await wait_all_tasks_blocked()
    assert A == await ask(service)


async def test_a_backend_that_has_others_now_keeps_those_that_it_had_before(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = Balance(rng=random.Random(7)).layer(network).new_service(Backend("users", (A, B)), nursery)
    assert {A, B} == await seen(service)

    service.retarget(Backend("users", (B, C)))
    await wait_all_tasks_blocked()

    assert {B, C} == await seen(service)
    assert [1, 1, 1] == [network[endpoint.address].made for endpoint in (A, B, C)]
    assert [1, 0, 0] == [network[endpoint.address].stopped for endpoint in (A, B, C)]


async def test_a_balancer_tells_how_it_is_and_whether_it_is_used(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve()
    service = start(network, nursery, resolve)
    assert (Status.BUSY, False) == (service.status(), service.in_use())
    with pytest.raises(FailFastError):
        await ask(service)
    assert Status.CLOSED is service.status()

    resolve.publish(A)
    await wait_all_tasks_blocked()
    assert Status.OPEN is service.status()
    body = Chunks()
    network[A.address].body = lambda: body
    response = await service(request())
    assert service.in_use()
    response.body.abort()
    assert not service.in_use()
    async with trio.open_nursery() as asking:
        network[A.address].down = True
        asking.start_soon(ask, service)
        await wait_all_tasks_blocked()
        assert service.in_use()
        asking.cancel_scope.cancel()


@pytest.mark.parity("X-08", "B-23")
async def test_discovery_begins_with_the_first_request_and_serves_every_client_after_it(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolve = FakeResolve(A)
    users, others = Backend("users"), Backend("others")
    stack = Route({"users": users, "others": others}).layer(Balance(resolve).layer(network))
    clients: list[Any] = [stack.new_service(Accepted(peer=("10.9.9.9", port)), nursery) for port in (1, 2, 3)]
    await wait_all_tasks_blocked()
    assert [] == resolve.watching

    for client in clients:
        sent = request(authority=b"users")
        await read_all((await client(sent)).body)
        assert A == sent.endpoint

    assert [users] == resolve.watching
    assert 1 == network[A.address].made


# ----- while requests wait -----


@pytest.mark.parity("B-11", "U-13", "X-17")
async def test_updates_are_applied_while_requests_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    resolve = FakeResolve(A)
    service = start(network, nursery, resolve)
    served: list[Endpoint | None] = []

    async def one() -> None:
        served.append(await ask(service))

    async with trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(one)
        await trio.sleep(1.0)
        resolve.publish(A, B)

    assert [B] * 5 == served
    network[A.address].down = False
    await trio.sleep(60)
    assert {A, B} == await seen(service)


@pytest.mark.parity("B-11")
async def test_who_waits_for_an_endpoint_that_goes_is_given_the_one_that_comes(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network[A.address].down = True
    resolve = FakeResolve(A)
    service = start(network, nursery, resolve)

    async def update() -> None:
        for endpoints in ((), (C,), (B,)):
            await trio.sleep(0.5)
            network[C.address].down = True
            resolve.publish(*endpoints)

    nursery.start_soon(update)

    assert B == await ask(service)


@pytest.mark.parity("B-11", "U-13", "X-15")
async def test_updates_that_help_nobody_do_not_lengthen_the_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for endpoint in (A, B, C):
        network[endpoint.address].down = True
    resolve = FakeResolve(A)
    service = start(network, nursery, resolve)
    began = trio.current_time()

    async def update() -> None:
        while True:
            for endpoints in ((A, B), (B, C), (C,), (A,)):
                await trio.sleep(0.4)
                resolve.publish(*endpoints)

    nursery.start_soon(update)
    with pytest.raises(FailFastError):
        await ask(service)

    assert 3.0 == pytest.approx(trio.current_time() - began)


class Once:
    """Discovery that ends, or breaks, after its first word."""

    def __init__(self, *endpoints: Endpoint, error: Exception | None = None) -> None:
        self.endpoints = endpoints
        self.error = error

    async def watch(self, target: Any, publish: Any, /) -> None:
        await trio.sleep(0.5)
        if self.endpoints or self.error is None:
            publish(self.endpoints)
        if self.error is not None:
            raise self.error


@pytest.mark.parity("B-11", "U-13")
async def test_a_resolution_that_is_complete_and_empty_tells_all_who_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service = start(network, nursery, Once())
    began = trio.current_time()
    failed: list[float] = []

    async def one() -> None:
        with pytest.raises(NoEndpoints):
            await ask(service)
        failed.append(trio.current_time() - began)

    async with trio.open_nursery() as asking:
        for _ in range(3):
            asking.start_soon(one)

    # At once, not after the fail-fast time: nobody will come any more.
    assert [0.5] * 3 == pytest.approx(failed)


@pytest.mark.parity("U-13")
async def test_a_resolution_that_breaks_after_endpoints_were_named_leaves_them(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    service = start(network, nursery, Once(A, error=OSError("gone")))

    for _ in range(5):
        assert A == await ask(service)
        await trio.sleep(10)

    assert 1 == network[A.address].made
    assert "discovery of backend users" in caplog.text


@explore_schedules(examples=25)
async def test_no_request_is_lost_whatever_comes_and_goes_under_any_schedule() -> None:
    network = Network()
    network[B.address].down = True
    resolve = FakeResolve()
    served: list[Endpoint | None] = []

    async def one() -> None:
        served.append(await ask(service))

    async def update() -> None:
        sets: Sequence[tuple[Endpoint, ...]] = ((B,), (), (A, B), (B,), (C, B), (C,))
        for endpoints in sets:
            await trio.sleep(0.01)
            resolve.publish(*endpoints)

    async with trio.open_nursery() as nursery:
        service = start(network, nursery, resolve)
        async with trio.open_nursery() as asking:
            for _ in range(8):
                asking.start_soon(one)
            asking.start_soon(update)
        assert 8 == len(served)
        assert not any(each.in_flight or each.pending for each in service.statistics().endpoints)
        nursery.cancel_scope.cancel()


# ----- the difference -----

ENDPOINTS = st.builds(
    Endpoint,
    st.tuples(st.sampled_from(["a", "b", "c"]), st.just(80)),
    zone=st.sampled_from(["", "west"]),
    weight=st.sampled_from([0.0, 1.0, 2.0]),
)


@hypothesis.given(st.lists(ENDPOINTS, max_size=8), st.lists(ENDPOINTS, max_size=8))
def test_applying_the_difference_makes_the_one_set_the_other(old: list[Endpoint], new: list[Endpoint]) -> None:
    known: dict[Endpoint, Endpoint] = {}
    for endpoint in old:
        known.setdefault(identity(endpoint), endpoint)
    want: dict[Endpoint, Endpoint] = {}
    for endpoint in new:
        want.setdefault(identity(endpoint), endpoint)

    update = changes(list(known.values()), new)
    for endpoint in update.removed:
        del known[identity(endpoint)]
    for endpoint in update.weighted:
        assert identity(endpoint) in known
        known[identity(endpoint)] = endpoint
    for endpoint in update.added:
        assert identity(endpoint) not in known
        known[identity(endpoint)] = endpoint

    assert want == known
    assert changes(list(want.values()), new) == changes([], [])
