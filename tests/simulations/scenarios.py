"""The scenarios that the documentation shows: each returns what users and replicas saw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import attrs
import trio

from meshcore.http.retry_on import RetryOn
from meshcore.layers import Balance, FailureAccrual, Retry, Timeout
from meshcore.layers.failure_accrual import Accrual
from meshcore.layers.retry import Budget
from meshcore.stack import Stack, stack
from meshcore.transport.target import Backend
from tests.simulations.simulator import Fleet, Replica, Samples, simulate, users

__all__ = [
    "NO_BUDGET",
    "POLICIES",
    "Outcome",
    "cold_replica",
    "grey_failure",
    "herd",
    "retry_storm",
    "slow_endpoint",
    "zone_lost",
]

PolicyName: TypeAlias = Literal["p2c-ewma", "round-robin", "least-request"]
POLICIES: tuple[PolicyName, ...] = ("round-robin", "least-request", "p2c-ewma")
NO_BUDGET = Budget(ratio=1_000, minimum=1e9)


@attrs.define
class Outcome:
    """What came of a scenario.

    Attributes:
        samples: what users saw.
        fleet: the replicas.
    """

    samples: Samples
    fleet: Fleet

    def arrivals(self, step: float) -> list[tuple[float, float]]:
        """Requests a second that reached the replicas, tries included."""
        counts: dict[int, int] = {}
        for replica in self.fleet.replicas:
            for moment in replica.arrived:
                counts[int(moment / step)] = counts.get(int(moment / step), 0) + 1
        last = max(counts, default=0)
        return [(index * step, counts.get(index, 0) / step) for index in range(last + 1)]


def _run(fleet: Fleet, clients: Sequence[Stack[Any, Any]], rate: float, until: float, script: Any) -> Outcome:
    """Clients that share the *rate*, each with a pipeline and thus a balancer of its own, as sidecars have."""

    async def main() -> Outcome:
        samples = Samples()
        async with trio.open_nursery() as world:
            fleet.start(world)
            world.start_soon(script)
            async with trio.open_nursery() as sending:
                for index, pipeline in enumerate(clients):
                    service = pipeline.layer(fleet).new_service(fleet.backend, world)
                    rng = random.Random(f"user {index}")
                    sending.start_soon(users, service, rate / len(clients), until, samples, rng)
            world.cancel_scope.cancel()
        samples.all.sort(key=lambda each: each.started)
        return Outcome(samples, fleet)

    return simulate(main)


def _balance(index: int, policy: PolicyName = "p2c-ewma", **more: Any) -> Balance:
    return Balance(policy=policy, rng=random.Random(f"balancer {index}"), **more)


def slow_endpoint(policy: PolicyName, *, clients: int = 20, rate: float = 220.0) -> Outcome:
    """Eleven replicas that answer in 20 ms; one of them needs two seconds from 10 s to 20 s of 30 s."""
    fleet = Fleet([Replica(index) for index in range(11)])

    async def script() -> None:
        await trio.sleep(10)
        fleet.replicas[0].slow = 100.0
        await trio.sleep(10)
        fleet.replicas[0].slow = 1.0

    pipelines = [stack(Backend).then(_balance(index, policy)) for index in range(clients)]
    return _run(fleet, pipelines, rate, 30.0, script)


def retry_storm(budget: Budget | None, *, rate: float = 240.0) -> Outcome:
    """Four replicas at 60 % of what they can do; all of them are four times slower from 10 s to 14 s of 40 s.

    Users give up after half a second and try up to three times more; the replicas do not know that and go on.
    """
    # 10 workers × 4 at 100 ms: 400 requests a second.
    fleet = Fleet([Replica(index, mean=0.1, workers=10) for index in range(4)])

    async def script() -> None:
        await trio.sleep(10)
        for replica in fleet.replicas:
            replica.slow = 4.0
        await trio.sleep(4)
        for replica in fleet.replicas:
            replica.slow = 1.0

    top = stack(Backend)
    if budget is not None:
        top = top.then(Retry(3, budget))
    return _run(fleet, [top.then(Timeout(0.5)).then(_balance(0))], rate, 40.0, script)


def cold_replica(policy: PolicyName, *, clients: int = 10, rate: float = 200.0) -> Outcome:
    """Four replicas at half of what they can do; one of them restarts at 10 s, is away for 2 s, and then, cold, takes
    ten times as long for 5 s."""
    fleet = Fleet([Replica(index, mean=0.05, workers=5) for index in range(4)])
    cold = fleet.replicas[0]

    async def script() -> None:
        await trio.sleep(10)
        cold.stop()
        await trio.sleep(2)
        cold.down = False
        cold.slow = 10.0
        await trio.sleep(5)
        cold.slow = 1.0

    pipelines = [stack(Backend).then(Retry(2)).then(_balance(index, policy)) for index in range(clients)]
    return _run(fleet, pipelines, rate, 25.0, script)


def grey_failure(*, breaker: bool, retries: bool, rate: float = 250.0) -> Outcome:
    """Five replicas that answer in 20 ms; one of them answers 500 in 2 ms from 10 s to 20 s of 40 s.  Five clients.

    Args:
        breaker: whether it is left alone after seven failures in a row.
        retries: whether a 5xx is tried again.
        rate: requests a second.
    """
    fleet = Fleet([Replica(index) for index in range(5)])

    async def script() -> None:
        await trio.sleep(10)
        fleet.replicas[0].failing = True
        await trio.sleep(10)
        fleet.replicas[0].failing = False

    pipelines = []
    for index in range(5):
        pipeline = stack(Backend)
        if retries:
            pipeline = pipeline.then(Retry(1, on=RetryOn.of(["5xx"])))
        pipeline = pipeline.then(_balance(index))
        if breaker:
            pipeline = pipeline.then(FailureAccrual(Accrual(), rng=random.Random(f"breaker {index}")))
        pipelines.append(pipeline)
    return _run(fleet, pipelines, rate, 40.0, script)


def zone_lost(kind: str, *, breaker: int = 0, rate: float = 240.0) -> Outcome:
    """Three zones of three replicas each at half of what they can do; one zone is lost from 10 s to 20 s of 30 s.

    Args:
        kind: ``"refused"``: its hosts say so; ``"silent"``: they take requests and never answer.
        breaker: failures in a row after which an endpoint is left alone; 0: there is none.
        rate: requests a second.
    """
    fleet = Fleet(
        [Replica(index, mean=0.05, workers=3) for index in range(9)], [f"zone-{each // 3}" for each in range(9)]
    )
    lost = fleet.replicas[:3]

    async def script() -> None:
        await trio.sleep(10)
        for replica in lost:
            if kind == "refused":
                replica.stop()
            else:
                replica.silent = True
        await trio.sleep(10)
        for replica in lost:
            replica.down = replica.silent = False

    pipelines = []
    for index in range(6):
        pipeline = stack(Backend).then(Retry(2)).then(Timeout(0.5)).then(_balance(index))
        if breaker:
            accrual = Accrual(consecutive=breaker)
            pipeline = pipeline.then(FailureAccrual(accrual, rng=random.Random(f"breaker {index}")))
        pipelines.append(pipeline)
    return _run(fleet, pipelines, rate, 30.0, script)


def herd(fail_fast: float, *, rate: float = 200.0) -> Outcome:
    """Four replicas at half of what they can do, all of them down from 10 s to 20 s of 40 s: what happens when they are
    back depends on how long requests have waited for them (*fail_fast*)."""
    fleet = Fleet([Replica(index, mean=0.05, workers=5) for index in range(4)])

    async def script() -> None:
        await trio.sleep(10)
        for replica in fleet.replicas:
            replica.stop()
        await trio.sleep(10)
        for replica in fleet.replicas:
            replica.down = False

    pipelines = [stack(Backend).then(_balance(index, fail_fast=fail_fast)) for index in range(10)]
    return _run(fleet, pipelines, rate, 40.0, script)
