"""The claims of docs/explanation/simulations.md."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshcore.layers.retry import Budget
from tests.simulations import scenarios
from tests.simulations.scenarios import NO_BUDGET, Outcome
from tests.simulations.simulator import percentile

ROOT = Path(__file__).parent.parent.parent


@functools.cache
def outcome(scenario: Callable[..., Outcome], *arguments: Any) -> Outcome:
    return scenario(*arguments)


def slow(policy: str) -> Outcome:
    return outcome(scenarios.slow_endpoint, policy)


@pytest.mark.parity("B-02")
def test_with_a_slow_endpoint_peak_ewma_beats_least_request_and_that_round_robin_at_p99() -> None:
    ewma, least, robin = (slow(policy).samples for policy in ("p2c-ewma", "least-request", "round-robin"))
    assert ewma.latency(99) < least.latency(99) < robin.latency(99)
    # Not by a hair: as if nothing were slow, against the slow endpoint's own time.
    assert ewma.latency(99) < 0.060
    assert least.latency(99) > 1.0
    # In the middle they are alike.
    assert max(each.latency(50) for each in (ewma, least, robin)) < 0.022
    assert all(each.success == 1.0 for each in (ewma, least, robin))


def test_with_peak_ewma_each_client_waits_about_once_for_the_slow_endpoint() -> None:
    late = {policy: sum(each.took > 1.0 for each in slow(policy).samples.all) for policy in scenarios.POLICIES}
    assert late["p2c-ewma"] <= 20 * 1.5
    assert late["least-request"] > 3 * late["p2c-ewma"]
    assert late["round-robin"] > 2 * late["least-request"]


def test_a_cold_replica_is_spared_by_peak_ewma_and_drowned_by_round_robin() -> None:
    cold = {policy: outcome(scenarios.cold_replica, policy).samples.between(12, 17) for policy in scenarios.POLICIES}
    assert cold["p2c-ewma"].latency(95) < cold["least-request"].latency(95) < cold["round-robin"].latency(95)
    assert cold["p2c-ewma"].latency(95) < 0.15
    after = {policy: outcome(scenarios.cold_replica, policy).samples.between(17, 25) for policy in scenarios.POLICIES}
    assert after["p2c-ewma"].latency(99) < 0.2 < after["round-robin"].latency(99)


def storm(budget: Budget | None) -> Outcome:
    return outcome(scenarios.retry_storm, budget)


@pytest.mark.parity("R-10")
def test_a_retry_storm_never_ends_without_a_budget_and_does_with_one() -> None:
    for budget in (None, Budget(), NO_BUDGET):
        assert storm(budget).samples.between(0, 10).success == 1.0
        assert storm(budget).samples.between(11, 14).success < 0.2
    assert storm(NO_BUDGET).samples.between(20, 40).success < 0.01
    assert storm(Budget()).samples.between(30, 40).success > 0.999
    assert storm(None).samples.between(20, 40).success > 0.999


def test_a_budget_bounds_what_retries_add_to_the_load() -> None:
    def tries(budget: Budget | None) -> float:
        return sum(rate for moment, rate in storm(budget).arrivals(1.0) if 14 <= moment < 24) / 10

    own = tries(None)
    assert tries(NO_BUDGET) > 3.5 * own
    # A fifth, and ten a second.
    assert tries(Budget()) <= own * 1.2 + 10 + 5


def test_a_zone_whose_hosts_refuse_is_missed_by_nobody() -> None:
    samples = outcome(scenarios.zone_lost, "refused").samples
    assert samples.success == 1.0
    assert samples.between(10, 20).latency(99) < 1.5 * samples.between(0, 10).latency(99)


def test_a_zone_whose_hosts_are_silent_costs_some_a_tries_timeout_and_hardly_anybody_an_error() -> None:
    samples = outcome(scenarios.zone_lost, "silent").samples
    lost = samples.between(10, 20)
    assert lost.success > 0.998
    assert lost.latency(50) < 0.1
    assert 0.5 < lost.latency(99) < 0.7
    # Both of two draws out of nine are among the three for one request in twelve.
    late = sum(each.took > 0.5 for each in lost.all) / len(lost.all)
    assert late < 0.15
    assert samples.between(25, 30).latency(95) < 0.2


def test_a_breaker_leaves_a_silent_zone_alone() -> None:
    without = outcome(scenarios.zone_lost, "silent").samples.between(10, 20)
    broken = scenarios.zone_lost("silent", breaker=3).samples.between(10, 20)
    late = [sum(each.took > 0.5 for each in found.all) / len(found.all) for found in (without, broken)]
    assert late[1] < late[0] / 2
    assert broken.success == 1.0


@pytest.mark.parity("B-14", "B-16")
def test_a_breaker_bounds_what_a_quick_liar_does_and_retries_hide_the_rest() -> None:
    def grey(*, breaker: bool, retries: bool) -> Outcome:
        key = "both" if breaker and retries else f"{breaker}, {retries}"
        if key not in seen:
            seen[key] = scenarios.grey_failure(breaker=breaker, retries=retries)
        return seen[key]

    seen: dict[str, Outcome] = {}

    def share(of: Outcome, begin: float, end: float) -> float:
        arrived = [sum(begin <= moment < end for moment in replica.arrived) for replica in of.fleet.replicas]
        return arrived[0] / sum(arrived)

    bare, broken = grey(breaker=False, retries=False), grey(breaker=True, retries=False)
    # Whoever answers quickly is liked: it gets more than its fifth.
    assert bare.samples.between(10, 20).success < 0.8
    assert broken.samples.between(10, 20).success > 0.975
    assert share(broken, 10, 20) < 0.025
    assert grey(breaker=True, retries=True).samples.success == 1.0
    assert grey(breaker=False, retries=True).samples.success == 1.0
    assert share(grey(breaker=False, retries=True), 10, 20) > 0.2
    # It is found well again, and has its share.
    assert 0.18 < share(broken, 35, 40) < 0.22


def test_failing_fast_leaves_no_herd_for_the_restart() -> None:
    fast, patient = outcome(scenarios.herd, 3.0), outcome(scenarios.herd, 60.0)

    def most(of: Outcome) -> float:
        return max(rate for moment, rate in of.arrivals(0.5) if moment >= 20)

    assert most(fast) < 1.5 * 200
    assert most(patient) > 10 * 200
    assert fast.samples.between(21, 40).latency(99) < 0.15
    assert patient.samples.between(22, 25).latency(99) > 2.0
    assert fast.samples.between(22, 40).success == 1.0


def test_the_same_scenario_gives_the_same_figures() -> None:
    again = scenarios.slow_endpoint("p2c-ewma")
    assert again.samples.all == slow("p2c-ewma").samples.all


def test_percentiles_are_those_of_the_sorted_values() -> None:
    values = [float(each) for each in range(100)]
    assert [percentile(values, q) for q in (0, 50, 99, 100)] == [0.0, 50.0, 99.0, 99.0]
    assert percentile([], 99) == 0.0


def test_every_plot_of_the_page_is_there() -> None:
    page = (ROOT / "docs" / "explanation" / "simulations.md").read_text()
    names = [line.partition("](")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(names) == 8
    for name in names:
        assert (ROOT / "docs" / "explanation" / name).read_text().startswith("<svg ")
