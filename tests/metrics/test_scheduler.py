"""What the metrics say of Trio's scheduler."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshcore.metrics.registry import Registry
from meshcore.metrics.scheduler import Scheduler


def value(registry: Registry, series: str) -> float:
    lines = registry.render().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{series} ")]
    return float(found.rpartition(" ")[2])


async def test_tasks_are_counted_when_somebody_scrapes(nursery: trio.Nursery) -> None:
    registry = Registry()
    Scheduler(registry)
    before = value(registry, "trio_tasks")
    for _ in range(3):
        nursery.start_soon(trio.sleep_forever)
    assert 3 == value(registry, "trio_tasks_runnable")
    await trio.testing.wait_all_tasks_blocked()
    assert (before + 3, 0) == (value(registry, "trio_tasks"), value(registry, "trio_tasks_runnable"))
    nursery.cancel_scope.cancel()


async def test_the_lag_is_how_late_a_sleeper_is_woken(nursery: trio.Nursery, mock_clock: MockClock) -> None:
    registry = Registry()
    looks: list[float] = []
    nursery.start_soon(Scheduler(registry, lambda: looks.append(trio.current_time())).run)
    await trio.testing.wait_all_tasks_blocked()
    # The loop is held up: nothing runs until long after the second.
    for late in (0.0, 0.2, 3.0):
        mock_clock.jump(1.0 + late)
        await trio.testing.wait_all_tasks_blocked()
    assert [1.0, 2.2, 6.2] == pytest.approx(looks)
    assert 3 == value(registry, "trio_loop_lag_seconds_count")
    assert 3.2 == pytest.approx(value(registry, "trio_loop_lag_seconds_sum"))
    assert [1, 1, 2, 2, 3] == [
        value(registry, f'trio_loop_lag_seconds_bucket{{le="{bound}"}}')
        for bound in ("0.001", "0.1", "0.25", "2.5", "5")
    ]
    nursery.cancel_scope.cancel()


def test_outside_of_trio_a_scrape_still_works() -> None:
    registry = Registry()
    Scheduler(registry)
    assert 0 == value(registry, "trio_tasks")
