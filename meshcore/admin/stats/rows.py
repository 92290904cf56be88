"""The rows of ``/stats``: what came within the window, by who it was for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import attrs

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
    from meshcore.admin.endpoints import LiveBackend, LiveEndpoint
    from meshcore.admin.stats.snapshot import Change

__all__ = ["Known", "Rows", "busiest"]

INBOUND = "inbound"
DEFAULT = "default"
UNKNOWN = "unknown"

_STATES = ("ready", "pending", "failed", "draining")
_BREAKERS = ("open", "probation", "shut", "none")

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
        destinations: that the application may ask for.
        routes: that there are, whether they have seen a request or not.
    """

    name: str
    identity: str | None = None
    listeners: dict[int, str] = attrs.Factory(dict)
    gateways: frozenset[str] = frozenset()
    secured: frozenset[str] = frozenset()
    destinations: tuple[str, ...] = ()
    routes: tuple[RouteKey, ...] = ()


class Rows:
    """Makes the rows of one window.

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
        self._by_listener: dict[str, Tally] = defaultdict(Tally)
        self._by_address: dict[str, Tally] = defaultdict(Tally)
        for place, tally in change.requests.items():
            if place.direction == INBOUND:
                self._by_listener[place.listener].add(tally)
            elif place.direction == "outbound":
                self._by_address[place.address].add(tally)
        self._users: dict[str, set[str]] = defaultdict(set)
        for (direction, name), balancers in self._backends.items():
            if direction == "outbound":
                for balancer in balancers:
                    for endpoint in balancer.endpoints:
                        self._users[endpoint.address].add(name)

    def totals(self) -> dict[str, Golden]:
        """All requests, by direction."""
        requests = self._change.requests.items()
        return {
            direction: total(tally for place, tally in requests if place.direction == direction).golden(self._seconds)
            for direction in (INBOUND, "outbound")
        }

    def overflow(self) -> Golden:
        """Those that cannot be told apart any more."""
        found = self._change.requests.get(OVERFLOW)
        return Golden() if found is None else found.golden(self._seconds)

    def routes(self) -> list[RouteFigures]:
        """By route, those without a request included."""
        found: dict[RouteKey, Tally] = {self._turned(key): Tally() for key in self._known.routes}
        for key, tally in self._change.routes.items():
            found.setdefault(self._turned(key), Tally()).add(tally)
        parents = {(key.direction, key.parent) for key in found}
        for listener, tally in self._by_listener.items():
            if (INBOUND, listener) not in parents:
                found[RouteKey(INBOUND, listener, DEFAULT)] = tally
        for name in self._known.destinations:
            if ("outbound", name) not in parents:
                found[RouteKey("outbound", name, DEFAULT)] = self._of_backend("outbound", name)
        return [
            RouteFigures(
                direction=key.direction, parent=key.parent, route=key.route, golden=tally.golden(self._seconds)
            )
            for key, tally in found.items()
        ]

    def _turned(self, key: RouteKey) -> RouteKey:
        """The families are called outbound wherever there are backends; what comes in at a gateway is inbound."""
        return attrs.evolve(key, direction=INBOUND) if key.parent in self._known.gateways else key

    def backends(self) -> list[BackendFigures]:
        """By backend."""
        found = []
        for (direction, name), balancers in self._backends.items():
            first = balancers[0]
            budgets = [each.retry_budget for each in balancers if each.retry_budget is not None]
            endpoints = list(self._endpoints_of(balancers).values())
            ready = sum(each.state == "ready" and each.told.weight > 0 for each in endpoints)
            found.append(
                BackendFigures(
                    backend=name,
                    direction=direction,
                    ready=ready,
                    pending=sum(each.state != "draining" for each in endpoints) - ready,
                    breakers_open=sum(each.breaker_state == "open" for each in endpoints),
                    waiting=sum(each.told.waiting for each in balancers),
                    fail_fast=first.told.fail_fast,
                    retry_budget=min(budgets, default=None),
                    golden=self._of_backend(direction, name).golden(self._seconds),
                )
            )
        return found

    def endpoints(self) -> list[EndpointFigures]:
        """By endpoint; those that are gone as long as the window has requests of theirs."""
        found = []
        for (direction, name), balancers in self._backends.items():
            pending: dict[str, int] = defaultdict(int)
            for balancer in balancers:
                for each in balancer.endpoints:
                    pending[each.address] += each.told.pending
            for address, endpoint in self._endpoints_of(balancers).items():
                told = endpoint.told
                found.append(
                    EndpointFigures(
                        backend=name,
                        direction=direction,
                        address=address,
                        labels=endpoint.labels(),
                        identity=told.identity,
                        secured=told.secured,
                        state=endpoint.state,
                        breaker=endpoint.breaker_state,
                        load=told.load,
                        pending=pending[address],
                        age=told.age,
                        golden=self._of_endpoint(direction, name, address).golden(self._seconds),
                    )
                )
        for address, tally in self._by_address.items():
            if address not in self._users and tally.requests:
                found.append(_gone(address, tally.golden(self._seconds)))
        return found

    def edges(self) -> list[EdgeFigures]:
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

    def _coming(self) -> Iterable[EdgeFigures]:
        known = self._known
        listeners = {place.address: place.listener for place in self._change.requests if place.direction == INBOUND}
        tallies: dict[tuple[str, str, bool, str], Tally] = defaultdict(Tally)
        open_now: dict[tuple[str, str, bool, str], int] = defaultdict(int)

        def edge(listener: str, place: Where) -> tuple[str, str, bool, str]:
            secured = place.tls == "true" or listener in known.secured
            reason = "" if secured else "opaque" if place.tls == "opaque" else place.no_tls_reason or place.tls
            return listener, place.client_id, secured, reason or ("" if secured else "no_tls_from_remote")

        for place, tally in self._change.requests.items():
            if place.direction == INBOUND:
                tallies[edge(place.listener, place)].add(tally)
        for (peer, place), count in self._connections.items():
            if (peer, place.direction) == ("src", INBOUND) and count:
                port = place.address.rpartition(":")[2]
                listener = listeners.get(place.address) or known.listeners.get(int(port) if port.isdigit() else 0)
                if listener is None:
                    listener = INBOUND if INBOUND in known.listeners.values() else ""
                open_now[edge(listener, place)] += count
        for key in dict.fromkeys([*tallies, *open_now]):
            listener, client, secured, reason = key
            yield EdgeFigures(
                direction=INBOUND,
                source=client or UNKNOWN,
                target=known.name if listener in (INBOUND, "") else listener,
                source_identity=client or None,
                target_identity=known.identity if secured and listener == INBOUND else None,
                secured=secured,
                no_tls_reason=reason,
                connections=open_now[key],
                golden=tallies[key].golden(self._seconds),
            )

    def _going(self) -> Iterable[EdgeFigures]:
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
                yield EdgeFigures(
                    direction="outbound",
                    source=self._known.name,
                    target=name,
                    source_identity=self._known.identity if mesh else None,
                    target_identity=identity,
                    secured=secured,
                    no_tls_reason=reason,
                    connections=sum(open_now[address] for address in addresses),
                    golden=total(self._of_endpoint("outbound", name, address) for address in addresses).golden(
                        self._seconds
                    ),
                )


def busiest(rows: Iterable[R]) -> tuple[tuple[R, ...], int]:
    """The rows with most requests, at most :data:`MOST_ROWS`, in an order that does not jump; and how many are left
    out."""
    ordered = sorted(rows, key=lambda row: (-row.golden.requests, _name(row)))
    return tuple(ordered[:MOST_ROWS]), max(len(ordered) - MOST_ROWS, 0)


def _name(row: RouteFigures | BackendFigures | EndpointFigures | EdgeFigures) -> tuple[str, ...]:
    if isinstance(row, RouteFigures):
        return row.direction, row.parent, row.route
    if isinstance(row, BackendFigures):
        return row.direction, row.backend
    if isinstance(row, EndpointFigures):
        return row.direction, row.backend, row.address
    return row.direction, row.source, row.target, row.no_tls_reason


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
