"""The values that ``/stats`` tells, and their JSON."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = [
    "MOST_ROWS",
    "BackendFigures",
    "EdgeFigures",
    "EndpointFigures",
    "Golden",
    "ProxyFacts",
    "RouteFigures",
    "Stats",
]

MOST_ROWS = 500
"""Rows of a list at the most: the busiest."""


@attrs.frozen
class Golden:
    """The golden metrics of something over the window.

    Attributes:
        requests: that came.
        rps: the same by second.
        success: the part of the answers that have ended that are no failures, 0 to 1; None: none has ended.
        p50, p95, p99: milliseconds within which that percentage of them was there, interpolated within the histogram's
            bucket as Prometheus does; None: none was.
    """

    requests: int = 0
    rps: float = 0.0
    success: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "requests": self.requests,
            "rps": round(self.rps, 3),
            "success": _rounded(self.success, 6),
            "p50": _rounded(self.p50, 3),
            "p95": _rounded(self.p95, 3),
            "p99": _rounded(self.p99, 3),
        }


@attrs.frozen(kw_only=True)
class ProxyFacts:
    """Who tells.

    Attributes:
        name, namespace: of ``[service]``; ``"gateway"`` and ``""`` without one.
        identity: what it shows to its peers; None without one.
        version: of this package.
        state: ``"waiting"``, ``"ready"`` or ``"draining"``.
        uptime: seconds.
    """

    name: str
    namespace: str
    identity: str | None
    version: str
    state: str
    uptime: float

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {**attrs.asdict(self), "uptime": round(self.uptime, 3)}


@attrs.frozen(kw_only=True)
class RouteFigures:
    """A route, as its clients see it.

    Attributes:
        direction: ``"inbound"`` or ``"outbound"``.
        parent: whose route it is: a listener, a destination, ``"inbound"``.
        route: its name; ``"default"`` for what no route takes, or where there are none.
        golden: its figures.
    """

    direction: str
    parent: str
    route: str
    golden: Golden

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {"direction": self.direction, "parent": self.parent, "route": self.route, **self.golden.value()}


@attrs.frozen(kw_only=True)
class BackendFigures:
    """A backend: its endpoints together, each try counted.

    Attributes:
        backend: its name.
        direction: ``"inbound"`` for the application behind the proxy, else ``"outbound"``.
        ready: endpoints that take requests.
        pending: the others.
        breakers_open: endpoints that are left alone because they failed.
        waiting: requests that wait for an endpoint.
        fail_fast: whether requests fail at once, since none became ready in time.
        retry_budget: what is left of the budget, 0 to 1; None: nothing is tried again.
        golden: its figures.
    """

    backend: str
    direction: str
    ready: int
    pending: int
    breakers_open: int
    waiting: int
    fail_fast: bool
    retry_budget: float | None
    golden: Golden

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "backend": self.backend,
            "direction": self.direction,
            "ready": self.ready,
            "pending": self.pending,
            "breakers_open": self.breakers_open,
            "waiting": self.waiting,
            "fail_fast": self.fail_fast,
            "retry_budget": _rounded(self.retry_budget, 4),
            **self.golden.value(),
        }


@attrs.frozen(kw_only=True)
class EndpointFigures:
    """An endpoint of a backend, each try counted.

    Attributes:
        backend: whose; ``""``: nobody has it any more.
        direction: ``"inbound"`` for the application behind the proxy, else ``"outbound"``.
        address: where it is.
        labels: what discovery says of it, and its zone.
        identity: who has to answer there; None: that is not known.
        secured: whether connections to it are TLS.
        state: ``"ready"``; ``"pending"``: not connected yet, or shut; ``"failed"``: it could not be connected;
            ``"draining"``: it was removed.
        breaker: ``"shut"`` lets requests through, ``"open"`` does not, ``"probation"`` lets one; ``"none"``: it has
            none.
        load: what the balancer compares; None: it has none.
        pending: requests without a first byte of an answer.
        age: seconds since it was added.
        golden: its figures.
    """

    backend: str
    direction: str
    address: str
    labels: dict[str, str]
    identity: str | None
    secured: bool
    state: str
    breaker: str
    load: float | None
    pending: int
    age: float
    golden: Golden

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "backend": self.backend,
            "direction": self.direction,
            "address": self.address,
            "labels": self.labels,
            "identity": self.identity,
            "secured": self.secured,
            "state": self.state,
            "breaker": self.breaker,
            "load": _rounded(self.load, 6),
            "pending": self.pending,
            "age": round(self.age, 3),
            **self.golden.value(),
        }


@attrs.frozen(kw_only=True)
class EdgeFigures:
    """Who talks to whom through this proxy.

    Attributes:
        direction: ``"inbound"`` or ``"outbound"``.
        source, target: what people call them: a service, a listener, a backend; ``"unknown"`` for clients that do not
            show who they are.
        source_identity, target_identity: who they have shown themselves to be in TLS; None: nobody.
        secured: whether by TLS.
        no_tls_reason: why not, as in the metrics; ``""`` where it is, or where that is not known.
        connections: open now.
        golden: the figures of its requests; of bytes there are none.
    """

    direction: str
    source: str
    target: str
    source_identity: str | None
    target_identity: str | None
    secured: bool
    no_tls_reason: str
    connections: int
    golden: Golden

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "direction": self.direction,
            "source": self.source,
            "target": self.target,
            "source_identity": self.source_identity,
            "target_identity": self.target_identity,
            "secured": self.secured,
            "no_tls_reason": self.no_tls_reason,
            "connections": self.connections,
            **self.golden.value(),
        }


@attrs.frozen(kw_only=True)
class Stats:
    """What a proxy did over a window that ends now.

    Attributes:
        time: seconds since the epoch.
        window: seconds that are covered.
        proxy: who tells.
        total: the figures of all requests, by direction.
        overflow: those of requests whose series were too many to be told apart; in no other figure.
        routes, backends, endpoints, edges: the busiest, at most :data:`MOST_ROWS` each.
        more: how many were left out, by list.
    """

    time: float
    window: float
    proxy: ProxyFacts
    total: dict[str, Golden]
    overflow: Golden = Golden()
    routes: tuple[RouteFigures, ...] = ()
    backends: tuple[BackendFigures, ...] = ()
    endpoints: tuple[EndpointFigures, ...] = ()
    edges: tuple[EdgeFigures, ...] = ()
    more: dict[str, int] = attrs.Factory(dict)

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "time": round(self.time, 3),
            "window": round(self.window, 3),
            "proxy": self.proxy.value(),
            "total": {direction: golden.value() for direction, golden in self.total.items()},
            "overflow": self.overflow.value(),
            "routes": [each.value() for each in self.routes],
            "backends": [each.value() for each in self.backends],
            "endpoints": [each.value() for each in self.endpoints],
            "edges": [each.value() for each in self.edges],
            "more": {name: self.more.get(name, 0) for name in ("routes", "backends", "endpoints", "edges")},
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
