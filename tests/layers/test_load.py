"""The arithmetic of load and of picking."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import attrs
import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.layers.balance.load import PeakEwma, Pending
from meshcore.layers.balance.p2c import P2c
from meshcore.layers.balance.ready import Ready
from meshcore.layers.balance.round_robin import RoundRobin
from meshcore.transport.backoff import Backoff
from meshcore.transport.target import Endpoint


@attrs.define(eq=False)
class Fixed:
    """A load that does not change."""

    value: float

    def load(self, now: float, scale: float, /) -> float:
        return self.value


class Someone:
    """A candidate."""

    def __init__(self, load: Any = None, weight: float = 1.0, number: int = 0) -> None:
        self.endpoint = Endpoint(("10.0.0.1", number))
        self.weight = weight
        self.load = Fixed(1.0) if load is None else load
        self.slot = -1
        self.served = 0.0


# ----- peak EWMA -----


@pytest.mark.parity("B-02")
def test_the_load_is_the_decayed_round_trip_time_by_pending_and_one() -> None:
    load = PeakEwma(decay=10.0, default_rtt=0.030).start(0.0)

    assert 0.030 == load.load(0.0, 1.0)
    assert pytest.approx(0.030 * math.exp(-0.5)) == load.load(5.0, 1.0)

    load.begin(5.0)
    load.begin(5.0)
    assert pytest.approx(0.030 * math.exp(-0.5) * 3) == load.load(5.0, 1.0)


@pytest.mark.parity("B-02", "U-15")
def test_a_peak_counts_at_once_and_is_forgotten_exponentially() -> None:
    load = PeakEwma(decay=10.0).start(0.0)
    load.begin(1.0)
    load.end(1.5, 1.0, True)
    assert 0.5 == load.load(1.5, 1.0)

    load.begin(11.5)
    load.end(11.6, 11.5, True)
    kept = math.exp(-10.1 / 10)
    assert pytest.approx(0.5 * kept + 0.1 * (1 - kept)) == load.load(11.6, 1.0)


@pytest.mark.parity("B-02")
def test_the_seed_is_at_least_one_millisecond_and_30_by_default() -> None:
    assert 0.001 == PeakEwma(default_rtt=0.0).start(0.0).rtt
    assert (10.0, 0.030) == (PeakEwma().decay, PeakEwma().default_rtt)


def test_silence_counts_as_soon_as_it_is_longer_than_the_estimate() -> None:
    load = PeakEwma(default_rtt=0.01).start(0.0)
    load.begin(0.0)
    load.begin(1.0)
    assert pytest.approx(2.0 * 3) == load.load(2.0, 1.0)

    # An answer ends the silence of those that are still owed.
    load.end(2.0, 1.0, True)
    assert pytest.approx(1.0 * 2) == load.load(2.0, 1.0)
    assert pytest.approx(5.0 * 2) == load.load(7.0, 1.0)


def test_a_failure_makes_an_endpoint_slower_but_never_quicker() -> None:
    load = PeakEwma(default_rtt=0.1).start(0.0)
    load.begin(0.0)
    load.end(0.001, 0.0, False)
    assert 0.1 == load.rtt
    load.begin(0.0)
    load.end(2.0, 0.0, False)
    assert 2.0 == load.rtt


def test_pending_requests_count_by_the_inverse_of_the_weight() -> None:
    for load, unit in ((PeakEwma(default_rtt=0.1).start(0.0), 0.1), (Pending().start(0.0), 1.0)):
        load.begin(0.0)
        load.begin(0.0)
        assert pytest.approx(unit * (1 + 2 * 0.25)) == load.load(0.0, 0.25)
        load.end(0.0, 0.0, True)
        load.hold()
        load.release()
        assert 1 == load.pending


def test_a_connection_that_lives_long_is_one_that_is_pending_and_nothing_else() -> None:
    load = PeakEwma(default_rtt=0.1).start(0.0)
    load.hold()
    assert pytest.approx(0.2 * math.exp(-1)) == load.load(10.0, 1.0)
    load.release()
    assert 0.1 == load.rtt


@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 10), st.booleans(), st.booleans()), max_size=40), st.floats(0.001, 30.0)
)
def test_the_load_is_never_negative_nor_above_the_highest_sample_by_pending(
    steps: list[tuple[float, bool, bool]], decay: float
) -> None:
    load = PeakEwma(decay=decay).start(0.0)
    now, begun = 0.0, []
    for pause, begins, answered in steps:
        now += pause
        if begins or not begun:
            load.begin(now)
            begun.append(now)
        else:
            load.end(now, begun.pop(0), answered)
        assert len(begun) == load.pending
        assert 0 <= load.load(now, 1.0) <= max(now, 0.030) * (load.pending + 1) + 1e-9


@pytest.mark.parity("U-15")
@hypothesis.given(
    st.floats(0.001, 1e6), st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), max_size=20), st.floats(0, 1e9)
)
def test_reading_changes_nothing_and_time_only_forgets(
    default: float, samples: list[tuple[float, float]], later: float
) -> None:
    load = PeakEwma(default_rtt=default).start(0.0)
    now = 0.0
    for passed, sample in samples:
        now += passed
        before = load.rtt
        started = now - min(sample, now)
        load.begin(started)
        load.end(now, started, True)
        # A peak counts at once; anything else lies between what was known and what was measured.
        measured = now - started
        assert measured <= load.rtt * (1 + 1e-9)
        assert load.rtt <= max(before, measured) * (1 + 1e-9)
    estimates = [load.estimate(now + later), load.estimate(now), load.estimate(now + later)]
    assert estimates[0] == estimates[2] <= estimates[1] == load.estimate(now)
    assert load.pending == 0


@pytest.mark.parity("U-15")
def test_a_sample_that_ends_before_the_last_one_forgets_nothing() -> None:
    load = PeakEwma(decay=10.0).start(100.0)
    for number in (1, 2):
        load.begin(100.0 + number)
    load.end(110.0, 101.0, True)

    # A clock that stands still, or the first of two answers told last.
    load.end(110.0, 102.0, True)

    assert 9.0 == load.rtt == load.estimate(110.0)


# ----- two choices -----


@pytest.mark.parity("B-01")
def test_two_distinct_endpoints_are_drawn_uniformly_and_the_lower_load_wins() -> None:
    picker = P2c().start(random.Random(5))
    loads = [1.0, 10.0, 100.0, 1000.0]
    for number, value in enumerate(loads):
        picker.ready.add(Someone(Fixed(value), number=number))

    seen = Counter(picker.pick(0.0).endpoint.address[1] for _ in range(6_000))  # type: ignore[union-attr]

    # Of the six pairs the best is in three, and wins them all; the worst is in three and wins none.
    assert {0, 1, 2} == set(seen)
    for number, pairs in ((0, 3), (1, 2), (2, 1)):
        assert abs(seen[number] - pairs * 1_000) < 120


@pytest.mark.parity("B-01")
def test_a_single_ready_endpoint_is_used_and_none_is_none() -> None:
    for policy in (P2c(), RoundRobin()):
        picker = policy.start(random.Random(1))
        assert picker.pick(0.0) is None
        only = Someone(Fixed(9.0))
        picker.ready.add(only)
        assert [only] * 3 == [picker.pick(0.0) for _ in range(3)]
        picker.ready.remove(only)
        picker.ready.remove(only)
        assert picker.pick(0.0) is None


def test_loads_within_the_tolerance_share_exactly_and_beyond_it_do_not() -> None:
    for ratio, share in ((1.9, 0.5), (2.1, 0.0)):
        picker = P2c().start(random.Random(1))
        slower = Someone(Fixed(ratio))
        picker.ready.add(slower)
        picker.ready.add(Someone(Fixed(1.0)))
        got = sum(picker.pick(0.0) is slower for _ in range(1_000))
        assert abs(got - share * 1_000) <= 1


def test_whoever_was_left_out_for_long_catches_up_by_a_few_requests_only() -> None:
    picker = P2c().start(random.Random(1))
    slow, quick = Someone(Fixed(100.0)), Someone(Fixed(1.0))
    picker.ready.add(slow)
    picker.ready.add(quick)
    for _ in range(10_000):
        picker.pick(0.0)
    slow.load = Fixed(1.0)

    got = sum(picker.pick(0.0) is slow for _ in range(100))

    assert 50 < got <= 70


def test_an_endpoint_added_late_does_not_get_what_it_missed() -> None:
    for policy in (P2c(), RoundRobin()):
        picker = policy.start(random.Random(1))
        for _ in range(2):
            picker.ready.add(Someone())
        for _ in range(1_000):
            picker.pick(0.0)
        late = Someone()
        picker.ready.add(late)
        assert abs(sum(picker.pick(0.0) is late for _ in range(300)) - 100) <= 2


@pytest.mark.parity("B-01", "U-13")
@hypothesis.given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=60),
    st.integers(0, 1000),
    st.sampled_from([P2c(), P2c(1.0), RoundRobin()]),
)
def test_only_ready_endpoints_are_picked_whatever_comes_and_goes(
    steps: list[tuple[bool, float]], seed: int, policy: Any
) -> None:
    rng = random.Random(seed)
    picker = policy.start(rng)
    inside: list[Someone] = []
    for adds, weight in steps:
        if adds or not inside:
            someone = Someone(Fixed(rng.random()), weight)
            picker.ready.add(someone)
            inside.append(someone)
        else:
            gone = inside.pop(rng.randrange(len(inside)))
            picker.ready.remove(gone)
            assert -1 == gone.slot
        assert set(inside) == set(picker.ready.members)
        assert [someone.slot for someone in picker.ready.members] == list(range(len(inside)))
        assert pytest.approx(sum(someone.weight for someone in inside)) == picker.ready.total
        for _ in range(3):
            assert (picker.pick(0.0) in inside) or not inside


@hypothesis.given(st.lists(st.sampled_from([1e-6, 0.5, 1.0, 1e6]), min_size=2, max_size=9), st.integers(0, 1000))
def test_two_draws_are_always_two_endpoints(weights: list[float], seed: int) -> None:
    ready = Ready(random.Random(seed))
    for weight in weights:
        ready.add(Someone(weight=weight))
    for _ in range(20):
        first, second = ready.two()
        assert first is not second


def test_weighted_draws_are_by_weight_for_both() -> None:
    ready = Ready(random.Random(2))
    members = [Someone(weight=weight, number=index) for index, weight in enumerate((1.0, 2.0, 7.0))]
    for member in members:
        ready.add(member)

    firsts: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    for _ in range(10_000):
        first, second = ready.two()
        firsts[first.endpoint.address[1]] += 1
        if first is members[2]:
            seconds[second.endpoint.address[1]] += 1

    assert all(abs(firsts[index] - share) < 250 for index, share in enumerate((1_000, 2_000, 7_000)))
    assert abs(seconds[1] / seconds.total() - 2 / 3) < 0.03


def test_round_robin_spreads_turns_evenly() -> None:
    picker = RoundRobin().start(random.Random(1))
    heavy, light = Someone(weight=2.0), Someone(weight=1.0)
    picker.ready.add(heavy)
    picker.ready.add(light)

    turns = [picker.pick(0.0) is heavy for _ in range(9)]

    assert 6 == sum(turns)
    assert all(2 == sum(turns[index : index + 3]) for index in range(7))


# ----- backoff -----


@pytest.mark.parity("B-20")
@hypothesis.given(st.integers(-3, 5_000), st.integers(0, 1000))
def test_backoff_doubles_up_to_its_maximum_and_adds_its_jitter(failures: int, seed: int) -> None:
    delay = Backoff().delay(failures, random.Random(seed))

    base = 60.0 if failures > 20 else min(0.1 * 2 ** max(failures - 1, 0), 60.0)
    assert base <= delay <= base * 1.1
