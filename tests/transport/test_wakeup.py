"""Parking and waking: sticky for one, fair for many, and cancelled cleanly."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshcore._wakeup import Wakeup, WakeupQueue
from meshcore.testing import explore_schedules


async def test_a_wake_before_the_wait_lets_it_pass_once() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()
    with trio.testing.assert_no_checkpoints():
        await wakeup.wait()
    with trio.move_on_after(0.01) as scope:
        await wakeup.wait()

    assert scope.cancelled_caught


async def test_a_wake_that_was_forgotten_lets_nobody_pass() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.clear()
    with trio.move_on_after(0.01) as scope:
        await wakeup.wait()

    assert scope.cancelled_caught
    assert not wakeup.waiting


async def test_a_second_waiter_is_refused(nursery: trio.Nursery) -> None:
    wakeup = Wakeup()

    async def park() -> None:
        await wakeup.wait()

    nursery.start_soon(park)
    await trio.testing.wait_all_tasks_blocked()
    assert wakeup.waiting
    with pytest.raises(RuntimeError, match="another task is waiting on this wakeup"):
        await wakeup.wait()
    wakeup.wake()


async def test_a_wake_between_a_cancellation_and_its_delivery_is_kept_for_the_next(nursery: trio.Nursery) -> None:
    wakeup = Wakeup()
    scope = trio.CancelScope()
    passed: list[str] = []

    async def first() -> None:
        with scope:
            await wakeup.wait()
            passed.append("first")

    async def second() -> None:
        await wakeup.wait()
        passed.append("second")

    nursery.start_soon(first)
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    assert not wakeup.waiting
    wakeup.wake()
    nursery.start_soon(second)
    await trio.testing.wait_all_tasks_blocked()
    assert ["second"] == passed


async def test_another_may_wait_as_soon_as_the_first_is_cancelled(nursery: trio.Nursery) -> None:
    wakeup = Wakeup()
    scope = trio.CancelScope()
    passed: list[str] = []

    async def park(name: str, within: trio.CancelScope) -> None:
        with within:
            await wakeup.wait()
            passed.append(name)

    nursery.start_soon(park, "first", scope)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(park, "second", trio.CancelScope())
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    wakeup.wake()
    await trio.testing.wait_all_tasks_blocked()
    assert ["second"] == passed


async def test_many_are_woken_in_their_order(nursery: trio.Nursery) -> None:
    queue = WakeupQueue()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await queue.wait()
        woken.append(number)

    for number in range(3):
        nursery.start_soon(wait, number)
        await trio.testing.wait_all_tasks_blocked()
    assert 3 == len(queue)
    assert queue.wake_one()
    await trio.testing.wait_all_tasks_blocked()
    assert [0] == woken
    queue.wake_all()
    await trio.testing.wait_all_tasks_blocked()
    assert {0, 1, 2} == set(woken)
    assert not queue.wake_one()


async def test_a_waiter_that_is_cancelled_leaves_the_queue(nursery: trio.Nursery) -> None:
    queue = WakeupQueue()
    with trio.move_on_after(0.01):
        await queue.wait()

    assert 0 == len(queue)


@explore_schedules(50)
async def test_no_wake_is_lost_whatever_runs_first() -> None:
    wakeup = Wakeup()
    items: list[int] = []
    taken: list[int] = []

    async def consume() -> None:
        while len(taken) < 20:
            while not items:
                await wakeup.wait()
            taken.append(items.pop(0))

    async def produce(start: int) -> None:
        for number in range(start, start + 10):
            items.append(number)
            wakeup.wake()
            await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            nursery.start_soon(produce, 0)
            nursery.start_soon(produce, 10)

    assert list(range(20)) == sorted(taken)
