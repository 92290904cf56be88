"""Two beside each other: loads that are let go in turns, a tenth of a second at a time, and what both cost.

What else a machine does comes and goes in seconds, and one of its processors may have more of it than another for
minutes.  So both run at once and on one processor, everything else on the others, and each has the same share of good
and bad moments.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, Protocol

from tests.bench import loads
from tests.bench.report import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.measure import Settings
    from tests.peers.process import Running

__all__ = ["HEAD", "HOW", "Pairs", "Side", "apart", "in_pairs"]

P = ParamSpec("P")

SLICE = 0.1
"""Seconds for which one is loaded before the other is."""
SETTLED = 0.003
"""Seconds in which a proxy answers what it has when its load stops."""
RATE = 20_000
"""Requests for each second of the settings."""
PAIRS = 3
"""For each round of the settings: what is compared is close together, and one process differs from the next by up to
3 %, for life."""
WARM = 5_000
"""Requests before it counts."""
HOW = (
    "Each was measured beside one with all of it off, as often as there are pairs, anew each time: the same number of "
    "requests, in slices of a tenth of a second, both on one processor and everything else on the other. *÷ off* is "
    "the median over the pairs, *half of them* lie between the quartiles. What a proxy does by the second and not by "
    "the request counts double, for each also waits while the other one is loaded."
)
HEAD = ["", "what is on", "CPU µs/request", "÷ off", "half of them", "pairs", "failed"]


@dataclass(frozen=True)
class Side:
    """One of two.

    Attributes:
        start: starts it, anew for each pair.
        look: what somebody does once in each second of its load; None: nobody does anything.
    """

    start: Callable[[], AbstractContextManager[Running]]
    look: Callable[[Running], None] | None = None


@dataclass
class Pairs:
    """What came of several pairs: CPU µs a request of both, and how many requests failed."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    failed: int = 0

    def row(self, protocol: str, name: str) -> list[str]:
        """Of a table that begins with :data:`HEAD`."""
        ratios = sorted(b / a for a, b in zip(self.first, self.second, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
        return [
            protocol,
            name,
            number(statistics.median(self.second)),
            number(statistics.median(ratios), 3),
            f"{low:.3f} – {high:.3f}",
            str(len(ratios)),
            str(self.failed),
        ]


class Measured(Protocol):
    """Makes the start of a :class:`Side` of what starts a program."""

    def __call__(
        self, start: Callable[P, AbstractContextManager[Running]], /, *args: P.args, **options: P.kwargs
    ) -> Callable[[], AbstractContextManager[Running]]: ...


@contextmanager
def apart() -> Iterator[Measured]:
    """Keeps this process, and all that it starts, off the last processor; what the function that this makes starts has
    that one for itself."""
    every = os.sched_getaffinity(0)
    last = {max(every)}
    others = every - last or every

    def measured(
        start: Callable[P, AbstractContextManager[Running]], /, *args: P.args, **options: P.kwargs
    ) -> Callable[[], AbstractContextManager[Running]]:
        @contextmanager
        def started() -> Iterator[Running]:
            with ExitStack() as stack:
                os.sched_setaffinity(0, last)
                try:
                    running = stack.enter_context(start(*args, **options))
                finally:
                    os.sched_setaffinity(0, others)
                yield running

        return started

    os.sched_setaffinity(0, others)
    try:
        yield measured
    finally:
        os.sched_setaffinity(0, every)


def in_pairs(
    first: Side, second: Side, load: Callable[[int, int], list[str]], settings: Settings, times: int = 1
) -> Pairs:
    """Measures two kinds of proxies, one of each at a time.

    Args:
        first: what is compared with.
        second: what is compared.
        load: the command that asks a port so many times (:func:`tests.bench.loads.counted`).
        settings: how many requests, and how many pairs of new processes.
        times: so many more pairs than that.
    """
    total = round(RATE * settings.seconds)
    found = Pairs()
    for turn in range(PAIRS * settings.rounds * times):
        with ExitStack() as stack:
            order = (first, second) if turn % 2 else (second, first)
            runs = [_Run(side, stack.enter_context(side.start()), load) for side in order]
            for run in runs:
                run.warm()
            for run in runs:
                run.begin(total)
            waiting = list(runs)
            while waiting:
                waiting = [run for run in waiting if run.slice()]
            for run in runs:
                found.failed += total - run.answered()
        a, b = runs if turn % 2 else runs[::-1]
        found.first.append(a.cpu * 1e6 / total)
        found.second.append(b.cpu * 1e6 / total)
    return found


class _Run:
    """One side of one pair, under its load."""

    def __init__(self, side: Side, proxy: Running, load: Callable[[int, int], list[str]]) -> None:
        self.cpu = 0.0
        self._side = side
        self._proxy = proxy
        self._command = load
        self._load: subprocess.Popen[str] | None = None
        self._loaded = 0.0
        self._look_at = 0.5

    def warm(self) -> None:
        """The first requests are no measure of the others."""
        subprocess.run(self._command(self._proxy.port, WARM), stdout=subprocess.DEVNULL, timeout=60, check=True)
        self._look()

    def begin(self, total: int) -> None:
        """Starts the load, and stops it at once."""
        self.cpu = -self._used()
        self._load = subprocess.Popen(self._command(self._proxy.port, total), stdout=subprocess.PIPE, text=True)
        self._load.send_signal(signal.SIGSTOP)

    def slice(self) -> bool:
        """Lets it go on for a moment; False: all has been answered."""
        load = self._load
        assert load is not None
        began = time.monotonic()
        load.send_signal(signal.SIGCONT)
        if self._loaded >= self._look_at:
            self._look_at += 1.0
            self._look()
        try:
            load.wait(max(0.0, began + SLICE - time.monotonic()))
        except subprocess.TimeoutExpired:
            load.send_signal(signal.SIGSTOP)
            time.sleep(SETTLED)
            self._loaded += time.monotonic() - began
            return True
        self.cpu += self._used()
        return False

    def answered(self) -> int:
        """Requests that were."""
        assert self._load is not None
        return loads.succeeded(self._load.communicate()[0])

    def _look(self) -> None:
        if self._side.look is not None:
            self._side.look(self._proxy)

    def _used(self) -> float:
        """CPU seconds of a process with all its threads, ended ones included, to the nanosecond: the clock that
        clock_getcpuclockid(3) names."""
        return time.clock_gettime(~self._proxy.pid << 3 | 2)
