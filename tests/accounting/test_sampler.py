"""Which requests are measured, and what each of them stands for."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.accounting.sampler import Sampler

EVERY = 0.005


def run(sampler: Sampler, times: Iterable[float]) -> list[int]:
    """The weight of each request that comes at these times, 0 for one that is passed over."""
    weights = []
    for now in times:
        if sampler.left:
            sampler.left -= 1
            weights.append(0)
        else:
            weights.append(sampler.take(now))
    return weights


def rush(count: int, rate: float, start: float = 0.0) -> list[float]:
    return [start + number / rate for number in range(count)]


def test_each_request_is_measured_while_they_are_few() -> None:
    assert [1] * 2_000 == run(Sampler(every=EVERY), rush(2_000, 150))


def test_a_burst_of_fifty_is_measured_whole() -> None:
    weights = run(Sampler(every=EVERY), [7.0] * 400)
    assert [1] * 50 == weights[:50]
    assert 0 in weights[50:]


@given(st.lists(st.floats(0, 0.02), min_size=1, max_size=2_000), st.integers(0, 1_000), st.sets(st.integers(0, 2_000)))
def test_the_weights_and_what_waits_add_up_to_all_requests(gaps: list[float], seed: int, looks: set[int]) -> None:
    sampler = Sampler(seed, EVERY)
    now, counted = 0.0, 0
    for number, gap in enumerate(gaps):
        now += gap
        counted += run(sampler, [now])[0]
        if number in looks:
            sampler.look()
        assert counted + sampler.waiting == number + 1


def test_while_there_are_many_two_hundred_a_second_are_measured() -> None:
    weights = run(Sampler(every=EVERY), rush(100_000, 20_000))
    measured = sum(map(bool, weights))
    assert 850 < measured < 1_300
    assert 99_000 < sum(weights) < 101_000


def test_one_that_comes_after_a_pause_is_measured_soon() -> None:
    sampler = Sampler(every=EVERY)
    run(sampler, rush(20_000, 20_000))
    weights = run(sampler, rush(1_000, 10, start=60.0))
    # Two blocks of the rush at the most.
    assert weights[-600:] == [1] * 600


def test_after_a_rush_the_next_one_is_measured_once_somebody_has_looked_twice() -> None:
    sampler = Sampler(every=EVERY)
    run(sampler, rush(20_000, 20_000))
    sampler.look()
    while sampler.left < 30:
        run(sampler, [1.0])
    sampler.look()
    assert [0] == run(sampler, [3.0])
    sampler.look()
    assert run(sampler, [5.0])[0]
    # And the ones after it, while they are few, although the block that was cut short is not all there.
    assert [1] * 20 == run(sampler, rush(20, 10, start=6.0))


@pytest.mark.parametrize("more", [0, 1, 37, 150])
def test_a_block_that_is_cut_short_is_made_good(more: int) -> None:
    sampler = Sampler(every=EVERY)
    counted = sum(run(sampler, rush(20_000 + more, 20_000)))
    for number in range(3):
        sampler.look()
        counted += sum(run(sampler, [5.0 + number]))
    counted += sum(run(sampler, rush(20_000, 20_000, start=10.0)))
    assert counted + sampler.waiting == 40_003 + more
    assert abs(sampler.waiting) < 400


def test_each_request_is_worth_one_whatever_their_rhythm() -> None:
    # Bursts of 100 every 50 ms: were the first one after a pause always taken, it would stand for most of the others.
    times = [burst * 0.05 + number * 1e-5 for burst in range(60) for number in range(100)]
    worth = [0] * 4
    total = 0
    for seed in range(60):
        for number, weight in enumerate(run(Sampler(seed, EVERY), times)):
            # The first one by itself, then thirds of the others.
            worth[(number % 100 + 32) // 33] += weight
            total += weight
    assert abs(worth[0] / total - 0.01) < 0.001
    assert all(abs(each / total - 0.33) < 0.01 for each in worth[1:]), worth


def test_a_slow_request_in_a_hundred_weighs_as_much_as_there_are() -> None:
    generator = random.Random(1)
    slow = [generator.random() < 0.01 for _ in range(200_000)]
    weights = run(Sampler(every=EVERY), rush(200_000, 10_000))
    found = sum(weight for weight, each in zip(weights, slow, strict=True) if each)
    assert 0.006 < found / sum(weights) < 0.014
