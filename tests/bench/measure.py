"""Measuring: contenders side by side, in turns, and the medians of what it cost them."""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench.contenders import CONTENDERS, Contender, PeerMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from tests.bench.loads import Load
    from tests.peers.process import Running

    class Named(Protocol):
        """Who is measured."""

        @property
        def name(self) -> str: ...

    class Proxy(Protocol):
        """What is measured of it."""

        port: int

        def cpu_seconds(self) -> float: ...
        def memory_kib(self) -> int: ...
        def output(self) -> str: ...

__all__ = ["Sample", "Series", "Settings", "in_turns", "say", "started"]


@dataclass(frozen=True)
class Settings:
    """How long and how often.

    Attributes:
        seconds: of each load.
        rounds: each contender's turns; the median counts.
        only: names of contenders; empty: all that are installed.
    """

    seconds: float = 4.0
    rounds: int = 3
    only: tuple[str, ...] = ()


@dataclass
class Sample:
    """One turn of one contender."""

    cpu: float
    load: Load
    pss_kib: int

    @property
    def per_request(self) -> float:
        """CPU µs a request."""
        return self.cpu * 1e6 / max(1, self.load.requests)

    @property
    def per_mib(self) -> float:
        """CPU µs a MiB of body."""
        return self.cpu * 1e6 / max(1.0, self.load.bytes / (1 << 20))


@dataclass
class Series:
    """All turns of one contender."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def median(self, value: Callable[[Sample], float | None]) -> float | None:
        known = [each for sample in self.samples if (each := value(sample)) is not None]
        return statistics.median(known) if known else None

    def ratio(self, other: Series, value: Callable[[Sample], float]) -> float:
        """The median over the rounds of this one's figure by the other's in the same round."""
        return statistics.median(
            value(mine) / value(theirs)
            for mine, theirs in zip(self.samples, other.samples, strict=True)
            if value(theirs)
        )

    @property
    def failed(self) -> int:
        return sum(sample.load.failed for sample in self.samples)


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def chosen(protocol: str, settings: Settings, *, python: bool = False) -> Iterator[Contender]:
    """The contenders that speak *protocol*; the other Python proxies only with *python*."""
    for contender in CONTENDERS:
        wanted = contender.name in settings.only if settings.only else (python or not contender.python)
        if wanted and protocol in contender.protocols:
            yield contender


@contextmanager
def started(
    contenders: Sequence[Contender], to: Sequence[int], protocol: str
) -> Iterator[list[tuple[Contender, Running]]]:
    """All of those that are installed and start, running at once; the others are named on stderr."""
    with ExitStack() as stack:
        live = []
        for contender in contenders:
            try:
                live.append((contender, stack.enter_context(contender.start(to, protocol))))
            except PeerMissing as error:
                say(f"  skipped {contender.name}: {error} is not installed")
            except RuntimeError as error:
                say(f"  skipped {contender.name}: {error}")
        yield live


def one(proxy: Proxy, load: Callable[[int], Load]) -> Sample:
    """One turn: the load, and the CPU time that the proxy spent meanwhile."""
    before = proxy.cpu_seconds()
    seen = load(proxy.port)
    return Sample(proxy.cpu_seconds() - before, seen, proxy.memory_kib())


def in_turns(
    live: Sequence[tuple[Named, Proxy]],
    load: Callable[[int], Load],
    settings: Settings,
    warm: Callable[[int], Load] | None = None,
) -> list[Series]:
    """Measures everybody in turns, after a short load to warm each up."""
    series = {contender.name: Series(contender.name) for contender, _ in live}
    broken: set[str] = set()
    for contender, proxy in live:
        try:
            (warm or load)(proxy.port)
        except (RuntimeError, AssertionError, OSError) as error:
            say(f"  {contender.name} failed: {error}\n{proxy.output()[-1000:]}")
            broken.add(contender.name)
    for _ in range(settings.rounds):
        for contender, proxy in live:
            if contender.name in broken:
                continue
            try:
                series[contender.name].samples.append(one(proxy, load))
            except (RuntimeError, AssertionError, OSError) as error:
                say(f"  {contender.name} failed: {error}\n{proxy.output()[-1000:]}")
                broken.add(contender.name)
    return [each for name, each in series.items() if name not in broken and each.samples]
