"""explore_schedules finds what works under one order only, and leaves fixtures alone."""

from __future__ import annotations

import pytest
import trio

from meshcore.testing import explore_schedules


def test_both_orders_of_two_tasks_are_seen() -> None:
    seen: set[tuple[str, ...]] = set()

    @explore_schedules(examples=20)
    async def two_tasks() -> None:
        order: list[str] = []

        async def note(name: str) -> None:
            order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "first")
            nursery.start_soon(note, "second")
        seen.add(tuple(order))

    two_tasks()

    assert {("first", "second"), ("second", "first")} == seen


def test_a_race_that_one_order_hides_is_found() -> None:
    @explore_schedules(examples=20)
    async def racy() -> None:
        ready: list[int] = []

        async def produce() -> None:
            ready.append(1)

        async def consume() -> None:
            assert ready

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            nursery.start_soon(consume)

    with pytest.raises(ExceptionGroup) as caught:
        racy()
    assert caught.group_contains(AssertionError)


@explore_schedules(examples=3)
async def test_a_decorated_test_takes_fixtures_and_runs_on_a_mock_clock(tmp_path: object) -> None:
    start = trio.current_time()
    await trio.sleep(3600)

    assert tmp_path is not None
    assert trio.current_time() - start >= 3600
