"""What live balancers know of their endpoints: found in the running services, and told at ``/endpoints``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from meshcore._unwrap import services
from meshcore.layers.balance import BalanceStatistics, EndpointStatistics
from meshcore.layers.failure_accrual import BreakerStatistics
from meshcore.layers.health_checks import HealthStatistics
from meshcore.layers.retry import RetryStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LiveBackend", "LiveEndpoint", "live_backends"]

PIECE = 100
"""Endpoints that are looked at in one go; then others have their turn."""

_DEEPEST = 16
_STATES = {"connecting": "pending", "ready": "ready", "out": "failed", "draining": "draining"}
_BREAKERS = {"closed": "shut", "open": "open", "probation": "probation"}

S = TypeVar("S")


@attrs.frozen(kw_only=True)
class LiveEndpoint:
    """One endpoint of a balancer.

    Attributes:
        address: ``host:port``.
        told: what its balancer knows.
        breaker: what its breaker knows; None: it has none.
        health: what its checks know; None: it is not checked.
    """

    address: str
    told: EndpointStatistics
    breaker: BreakerStatistics | None = None
    health: HealthStatistics | None = None

    @property
    def state(self) -> str:
        """``"ready"``, ``"pending"`` (not connected yet, or shut), ``"failed"`` or ``"draining"``."""
        state = _STATES[self.told.state]
        return "pending" if state == "ready" and self.told.status != "open" else state

    @property
    def breaker_state(self) -> str:
        """``"shut"``, ``"open"``, ``"probation"``; ``"none"`` without one."""
        return "none" if self.breaker is None else _BREAKERS.get(self.breaker.state, self.breaker.state)

    def labels(self) -> dict[str, str]:
        """What discovery says of it, and its zone."""
        zone = {"zone": self.told.zone} if self.told.zone else {}
        return {**dict(self.told.labels), **zone}

    def value(self, connections: int) -> dict[str, Any]:
        """As JSON."""
        told, breaker, health = self.told, self.breaker, self.health
        return {
            "address": self.address,
            "state": self.state,
            "status": told.status,
            "error": told.error,
            "weight": round(told.weight, 4),
            "zone": told.zone,
            "labels": dict(told.labels),
            "identity": told.identity,
            "secured": told.secured,
            "no_tls_reason": told.no_tls,
            "load": round(told.load, 6),
            "rtt": round(told.rtt * 1000.0, 3),
            "pending": told.pending,
            "in_flight": told.in_flight,
            "connections": connections,
            "successes": told.successes,
            "failures": told.failures,
            "age": round(told.age, 3),
            "breaker": None
            if breaker is None
            else {
                "state": self.breaker_state,
                "failures": breaker.failures,
                "trips": breaker.trips,
                "reason": breaker.reason,
                "remaining": round(breaker.remaining, 3),
            },
            "healthy": None if health is None else health.healthy,
        }


@attrs.define(eq=False, kw_only=True)
class LiveBackend:
    """One balancer.

    Attributes:
        listener: the pipeline that it stands in.
        told: what it knows.
        endpoints: its endpoints.
        retry_budgets: what is left of the budgets above it, 0 to 1 each.
    """

    listener: str
    told: BalanceStatistics
    endpoints: list[LiveEndpoint] = attrs.Factory(list)
    retry_budgets: list[float] = attrs.Factory(list)

    @property
    def name(self) -> str:
        """The backend's."""
        return self.told.backend

    @property
    def direction(self) -> str:
        """``"inbound"``: it is the application behind the proxy."""
        return "inbound" if self.listener == "inbound" else "outbound"

    @property
    def retry_budget(self) -> float | None:
        """The scarcest one; None: nothing is tried again."""
        return min(self.retry_budgets, default=None)

    def ready(self) -> int:
        """Endpoints that take requests."""
        return sum(each.state == "ready" and each.told.weight > 0 for each in self.endpoints)


async def live_backends(tops: Iterable[tuple[str, object]]) -> list[LiveBackend]:
    """Every balancer under the services *tops*, each with its pipeline's name; each balancer once, however many ways
    lead to it.  Others have their turn now and then."""
    found: dict[int, LiveBackend] = {}
    # Kept, so that no number is given to another object meanwhile.
    kept: list[object] = []
    for listener, top in tops:
        await trio.lowlevel.checkpoint()
        for balancer, told, budgets in _balancers(top, (), _DEEPEST):
            backend = found.get(id(balancer))
            if backend is None:
                backend = found[id(balancer)] = LiveBackend(listener=listener, told=told)
                kept.append(balancer)
                await _add_endpoints(backend, balancer)
            backend.retry_budgets.extend(budgets)
    return list(found.values())


def _balancers(
    top: object, budgets: tuple[float, ...], depth: int
) -> Iterator[tuple[object, BalanceStatistics, tuple[float, ...]]]:
    for each in services(top):
        statistics: Any = getattr(each, "statistics", None)
        told = statistics() if callable(statistics) else None
        if isinstance(told, BalanceStatistics):
            yield each, told, budgets
            return
        if isinstance(told, RetryStatistics):
            budgets = (*budgets, told.left)
        services_of: Any = getattr(each, "services", None)
        if callable(services_of) and depth:
            below: Any = services_of()
            for inner in list(below.values()):
                yield from _balancers(inner, budgets, depth - 1)


async def _add_endpoints(backend: LiveBackend, balancer: Any) -> None:
    by_address = dict(balancer.services())
    for number, told in enumerate(backend.told.endpoints, 1):
        host, port = told.address
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        service = by_address.get(address)
        breaker = health = None
        for each in services(service):
            statistics = getattr(each, "statistics", None)
            if not callable(statistics):
                continue
            said = statistics()
            if isinstance(said, BreakerStatistics):
                breaker = said
            elif isinstance(said, HealthStatistics):
                health = said
        backend.endpoints.append(LiveEndpoint(address=address, told=told, breaker=breaker, health=health))
        if number % PIECE == 0:
            await trio.lowlevel.checkpoint()
