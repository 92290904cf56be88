"""The line before a balancer: in order, in bounded batches, whoever leaves meanwhile."""

from __future__ import annotations

import random

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from meshcore.http.body import read_all
from meshcore.layers.balance import Balance
from meshcore.layers.balance.line import BATCH, Line, Waiter
from meshcore.testing import FakeResolve, explore_schedules, request
from meshcore.transport.target import Backend, Endpoint
from tests.layers.fakes import Network

A, B = (Endpoint((host, 8080)) for host in ("10.0.0.1", "10.0.0.2"))
BACKEND = Backend("users", (A, B))


class Numbers:
    """Gives 1, 2, 3 …, up to *last*."""

    def __init__(self, last: int) -> None:
        self.given = 0
        self.last = last

    def __call__(self, waiter: Waiter) -> int | None:
        if self.given == self.last:
            return None
        self.given += 1
        return self.given


def test_who_came_first_is_given_first_and_the_next_ones_when_those_have_gone() -> None:
    line, take = Line(), Numbers(10_000)
    waiters = [line.join(()) for _ in range(3 * BATCH)]
    line.hand_out(take)
    line.hand_out(take)
    assert list(range(1, BATCH + 1)) == [waiter.member for waiter in waiters[:BATCH]]
    assert 2 * BATCH == len(line)
    # Who comes meanwhile is behind those who wait, and one who goes is missed by nobody.
    waiters.append(line.join(()))
    line.leave(waiters.pop(2 * BATCH), take)
    for waiter in waiters[: BATCH - 1]:
        line.leave(waiter, take)
    assert waiters[BATCH].member is None
    line.leave(waiters[BATCH - 1], take)
    for waiter in waiters[BATCH:]:
        line.leave(waiter, take)
    assert list(range(1, 3 * BATCH + 1)) == [waiter.member for waiter in waiters]
    assert 0 == len(line)


def test_a_long_line_is_given_a_quarter_at_a_time() -> None:
    line, take = Line(), Numbers(100_000)
    for _ in range(10_000):
        line.join(())
    line.hand_out(take)
    assert (2_500, 7_500) == (take.given, len(line))


@hypothesis.given(st.lists(st.sampled_from(["join", "go", "give up", "more"]), max_size=300))
def test_whatever_happens_the_order_holds_and_nobody_is_forgotten(steps: list[str]) -> None:
    line, take = Line(), Numbers(0)
    waiting: list[Waiter] = []
    given: list[int] = []
    for step in steps:
        if step == "join" and (line or take.given == take.last):
            waiting.append(line.join(()))
        elif step == "more":
            take.last += BATCH + 3
            line.hand_out(take)
        elif step == "give up" and waiting:
            line.leave(waiting.pop(len(waiting) // 2), take)
        elif step == "go":
            for waiter in [waiter for waiter in waiting if waiter.member is not None]:
                given.append(waiter.member)
                waiting.remove(waiter)
                line.leave(waiter, take)
        members = [waiter.member for waiter in waiting if waiter.member is not None]
        assert members == sorted(members)
        assert all(waiter.member is None for waiter in waiting[len(members) :])
        assert len(line) == len(waiting) - len(members)
        assert not line or members or take.given == take.last
    assert given == sorted(given)


@pytest.mark.parity("B-11")
@explore_schedules(examples=20)
async def test_requests_get_endpoints_in_the_order_in_which_they_began_to_wait() -> None:
    network = Network()
    network[A.address].latency = network[B.address].latency = 0.0
    resolve = FakeResolve()
    balance = Balance(resolve, policy="round-robin", rng=random.Random(3))
    # Longer than one batch, so that some come while others are still being served.
    count = 2 * BATCH + 10
    served: list[int] = []
    async with trio.open_nursery() as nursery:
        service = balance.layer(network).new_service(BACKEND, nursery)
        scopes = [trio.CancelScope() for _ in range(count + 20)]

        async def one(number: int) -> None:
            with scopes[number]:
                sent = request()
                response = await service(sent)
                await read_all(response.body)
                served.append(number)

        async with trio.open_nursery() as callers:
            for number in range(count):
                callers.start_soon(one, number)
                await wait_all_tasks_blocked()
            for number in (0, 5, BATCH, count - 1):
                scopes[number].cancel()
            await wait_all_tasks_blocked()
            assert count - 4 == service.statistics().waiting  # type: ignore[attr-defined]
            resolve.publish(A, B)
            while not served:
                await trio.lowlevel.checkpoint()
            for number in range(count, count + 20):
                callers.start_soon(one, number)

        left = [number for number in range(count + 20) if number not in (0, 5, BATCH, count - 1)]
        assert left == sorted(served)
        # Whoever waited in the first batch is served before anyone in the second.
        assert set(left[:BATCH]) == set(served[:BATCH])
        assert set(left[BATCH : 2 * BATCH]) == set(served[BATCH : 2 * BATCH])
        assert (0, [0, 0]) == (
            service.statistics().waiting,  # type: ignore[attr-defined]
            [each.pending for each in service.statistics().endpoints],  # type: ignore[attr-defined]
        )
        nursery.cancel_scope.cancel()


async def test_a_line_whose_endpoint_goes_away_again_waits_on_in_its_order(
    network: Network, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    network[A.address].latency = network[B.address].latency = 0.0
    resolve = FakeResolve()
    service = Balance(resolve, rng=random.Random(3)).layer(network).new_service(BACKEND, nursery)
    served: list[int] = []

    async def one(number: int) -> None:
        await service(request())
        served.append(number)

    async with trio.open_nursery() as callers:
        for number in range(3 * BATCH):
            callers.start_soon(one, number)
            await wait_all_tasks_blocked()
        resolve.publish(A)
        while service.statistics().waiting == 3 * BATCH:  # type: ignore[attr-defined]
            await trio.lowlevel.checkpoint()
        resolve.publish()
        await trio.sleep(2.0)
        assert set(range(BATCH)) == set(served)
        resolve.publish(B)
    assert list(range(3 * BATCH)) == sorted(served)
    assert set(range(BATCH, 2 * BATCH)) == set(served[BATCH : 2 * BATCH])
