"""What a registry and the live balancers tell at one moment, and what has changed between two."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.admin.stats.growth import Growth, grown
from meshcore.admin.stats.series import OVERFLOW, RouteKey, Where, ended, route, route_ended, where
from meshcore.admin.stats.tally import Tally
from meshcore.metrics.connections import ConnectionCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meshcore.admin.endpoints import LiveBackend
    from meshcore.metrics.registry import Registry

__all__ = ["Change", "Reader", "Snapshot"]


@attrs.frozen(eq=False, kw_only=True)
class Snapshot:
    """What there was at one moment.

    Attributes:
        number: counts up.
        at: Trio's time.
        totals: of each family's series, see :meth:`Growth.look`.
        given: exchanges of an endpoint by its backend and address, where several backends share the address.
    """

    number: int
    at: float
    totals: dict[str, list[Any]]
    given: dict[tuple[str, str], int]


@attrs.define(eq=False)
class Change:
    """What came between two snapshots.

    Attributes:
        seconds: between them.
        requests: by where they were counted.
        routes: by their route, as clients see them.
        given: exchanges by backend and address, where several backends share the address.
    """

    seconds: float
    requests: dict[Where, Tally] = attrs.Factory(lambda: defaultdict(Tally))
    routes: dict[RouteKey, Tally] = attrs.Factory(lambda: defaultdict(Tally))
    given: dict[tuple[str, str], int] = attrs.Factory(dict)


class Reader:
    """Reads the families that figures are made of; on what counts it never calls, so requests pay nothing for it.

    Attributes:
        series: how many are followed.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._number = 0
        self._requests = Growth("request_total", where)
        self._responses = Growth("response_total", ended)
        self._latencies = Growth("response_latency_ms", where)
        self._route_latencies = [
            Growth(f"{direction}_{kind}_{rest}request_duration_seconds", partial(route, direction))
            for direction, rest in (("outbound", "route_"), ("inbound", ""))
            for kind in ("http", "grpc")
        ]
        inbound = [Growth(f"inbound_{kind}_requests_total", partial(route, "inbound")) for kind in ("http", "grpc")]
        self._route_requests: list[Growth[RouteKey]] = inbound
        self._route_responses = [
            Growth(f"{direction}_{kind}_{rest}", partial(route_ended, direction))
            for direction, rest in (("outbound", "route_request_statuses_total"), ("inbound", "statuses_total"))
            for kind in ("http", "grpc")
        ]
        self._all: list[Growth[Any]] = [
            self._requests,
            self._responses,
            self._latencies,
            *self._route_latencies,
            *self._route_requests,
            *self._route_responses,
        ]

    @property
    def series(self) -> int:
        return sum(each.series for each in self._all)

    async def look(self, backends: list[LiveBackend]) -> Snapshot:
        """What there is now; others have their turn now and then."""
        self._number += 1
        at = trio.current_time()
        families = {family.name: family for family in self._registry.families()}
        totals = {}
        for each in self._all:
            family = families.get(each.name)
            await trio.lowlevel.checkpoint()
            totals[each.name] = await each.look([] if family is None else family.series())
        return Snapshot(number=self._number, at=at, totals=totals, given=_shared(backends))

    async def change(self, before: Snapshot, now: Snapshot) -> Change:
        """What came between two of its snapshots."""
        found = Change(now.at - before.at)
        for key, count in now.given.items():
            then = before.given.get(key, 0)
            found.given[key] = count - then if count >= then else count

        async def each(growth: Growth[Any], add: Callable[[Any, Any], None]) -> None:
            await trio.lowlevel.checkpoint()
            await grown(growth.keys(), before.totals[growth.name], now.totals[growth.name], add)

        def began(tallies: dict[Any, Tally], key: Any, number: float) -> None:
            tallies[key].requests += number

        def ended(tallies: dict[Any, Tally], key: tuple[Any, bool], number: float) -> None:
            tallies[key[0]].ended(key[1], number)

        def timed(tallies: dict[Any, Tally], bounds: tuple[float, ...], key: Any, counts: tuple[int, ...]) -> None:
            tallies[key].timed(counts, bounds)

        await each(self._requests, partial(began, found.requests))
        await each(self._responses, partial(ended, found.requests))
        await each(self._latencies, partial(timed, found.requests, self._latencies.bounds))
        for durations in self._route_latencies:
            # Seconds there.
            bounds = tuple(bound * 1000.0 for bound in durations.bounds)
            await each(durations, partial(timed, found.routes, bounds))
        for growth in self._route_requests:
            await each(growth, partial(began, found.routes))
        for responses in self._route_responses:
            await each(responses, partial(ended, found.routes))
        for known, tally in found.routes.items():
            if known.direction == "outbound":
                # They are counted once, at their end.
                tally.requests = tally.successes + tally.failures
        return found

    async def connections(self) -> dict[tuple[str, Where], int]:
        """Open connections, by ``"src"`` (accepted) or ``"dst"`` (made), and where they were counted."""
        for direction in ("inbound", "outbound"):
            for peer in ("src", "dst"):
                collect: Callable[[], Iterable[None] | None] = ConnectionCounts.of(
                    self._registry, direction, peer
                ).collect
                for _ in collect() or ():
                    await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
        found: dict[tuple[str, Where], int] = defaultdict(int)
        for family in self._registry.families():
            if family.name == "tcp_open_connections":
                for key, cell in family.series():
                    labels = dict(key)
                    place = where(labels)
                    if place is not OVERFLOW:
                        found[labels.get("peer", ""), place] += int(cell.value)
        return found


def _shared(backends: list[LiveBackend]) -> dict[tuple[str, str], int]:
    """Exchanges of endpoints that more than one backend has."""
    names: dict[str, set[str]] = {}
    for backend in backends:
        for endpoint in backend.endpoints:
            names.setdefault(endpoint.address, set()).add(backend.name)
    found: dict[tuple[str, str], int] = defaultdict(int)
    for backend in backends:
        for endpoint in backend.endpoints:
            if len(names[endpoint.address]) > 1:
                found[backend.name, endpoint.address] += endpoint.told.successes + endpoint.told.failures
    return found
