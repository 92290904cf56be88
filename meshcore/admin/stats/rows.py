"""The rows of ``/stats``: what came within the window, by who it was for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.admin.stats.figures import (
    MOST_ROWS,
    BackendFigures,
    EdgeFigures,
    EndpointFigures,
    Golden,
    RouteFigures,
)
from meshcore.admin.stats.series import OVERFLOW, RouteKey, Where
from meshcore.admin.stats.tally import Tally, total

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.admin.endpoints import LiveBackend, LiveEndpoint
    from meshcore.admin.stats.snapshot import Change

__all__ = ["Known", "Row", "Rows", "busiest"]

INBOUND = "inbound"
DEFAULT = "default"
UNKNOWN = "unknown"

_PIECE = 200
"""Rows that are made in one go; then others have their turn."""

R = TypeVar("R", RouteFigures, BackendFigures, EndpointFigures, EdgeFigures)


@attrs.frozen(kw_only=True)
class Known:
    """What the configuration says, as far as figures need it.

    Attributes:
        name: what people call this proxy.
        identity: what it shows to its peers; None without one.
        listeners: whose requests come from elsewhere, by port; not those of the application's own.
        gateways: the listeners whose routes lead to backends.
        secured: those of them that terminate TLS.
        routes: that there are, whether they have seen a request or not.
        admin: the ports of the admin server, whose traffic is nobody's.
    """

    name: str
    identity: str | None = None
    listeners: dict[int, str] = attrs.Factory(dict)
    gateways: frozenset[str] = frozenset()
    secured: frozenset[str] = frozenset()
    routes: tuple[RouteKey, ...] = ()
    admin: frozenset[int] = frozenset()

    def of_admin(self, place: Where) -> bool:
        """Whether that is what came to the admin server; nothing is asked there on behalf of a service."""
        port = _port(place.address)
        return place.direction == INBOUND and port in self.admin and port not in self.listeners


@attrs.frozen(eq=False)
class Row(Generic[R]):
    """A row that is made if it is among the busiest.

    Attributes:
        name: tells it from the others of its list.
        tally: what came.
        make: makes it, of its figures.
    """

    name: tuple[str, ...]
    tally: Tally
    make: Callable[[Golden], R]


class Rows:
    """The rows of one window; :meth:`gather` comes first.

    Args:
        change: what came.
        backends: the live balancers.
        connections: that are open, by who made them and where they were counted.
        known: what the configuration says.
    """

    def __init__(
        self,
        change: Change,
        backends: list[LiveBackend],
        connections: dict[tuple[str, Where], int],
        known: Known,
    ) -> None:
        self._change = change
        self._seconds = change.seconds
        self._known = known
        self._connections = connections
        self._backends: dict[tuple[str, str], list[LiveBackend]] = defaultdict(list)
        for each in backends:
            self._backends[each.direction, each.name].append(each)
        # What has endpoints that requests go to comes first: it knows more of them.
        for found in self._backends.values():
            found.sort(key=lambda each: -sum(endpoint.told.successes for endpoint in each.endpoints))
        self._totals: dict[str, Tally] = defaultdict(Tally)
        self._by_listener: dict[str, Tally] = defaultdict(Tally)
        self._by_address: dict[str, Tally] = defaultdict(Tally)
        self._users: dict[str, set[str]] = defaultdict(set)
        for (direction, name), balancers in self._backends.items():
            if direction == "outbound":
                for balancer in balancers:
                    for endpoint in balancer.endpoints:
                        self._users[endpoint.address].add(name)

    async def gather(self) -> None:
        """Sums up what came; others have their turn now and then."""
        for number, (place, tally) in enumerate(self._change.requests.items()):
            if self._known.of_admin(place):
                continue
            if place.direction == INBOUND:
                self._by_listener[place.listener].add(tally)
            elif place.direction == "outbound":
                self._by_address[place.address].add(tally)
            self._totals[place.direction].add(tally)
            if number % _PIECE == _PIECE - 1:
                await trio.lowlevel.checkpoint()

    def totals(self) -> dict[str, Golden]:
        """All requests, by direction."""
        return {direction: self._totals[direction].golden(self._seconds) for direction in (INBOUND, "outbound")}

    def overflow(self) -> Golden:
        """Those that cannot be told apart any more."""
        return self._totals[OVERFLOW.direction].golden(self._seconds)

    def routes(self) -> list[Row[RouteFigures]]:
        """By route, those without a request included."""
        found: dict[RouteKey, Tally] = {self._turned(key): Tally() for key in self._known.routes}
        for key, tally in self._change.routes.items():
            found.setdefault(self._turned(key), Tally()).add(tally)
        parents = {(key.direction, key.parent) for key in found}
        for listener, tally in self._by_listener.items():
            if (INBOUND, listener) not in parents:
                found[RouteKey(INBOUND, listener, DEFAULT)] = tally
        return [
            Row((key.direction, key.parent, key.route), tally, partial(_route, key)) for key, tally in found.items()
        ]

    def _turned(self, key: RouteKey) -> RouteKey:
        """The families are called outbound wherever there are backends; what comes in at a gateway is inbound."""
        return attrs.evolve(key, direction=INBOUND) if key.parent in self._known.gateways else key

    def backends(self) -> list[Row[BackendFigures]]:
        """By backend."""
        return [
            Row((direction, name), self._of_backend(direction, name), partial(self._backend, direction, name))
            for direction, name in self._backends
        ]

    def _backend(self, direction: str, name: str, golden: Golden) -> BackendFigures:
        balancers = self._backends[direction, name]
        budgets = [each.retry_budget for each in balancers if each.retry_budget is not None]
        endpoints = list(self._endpoints_of(balancers).values())
        ready = sum(each.state == "ready" and each.told.weight > 0 for each in endpoints)
        return BackendFigures(
            backend=name,
            direction=direction,
            ready=ready,
            pending=sum(each.state != "draining" for each in endpoints) - ready,
            breakers_open=sum(each.breaker_state == "open" for each in endpoints),
            waiting=sum(each.told.waiting for each in balancers),
            fail_fast=balancers[0].told.fail_fast,
            retry_budget=min(budgets, default=None),
            golden=golden,
        )

    def endpoints(self) -> list[Row[EndpointFigures]]:
        """By endpoint; those that are gone as long as the window has requests of theirs."""
        found: list[Row[EndpointFigures]] = []
        for (direction, name), balancers in self._backends.items():
            pending: dict[str, int] = defaultdict(int)
            for balancer in balancers:
                for each in balancer.endpoints:
                    pending[each.address] += each.told.pending
            for address, endpoint in self._endpoints_of(balancers).items():
                make = partial(_endpoint, direction, name, endpoint, pending[address])
                found.append(Row((direction, name, address), self._of_endpoint(direction, name, address), make))
        for address, tally in self._by_address.items():
            if address not in self._users and tally.requests:
                found.append(Row(("outbound", "", address), tally, partial(_gone, address)))
        return found

    def edges(self) -> list[Row[EdgeFigures]]:
        """By who talks to whom."""
        return [*self._coming(), *self._going()]

    def _endpoints_of(self, balancers: list[LiveBackend]) -> dict[str, LiveEndpoint]:
        """Each once: requests and bytes have balancers of their own."""
        found: dict[str, LiveEndpoint] = {}
        for balancer in balancers:
            for endpoint in balancer.endpoints:
                found.setdefault(endpoint.address, endpoint)
        return found

    def _of_backend(self, direction: str, name: str) -> Tally:
        if direction == INBOUND:
            return self._by_listener.get(INBOUND) or Tally()
        balancers = self._backends.get((direction, name), [])
        return total(self._of_endpoint(direction, name, address) for address in self._endpoints_of(balancers))

    def _of_endpoint(self, direction: str, backend: str, address: str) -> Tally:
        if direction == INBOUND:
            return self._by_listener.get(INBOUND) or Tally()
        tally = self._by_address.get(address)
        if tally is None:
            return Tally()
        users = self._users[address]
        if len(users) < 2:
            return tally
        # The series do not tell for which backend the requests were: the balancers know how many they gave it.
        given = self._change.given
        all_of_them = sum(given.get((name, address), 0) for name in users)
        share = given.get((backend, address), 0) / all_of_them if all_of_them else 1.0 / len(users)
        part = Tally()
        part.add(tally, share)
        return part

    def _coming(self) -> Iterable[Row[EdgeFigures]]:
        known = self._known
        requests = {
            place: tally
            for place, tally in self._change.requests.items()
            if place.direction == INBOUND and not known.of_admin(place)
        }
        listeners = {place.address: place.listener for place in requests}
        tallies: dict[tuple[str, str, bool, str], Tally] = defaultdict(Tally)
        open_now: dict[tuple[str, str, bool, str], int] = defaultdict(int)

        def edge(listener: str, place: Where) -> tuple[str, str, bool, str]:
            secured = place.tls == "true" or listener in known.secured
            reason = "" if secured else "opaque" if place.tls == "opaque" else place.no_tls_reason or place.tls
            return listener, place.client_id, secured, reason or ("" if secured else "no_tls_from_remote")

        for place, tally in requests.items():
            tallies[edge(place.listener, place)].add(tally)
        for (peer, place), count in self._connections.items():
            if (peer, place.direction) == ("src", INBOUND) and count and not known.of_admin(place):
                listener = listeners.get(place.address) or known.listeners.get(_port(place.address))
                if listener is None:
                    listener = INBOUND if INBOUND in known.listeners.values() else ""
                open_now[edge(listener, place)] += count
        for key in dict.fromkeys([*tallies, *open_now]):
            listener, client, secured, reason = key
            make = partial(
                _edge,
                direction=INBOUND,
                source=client or UNKNOWN,
                target=known.name if listener in (INBOUND, "") else listener,
                source_identity=client or None,
                target_identity=known.identity if secured and listener == INBOUND else None,
                secured=secured,
                no_tls_reason=reason,
                connections=open_now[key],
            )
            yield Row((INBOUND, client, listener, reason), tallies[key], make)

    def _going(self) -> Iterable[Row[EdgeFigures]]:
        open_now: dict[str, int] = defaultdict(int)
        for (peer, place), count in self._connections.items():
            if (peer, place.direction) == ("dst", "outbound"):
                open_now[place.address] += count
        for (direction, name), balancers in self._backends.items():
            if direction != "outbound":
                continue
            edges: dict[tuple[str | None, bool, bool, str], list[str]] = defaultdict(list)
            for address, endpoint in self._endpoints_of(balancers).items():
                told = endpoint.told
                edges[told.identity, told.secured, told.mesh, told.no_tls].append(address)
            for (identity, secured, mesh, reason), addresses in edges.items():
                make = partial(
                    _edge,
                    direction="outbound",
                    source=self._known.name,
                    target=name,
                    source_identity=self._known.identity if mesh else None,
                    target_identity=identity,
                    secured=secured,
                    no_tls_reason=reason,
                    connections=sum(open_now[address] for address in addresses),
                )
                came = total(self._of_endpoint("outbound", name, address) for address in addresses)
                yield Row(("outbound", name, identity or "", reason), came, make)


def _port(address: str) -> int:
    """0 without one."""
    port = address.rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() else 0


async def busiest(rows: list[Row[R]], seconds: float) -> tuple[tuple[R, ...], int]:
    """The rows with most requests, at most :data:`MOST_ROWS`, in an order that does not jump; and how many are left
    out.  Others have their turn now and then."""
    rows.sort(key=lambda row: (-row.tally.requests, row.name))
    made = []
    for number, row in enumerate(rows[:MOST_ROWS]):
        made.append(row.make(row.tally.golden(seconds)))
        if number % _PIECE == _PIECE - 1:
            await trio.lowlevel.checkpoint()
    return tuple(made), len(rows) - len(made)


def _route(key: RouteKey, golden: Golden) -> RouteFigures:
    return RouteFigures(direction=key.direction, parent=key.parent, route=key.route, golden=golden)


def _endpoint(direction: str, backend: str, endpoint: LiveEndpoint, pending: int, golden: Golden) -> EndpointFigures:
    told = endpoint.told
    return EndpointFigures(
        backend=backend,
        direction=direction,
        address=endpoint.address,
        labels=endpoint.labels(),
        identity=told.identity,
        secured=told.secured,
        state=endpoint.state,
        breaker=endpoint.breaker_state,
        load=told.load,
        pending=pending,
        age=told.age,
        golden=golden,
    )


def _edge(golden: Golden, **facts: Any) -> EdgeFigures:
    return EdgeFigures(golden=golden, **facts)


def _gone(address: str, golden: Golden) -> EndpointFigures:
    return EndpointFigures(
        backend="",
        direction="outbound",
        address=address,
        labels={},
        identity=None,
        secured=False,
        state="draining",
        breaker="none",
        load=None,
        pending=0,
        age=0.0,
        golden=golden,
    )
