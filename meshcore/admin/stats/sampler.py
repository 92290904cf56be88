"""The sampler: looks at the metrics once a second while somebody wants to know, and keeps the last minute."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio

from meshcore.admin.endpoints import LiveBackend, live_backends
from meshcore.admin.stats.figures import Stats
from meshcore.admin.stats.rows import Rows, busiest
from meshcore.admin.stats.snapshot import Reader, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.admin.stats.figures import ProxyFacts
    from meshcore.admin.stats.rows import Known
    from meshcore.metrics.registry import Registry

__all__ = ["LONGEST", "Sampled", "Sampler"]

EVERY = 1.0
"""Seconds between two looks."""
LONGEST = 60.0
"""Seconds of the longest window."""
INTEREST = 15.0
"""Seconds after the last question for which it goes on looking."""
_MOST_SERIES = 50_000
"""Series that it follows, those that have vanished included: with more it begins anew."""
_SLACK = 0.2
"""Seconds by which a look may be late and still be the one that a window begins with."""


class Sampled(Protocol):
    """What is looked at.

    Attributes:
        registry: its metrics.
    """

    registry: Registry

    def facts(self) -> ProxyFacts:
        """Who it is."""
        ...

    def known(self) -> Known:
        """What its configuration says."""
        ...

    def services(self) -> Iterable[tuple[str, object]]:
        """The running services that balancers stand under, with their pipeline's name."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def crashed(self, error: BaseException, where: str, /) -> None:
        """Is told of what went wrong in looking."""


class Sampler:
    """One for a process: many who ask cost one look a second, and nobody who asks costs none.

    Requests pay nothing for it: it reads the cells that they count in.  No look, however many series there are, keeps
    others waiting for long: between pieces everybody else has their turn.
    """

    def __init__(self, sampled: Sampled) -> None:
        self._sampled = sampled
        self._reader = Reader(sampled.registry)
        self._snapshots: deque[Snapshot] = deque(maxlen=int(LONGEST / EVERY) + 1)
        self._backends: list[LiveBackend] = []
        self._until = float("-inf")
        self._asked = trio.Event()
        self._looked = trio.Event()
        self._stopping = trio.Event()
        self._computing = trio.Lock()
        self._made: dict[tuple[int, int], Stats] = {}

    def __repr__(self) -> str:
        return f"<Sampler snapshots={len(self._snapshots)} series={self._reader.series}>"

    def time(self) -> float:
        """Seconds since the epoch, as those who are looked at have it."""
        return self._sampled.time()

    @property
    def looking(self) -> bool:
        """Whether somebody has wanted to know of late."""
        return bool(self._snapshots)

    async def run(self) -> None:
        """Looks while somebody asks, until it is stopped; for the nursery of the proxy's instruments."""
        while not self._stopping.is_set():
            if trio.current_time() >= self._until:
                self._forget()
                await self._asked.wait()
                continue
            began = trio.current_time()
            try:
                await self._look()
            except Exception as error:
                # Whoever watches must not end what is watched.
                self._sampled.crashed(error, "the sampler")
                self._forget()
            self._tell()
            # In step, unless a look took longer than that.
            with trio.move_on_at(max(began + EVERY, trio.current_time())):
                await self._stopping.wait()
        self._tell()

    def stop(self) -> None:
        """Ends :meth:`run`; whoever waits is told what is known."""
        self._stopping.set()
        self._asked.set()

    async def stats(self, window: float = 10.0) -> Stats:
        """The figures of the last seconds, as far as there are looks; the first who asks waits for a second.

        Args:
            window: seconds, from 1 to :data:`LONGEST`.
        """
        window = min(max(window, EVERY), LONGEST)
        self._until = trio.current_time() + INTEREST
        self._asked.set()
        # Who asks at the same time gets the same.
        async with self._computing:
            while len(self._snapshots) < 2 and not self._stopping.is_set():
                await self._looked.wait()
            if not self._snapshots:
                await self._look()
            now = self._snapshots[-1]
            before = self._before(now, window)
            made = self._made.get((before.number, now.number))
            if made is None:
                made = await self._make(before, now)
                if self._snapshots and now is self._snapshots[-1]:
                    self._made[before.number, now.number] = made
            return made

    async def backends(self) -> list[LiveBackend]:
        """The live balancers, looked at now."""
        return await live_backends(self._sampled.services())

    async def connections(self) -> dict[str, int]:
        """Open connections to endpoints, by address."""
        found: dict[str, int] = {}
        for (peer, place), count in (await self._reader.connections()).items():
            if peer == "dst":
                found[place.address] = found.get(place.address, 0) + count
        return found

    async def _look(self) -> None:
        if self._reader.series > _MOST_SERIES:
            self._forget()
        backends = await self.backends()
        snapshot = await self._reader.look(backends)
        self._backends = backends
        self._snapshots.append(snapshot)
        self._made.clear()

    def _forget(self) -> None:
        self._snapshots.clear()
        self._made.clear()
        self._backends = []
        self._reader = Reader(self._sampled.registry)
        self._asked = trio.Event()

    def _tell(self) -> None:
        self._looked.set()
        self._looked = trio.Event()

    def _before(self, now: Snapshot, window: float) -> Snapshot:
        """The look that the window begins with: the latest that is so long ago, else the oldest."""
        for each in reversed(self._snapshots):
            if now.at - each.at >= window - _SLACK:
                return each
        return self._snapshots[0]

    async def _make(self, before: Snapshot, now: Snapshot) -> Stats:
        change = await self._reader.change(before, now)
        connections = await self._reader.connections()
        rows = Rows(change, self._backends, connections, self._sampled.known())
        await rows.gather()
        seconds = change.seconds
        routes, more_routes = await busiest(rows.routes(), seconds)
        await trio.lowlevel.checkpoint()
        backends, more_backends = await busiest(rows.backends(), seconds)
        await trio.lowlevel.checkpoint()
        endpoints, more_endpoints = await busiest(rows.endpoints(), seconds)
        await trio.lowlevel.checkpoint()
        edges, more_edges = await busiest(rows.edges(), seconds)
        return Stats(
            time=self._sampled.time(),
            window=seconds,
            proxy=self._sampled.facts(),
            total=rows.totals(),
            overflow=rows.overflow(),
            routes=routes,
            backends=backends,
            endpoints=endpoints,
            edges=edges,
            more={
                "routes": more_routes,
                "backends": more_backends,
                "endpoints": more_endpoints,
                "edges": more_edges,
            },
        )
