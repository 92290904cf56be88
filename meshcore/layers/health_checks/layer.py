"""The layer that asks endpoints whether they are well, and shuts those that are not."""

from __future__ import annotations

import logging
import random
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from meshcore.abc import NewService, Status
from meshcore.errors import MeshError, NotReady
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import tell_health
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve
from meshcore.transport.about import About
from meshcore.transport.health import Health

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import Service
    from meshcore.transport.target import Endpoint

__all__ = ["HealthChecks", "HealthStatistics"]

log = logging.getLogger(__name__)

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")

_JITTER = 0.1


@attrs.frozen
class HealthChecks:
    """Asks each endpoint whether it is well, and shuts it for the balancer above while it is not
    (:class:`meshcore.abc.Gate`: ``BUSY``).

    Nothing is sent to an endpoint before the first check, whose result counts at once.  An endpoint without
    ``Endpoint.health`` costs nothing.  One task an endpoint, in the endpoint's own nursery; a request costs one call.

    Attributes:
        registry: where ``health_checks_total`` and ``endpoint_healthy`` are; None: nowhere.
        direction: of the metrics.
        health: how and when; by default what the endpoint says itself.
        rng: for the intervals.
        name: the role, where a stack has more than one.
        feed: is told when an endpoint's health changes; None: nobody is.
    """

    registry: Registry | None = attrs.field(default=None, repr=False, eq=False)
    direction: str = "outbound"
    health: Param[Health | None] = attrs.field(default=attrgetter("health"), repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)
    feed: Feed | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)

    def layer(self, inner: NewService[Endpoint, Req, Rsp], /) -> NewService[Endpoint, Req, Rsp]:
        """Checks whatever *inner* makes."""
        return _NewChecked(self, inner)


class _NewChecked(Generic[Req, Rsp]):
    """Makes endpoints' services that are checked."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: HealthChecks, inner: NewService[Endpoint, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: Endpoint, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The service of *target*; that of *inner* itself where there is nothing to check."""
        inner = self._inner.new_service(target, nursery)
        health = resolve(self._layer.health, target)
        if health is None:
            return inner
        checked = _Checked[Req, Rsp](self._layer, health, target, inner)
        nursery.start_soon(checked.run, name=f"health of {target}")
        return checked


@attrs.frozen
class HealthStatistics:
    """What is known of an endpoint's health.

    Attributes:
        healthy: whether it is well; None: it was not asked yet.
        checks: how often it was asked.
        failures: how often it was not well then.
        streak: answers in a row that it was well, or (below 0) that it was not.
        age: seconds since the last one; None: there was none.
        error: what was wrong with it; ``""``: nothing.
    """

    healthy: bool | None
    checks: int
    failures: int
    streak: int
    age: float | None
    error: str


class _Checked(Generic[Req, Rsp]):
    """The service of one endpoint, and what its checks have found."""

    def __init__(self, layer: HealthChecks, health: Health, endpoint: Endpoint, inner: Service[Req, Rsp]) -> None:
        self.__layer__ = layer
        self.__wrapped__ = inner
        self._health = health
        self._endpoint = endpoint
        self._feed = layer.feed
        self._rng = layer.rng
        self._status = Status.CLOSED
        self._changed: Callable[[], None] = _nobody
        self.cause: MeshError | None = NotReady(f"endpoint {endpoint}: not checked yet")
        self._streak = 0
        self._checks = 0
        self._failures = 0
        self._at: float | None = None
        self._error = ""
        registry = Registry() if layer.registry is None else layer.registry
        labels = ("direction", "target_addr")
        results = registry.counter(
            "health_checks_total", "Checks whether an endpoint is well, by their results.", *labels, "result"
        )
        self._success_total = results.labels(layer.direction, str(endpoint), "success")
        self._failure_total = results.labels(layer.direction, str(endpoint), "failure")
        self._gauge = registry.gauge(
            "endpoint_healthy", "Whether an endpoint's health checks say that it is well.", *labels
        ).labels(layer.direction, str(endpoint))

    def __repr__(self) -> str:
        return f"<health of {self._endpoint}: {self._status.name.lower()}>"

    def __call__(self, request: Req, /) -> Awaitable[Rsp]:
        return self.__wrapped__(request)

    def status(self) -> Status:
        """See :class:`meshcore.abc.Gate`."""
        return self._status

    def on_status(self, changed: Callable[[], None], /) -> None:
        """See :class:`meshcore.abc.Gate`."""
        self._changed = changed

    def statistics(self) -> HealthStatistics:
        """What is known now."""
        return HealthStatistics(
            healthy=None if self._at is None else self._status is Status.OPEN,
            checks=self._checks,
            failures=self._failures,
            streak=self._streak,
            age=None if self._at is None else trio.current_time() - self._at,
            error=self._error,
        )

    async def run(self) -> None:
        """Asks again and again."""
        health = self._health
        while True:
            self._found(await self._ask())
            await trio.sleep(health.interval * (1.0 + _JITTER * (2.0 * self._rng.random() - 1.0)))

    async def _ask(self) -> MeshError | None:
        """Why the endpoint is not well; None if it is."""
        health = self._health
        try:
            with trio.fail_after(health.timeout):
                await health.check.check(self._endpoint, self.__wrapped__)
        except trio.TooSlowError:
            return NotReady(f"no answer within {health.timeout:g} s")
        except MeshError as error:
            return error
        return None

    def _found(self, error: MeshError | None) -> None:
        first = self._at is None
        self._at = trio.current_time()
        self._checks += 1
        if error is None:
            self._success_total.value += 1
            self._streak = max(self._streak, 0) + 1
            self._error = ""
            if first or (self._status is not Status.OPEN and self._streak >= self._health.healthy):
                self._become(Status.OPEN, None)
                if not first:
                    tell_health(self._feed, self._endpoint, None)
            return
        self._failure_total.value += 1
        self._failures += 1
        self._streak = min(self._streak, 0) - 1
        self._error = str(error)
        if first or (self._status is Status.OPEN and -self._streak >= self._health.unhealthy):
            cause = NotReady(f"endpoint {self._endpoint}: health check failed")
            cause.__cause__ = error
            self._become(Status.BUSY, cause)
            tell_health(self._feed, self._endpoint, self._error)

    def _become(self, status: Status, cause: MeshError | None) -> None:
        self._status = status
        self.cause = cause
        self._gauge.value = float(status is Status.OPEN)
        if status is Status.OPEN:
            log.info("endpoint %s is healthy", self._endpoint, extra=About(endpoint=self._endpoint))
        else:
            log.warning(
                "endpoint %s is not healthy: %s", self._endpoint, self._error, extra=About(endpoint=self._endpoint)
            )
        self._changed()


def _nobody() -> None:
    """Who is told where there is no balancer above."""
