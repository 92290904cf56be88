"""Percentiles of buckets, and growth of counters that begin anew: the mathematics under ``/stats``."""

from __future__ import annotations

import random
from bisect import bisect_left
from itertools import accumulate

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshcore.admin.stats.growth import PIECE, Growth, grown, increase, increases
from meshcore.admin.stats.percentile import percentile, percentiles
from meshcore.metrics import LATENCY_MS, Registry

BOUNDS = st.lists(st.integers(1, 10_000), min_size=1, max_size=12, unique=True).map(lambda found: tuple(sorted(found)))


@st.composite
def histograms(draw: st.DrawFn) -> tuple[tuple[int, ...], list[int]]:
    bounds = draw(BOUNDS)
    return bounds, draw(st.lists(st.integers(0, 50), min_size=len(bounds) + 1, max_size=len(bounds) + 1))


def quantile(part: float, bounds: tuple[int, ...], counts: list[int]) -> float | None:
    """As the documentation of Prometheus describes it, in so many words."""
    below = list(accumulate(counts))
    if not below[-1]:
        return None
    rank = part * below[-1]
    bucket = bisect_left(below, rank)
    if bucket == len(bounds):
        return bounds[-1]
    start = bounds[bucket - 1] if bucket else 0.0
    before = below[bucket - 1] if bucket else 0
    if counts[bucket] == 0:
        return start
    return start + (bounds[bucket] - start) * (rank - before) / counts[bucket]


def test_a_percentile_is_interpolated_within_its_bucket() -> None:
    # 10 within 1 ms, 80 from 1 to 2 ms, 10 from 2 to 3 ms.
    counts = [10, 80, 10, *[0] * (len(LATENCY_MS) - 2)]
    assert percentile(0.5, LATENCY_MS, counts) == 1.5
    assert percentile(0.05, LATENCY_MS, counts) == 0.5
    assert percentile(0.95, LATENCY_MS, counts) == 2.5


def test_what_is_above_every_bound_is_told_as_the_highest_bound() -> None:
    counts = [1, *[0] * (len(LATENCY_MS) - 1), 99]
    assert percentile(0.99, LATENCY_MS, counts) == LATENCY_MS[-1]


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile(0.5, LATENCY_MS, [0] * (len(LATENCY_MS) + 1)) is None
    assert percentile(0.5, (), []) is None


@given(histograms(), st.floats(0.001, 1.0))
def test_percentiles_are_those_of_prometheus(histogram: tuple[tuple[int, ...], list[int]], part: float) -> None:
    bounds, counts = histogram
    expected = quantile(part, bounds, counts)
    assert percentile(part, bounds, counts) == (expected if expected is None else pytest.approx(expected))


@given(histograms(), st.floats(0.001, 1.0), st.floats(0.001, 1.0))
def test_a_higher_percentile_is_never_lower(
    histogram: tuple[tuple[int, ...], list[int]], one: float, other: float
) -> None:
    bounds, counts = histogram
    low, high = percentile(min(one, other), bounds, counts), percentile(max(one, other), bounds, counts)
    if low is None or high is None:
        assert sum(counts) == 0
    else:
        assert 0.0 <= low <= high + 1e-9
        assert high <= bounds[-1]


@given(histograms(), st.lists(st.floats(0.001, 1.0), max_size=5).map(sorted))
def test_several_at_once_are_the_same(histogram: tuple[tuple[int, ...], list[int]], parts: list[float]) -> None:
    bounds, counts = histogram
    assert percentiles(parts, bounds, counts) == [percentile(part, bounds, counts) for part in parts]


def test_a_counter_that_has_less_than_before_began_anew() -> None:
    assert (increase(5, 8), increase(5, 5), increase(5, 3)) == (3, 0, 3)
    assert increases((1, 2), (1, 5)) == (0, 3)
    assert increases((4, 2), (1, 3)) == (1, 3)


async def all_of(growth: Growth[str], registry: Registry, name: str) -> list[object]:
    return await growth.look(next(family.series() for family in registry.families() if family.name == name))


def by_name(labels: dict[str, str]) -> str | None:
    return labels.get("name")


@given(
    st.lists(
        st.one_of(st.integers(0, 100), st.just("restart"), st.just("vanish"), st.just("look")), min_size=1, max_size=40
    )
)
def test_what_came_is_the_difference_of_two_looks_whatever_became_of_the_cell(events: list[int | str]) -> None:
    async def main() -> None:
        growth: Growth[str] = Growth("x", by_name)
        key = (("name", "a"),)

        class Cell:
            value = 7.0

        cell = Cell()
        came = lost = 0.0
        first = await growth.look([(key, cell)])
        seen = cell.value
        there = True
        for event in events:
            if event == "look":
                await growth.look([(key, cell)] if there else [])
                if not there:
                    # What came between the last look and its end cannot be known; when it is back, it is another one.
                    lost += cell.value - seen
                    cell = Cell()
                    cell.value = 0.0
                seen = cell.value
            elif event == "restart":
                # What is counted between the last look and a restart cannot be known.
                lost += cell.value - seen
                cell = Cell()
                cell.value = seen = 0.0
                there = True
                await growth.look([(key, cell)])
            elif event == "vanish":
                there = not there
            else:
                assert isinstance(event, int)
                cell.value += event
                came += event
        last = await growth.look([(key, cell)])
        found: dict[str, float] = {}
        await grown(growth.keys(), first, last, found.__setitem__)
        assert found.get("a", 0.0) == came - lost

    trio.run(main)


async def test_a_series_that_is_new_has_all_come_since_the_look_before() -> None:
    registry = Registry()
    family = registry.counter("x_total", "…", "name")
    family.labels("old").value = 100
    growth: Growth[str] = Growth("x", by_name)
    first = await all_of(growth, registry, "x_total")
    family.labels("old").value += 1
    family.labels("new").value = 5
    found: dict[str, float] = {}
    last = await all_of(growth, registry, "x_total")
    await grown(growth.keys(), first, last, found.__setitem__)
    assert found == {"old": 1, "new": 5}


async def test_histograms_grow_by_bucket_and_begin_anew_as_a_whole() -> None:
    registry = Registry()
    cell = registry.histogram("x", "…", "name", buckets=(1, 2)).labels("a")
    for value in (0.5, 1.5, 1.5, 9):
        cell.observe(value)
    growth: Growth[str] = Growth("x", by_name)
    first = await all_of(growth, registry, "x")
    cell.observe(1.7)
    second = await all_of(growth, registry, "x")
    # A restart: fewer in one bucket, and one more in another.
    cell.counts[:] = [0, 1, 2]
    third = await all_of(growth, registry, "x")
    found: dict[str, object] = {}
    await grown(growth.keys(), first, second, found.__setitem__)
    assert found == {"a": (0, 1, 0)}
    await grown(growth.keys(), second, third, found.__setitem__)
    assert found == {"a": (0, 1, 2)}
    assert growth.bounds == (1, 2)


async def test_what_does_not_grow_is_not_told_and_keeps_no_new_objects() -> None:
    registry = Registry()
    family = registry.histogram("x", "…", "name")
    cells = [family.labels(str(number)) for number in range(3)]
    growth: Growth[str] = Growth("x", by_name)
    first = await all_of(growth, registry, "x")
    cells[1].observe(3)
    second = await all_of(growth, registry, "x")
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, False, True]
    told: list[str] = []
    await grown(growth.keys(), first, second, lambda key, _: told.append(key))
    assert told == ["1"]


async def test_others_have_their_turn_between_the_pieces_of_a_look(nursery: trio.Nursery) -> None:
    registry = Registry(max_series=4 * PIECE)
    family = registry.counter("x_total", "…", "name")
    for number in range(4 * PIECE):
        family.labels(str(number)).value = random.random()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    nursery.start_soon(other)
    await trio.lowlevel.checkpoint()
    before = turns
    await all_of(Growth("x_total", by_name), registry, "x_total")
    assert turns - before >= 3


async def test_what_is_folded_into_the_overflow_series_is_not_counted_again() -> None:
    class Cell:
        def __init__(self, value: float) -> None:
            self.value = value

    growth: Growth[str] = Growth("x", lambda labels: labels.get("name", "overflow"))
    overflow, a, b = (("overflow", "true"),), (("name", "a"),), (("name", "b"),)
    first = await growth.look([(overflow, Cell(10)), (a, Cell(100)), (b, Cell(5))])
    # It has made room, and two more had come for it; another one for overflow itself.
    last = await growth.look([(overflow, Cell(113)), (b, Cell(6))])
    found: dict[str, float] = {}
    await grown(growth.keys(), first, last, found.__setitem__)
    assert found == {"overflow": 3, "b": 1}
    # It is back.
    last = await growth.look([(overflow, Cell(113)), (a, Cell(2)), (b, Cell(6))])
    await grown(growth.keys(), first, last, found.__setitem__)
    assert found == {"overflow": 3, "a": 2, "b": 1}


async def test_histograms_are_folded_by_bucket() -> None:
    registry = Registry()
    family = registry.histogram("x", "…", "name", buckets=(1, 2))
    cell, into = family.labels("a"), family.labels("b")
    for value in (0.5, 1.5, 1.5):
        cell.observe(value)
    growth: Growth[str] = Growth("x", lambda labels: labels.get("name", "overflow"))
    overflow, a = (("overflow", "true"),), (("name", "a"),)
    first = await growth.look([(overflow, into), (a, cell)])
    into.counts[:] = [1, 2, 1]
    last = await growth.look([(overflow, into)])
    found: dict[str, object] = {}
    await grown(growth.keys(), first, last, found.__setitem__)
    assert found == {"overflow": (0, 0, 1)}
