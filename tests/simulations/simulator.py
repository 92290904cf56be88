"""Simulated replicas and users around real layers, on a virtual clock: half a minute of load in about a second."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs
import trio
import trio.testing

from meshcore.abc import HttpService
from meshcore.errors import ConnectError, MeshError
from meshcore.http.message import Request, Response
from meshcore.testing import request, response
from meshcore.transport.target import Backend, Endpoint

__all__ = ["Fleet", "Replica", "Sample", "Samples", "percentile", "simulate", "users"]

T = TypeVar("T")


def simulate(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs *main* on a clock that jumps, with the same order of tasks each time, in every process."""
    scheduler: Any = trio._core._run
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    # What Hypothesis has Trio do: tasks that are due at once are sorted before they are shuffled.
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(0)
    try:
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before


def percentile(values: Iterable[float], q: float) -> float:
    """The value that *q* per cent are not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q / 100), len(ordered) - 1)] if ordered else 0.0


@attrs.frozen
class Sample:
    """One request.

    Attributes:
        started: when its user sent it.
        took: seconds until it had an answer, or none.
        error: the code of what went wrong, or the status of an answer that is a failure; ``""`` for a good one.
    """

    started: float
    took: float
    error: str = ""


@attrs.define
class Samples:
    """What users saw."""

    all: list[Sample] = attrs.Factory(list)

    def between(self, begin: float, end: float) -> Samples:
        """Those that began in that time."""
        return Samples([each for each in self.all if begin <= each.started < end])

    def latency(self, q: float) -> float:
        """A percentile of the seconds that answers took."""
        return percentile((each.took for each in self.all if not each.error), q)

    @property
    def success(self) -> float:
        """The share of requests that had an answer."""
        return sum(not each.error for each in self.all) / len(self.all) if self.all else 1.0

    def over_time(self, step: float, of: Callable[[Samples], float]) -> list[tuple[float, float]]:
        """A figure of the samples of each *step* seconds."""
        slots: dict[int, Samples] = {}
        for each in self.all:
            slots.setdefault(int(each.started / step), Samples()).all.append(each)
        return [(index * step, of(found)) for index, found in sorted(slots.items())]


class Replica:
    """One replica of a service: so many requests at a time, the others queue; what it has taken it works off, whether
    anybody still waits for it or not.

    Attributes:
        mean: seconds that a request takes, on average.
        slow: what that is multiplied by now.
        down: refuses connections; what it had in hand is lost.
        silent: takes requests and never answers them.
        failing: answers 500, in a tenth of the time.
        served: when it finished each request.
        arrived: when it was given each.
        connects: when somebody tried to connect.
    """

    def __init__(self, seed: int, mean: float = 0.020, workers: int = 1_000_000, spread: float = 0.3) -> None:
        self.mean = mean
        self.slow = 1.0
        self.down = False
        self.silent = False
        self.failing = False
        self.served: list[float] = []
        self.arrived: list[float] = []
        self.connects: list[float] = []
        self._workers = workers
        self._spread = spread
        self._random = random.Random(seed)
        self._busy = 0
        self._queue: deque[_Job] = deque()
        self._nursery: trio.Nursery | None = None

    @property
    def in_hand(self) -> int:
        """Requests that it works at, or that queue."""
        return self._busy + len(self._queue)

    def start(self, nursery: trio.Nursery) -> None:
        """Its work is done in *nursery*."""
        self._nursery = nursery

    def stop(self) -> None:
        """It goes down."""
        self.down = True
        for job in self._queue:
            job.lose()
        self._queue.clear()

    async def ready(self) -> None:
        """What a balancer probes with."""
        self.connects.append(trio.current_time())
        # Over the network and back.
        await trio.sleep(0.001)
        self._check()

    def _check(self) -> None:
        if self.down:
            raise ConnectError("connection refused")

    async def __call__(self, asked: Request) -> Response:
        self._check()
        self.arrived.append(trio.current_time())
        if self.failing:
            await trio.sleep(self.mean / 10)
            return response(500)
        job = _Job()
        self._queue.append(job)
        self._next()
        await job.done.wait()
        if job.lost:
            raise ConnectError("connection refused")
        return response()

    def _next(self) -> None:
        if not self.silent and self._queue and self._busy < self._workers:
            assert self._nursery is not None
            self._busy += 1
            self._nursery.start_soon(self._work, self._queue.popleft())

    async def _work(self, job: _Job) -> None:
        # Long-tailed, as services are; the mean is the mean.
        drawn = self._random.lognormvariate(-(self._spread**2) / 2, self._spread)
        await trio.sleep(self.mean * self.slow * drawn)
        self._busy -= 1
        if self.down:
            job.lose()
        else:
            self.served.append(trio.current_time())
            job.done.set()
        self._next()


class _Job:
    __slots__ = ("done", "lost")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.lost = False

    def lose(self) -> None:
        self.lost = True
        self.done.set()


class Fleet:
    """Replicas as a backend; what stands under a balancer."""

    def __init__(self, replicas: Sequence[Replica], zones: Sequence[str] = ()) -> None:
        self.replicas = list(replicas)
        names = zones or [""] * len(replicas)
        endpoints = tuple(Endpoint((f"replica-{index}", 80), zone=zone) for index, zone in enumerate(names))
        self.backend = Backend("service", endpoints)
        self._by_endpoint = dict(zip(endpoints, self.replicas, strict=True))

    def start(self, nursery: trio.Nursery) -> None:
        """They work in *nursery*."""
        for replica in self.replicas:
            replica.start(nursery)

    def new_service(self, target: Endpoint, nursery: trio.Nursery, /) -> HttpService:
        """The replica."""
        return self._by_endpoint[target]


async def users(service: HttpService, rate: float, until: float, samples: Samples, rng: random.Random) -> None:
    """Sends *rate* requests a second, at random, whatever becomes of them, until that time; waits for the last."""

    async def one() -> None:
        started = trio.current_time()
        error = ""
        try:
            answer = await service(request())
            error = str(answer.status) if answer.status >= 500 else ""
        except MeshError as failure:
            error = failure.code
        samples.all.append(Sample(started, trio.current_time() - started, error))

    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(rng.expovariate(rate))
            if trio.current_time() >= until:
                break
            nursery.start_soon(one)
