"""The layer that judges one endpoint's exchanges, and lets nothing through to it while its breaker is open."""

from __future__ import annotations

import random
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore.abc import HttpService, NewHttp, link
from meshcore.layers.failure_accrual.gate import Gated, Group
from meshcore.layers.failure_accrual.statistics import BreakerStatistics
from meshcore.metrics.feed import Feed
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve
from meshcore.transport.accrual import Accrual

if TYPE_CHECKING:
    import trio

__all__ = ["BreakerStatistics", "FailureAccrual"]

T = TypeVar("T")


@attrs.frozen
class FailureAccrual:
    """Takes an endpoint out when it fails too often, and tries with one request whether it is well again (B-14 to
    B-17).

    What is a failure is what :class:`~meshcore.layers.Classify` says; connects that fail are the balancer's to deal
    with.  An answer is judged at its end.  It stands below ``Balance``, which gives the endpoint no requests while
    the breaker is open; where there is no balancer, requests fail at once with ``CircuitOpen`` (503).

    Attributes:
        accrual: when the breaker opens and for how long, or a function of the target; None: never.
        registry: where ``circuit_breaker_…`` metrics go; None: nowhere.
        direction: of the metrics.
        rng: randomness of the penalties, for tests.
        feed: is told when a breaker opens and closes; None: nobody is.

    Raises:
        CircuitOpen: when called while the breaker is open.
    """

    accrual: Param[Accrual | None] = attrs.field(factory=Accrual)
    registry: Registry | None = attrs.field(default=None, repr=False)
    direction: str = attrs.field(default="outbound", repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)
    feed: Feed | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Each service that *inner* makes has a breaker of its own."""
        return _NewGated(self, inner)


class _NewGated(Generic[T]):
    """Makes services with breakers, and knows those of each backend."""

    __slots__ = ("_groups", "_inner", "_layer")

    def __init__(self, layer: FailureAccrual, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._groups: weakref.WeakValueDictionary[str, Group] = weakref.WeakValueDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The gated service for *target*; that of *inner* where nothing ever shuts it."""
        inner = self._inner.new_service(target, nursery)
        accrual = resolve(self._layer.accrual, target)
        if accrual is None or accrual.idle:
            return inner
        group = self._groups.get(accrual.group)
        if group is None:
            group = self._groups[accrual.group] = Group()
        layer = self._layer
        gated = Gated(
            inner,
            accrual,
            target,
            group,
            registry=layer.registry,
            direction=layer.direction,
            rng=layer.rng,
            feed=layer.feed,
        )
        nursery.start_soon(gated.run, name=f"breaker of {target}")
        return link(gated, inner, self._layer)
