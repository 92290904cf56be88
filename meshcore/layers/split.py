"""Which of its backends a route's request goes to, by their shares."""

from __future__ import annotations

import random
import weakref
from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

import attrs

from meshcore._unwrap import status_source
from meshcore.abc import Status
from meshcore.errors import LoadShedError
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    import trio

    from meshcore.abc import HttpService, NewHttp
    from meshcore.http.message import Request, Response
    from meshcore.transport.target import BackendRef, HttpRoute

__all__ = ["BackendShare", "Split", "SplitStatistics", "Weights"]

_LOOKS = 16


class Weights:
    """The shares of a route's backends, which may be changed while requests are on their way.

    A change holds from the next request on; what is in flight stays where it is.

    Attributes:
        backends: as they are now.
    """

    __slots__ = ("_splits", "backends")

    def __init__(self, backends: Iterable[BackendRef]) -> None:
        self.backends = tuple(backends)
        self._splits: weakref.WeakSet[_Splitting] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"Weights({', '.join(f'{each.backend.name}={each.weight:g}' for each in self.backends)})"

    def set(self, weights: Mapping[str, float], /) -> None:
        """Changes the shares of some backends by their names; the others keep theirs.

        Raises:
            LookupError: there is no backend of that name.
            ValueError: a weight is below 0.  Either way nothing has changed.
        """
        known = {each.backend.name for each in self.backends}
        for name in weights:
            if name not in known:
                raise LookupError(f"no backend {name!r}; the backends are: {', '.join(sorted(known))}")
        self.replace(attrs.evolve(each, weight=weights.get(each.backend.name, each.weight)) for each in self.backends)

    def replace(self, backends: Iterable[BackendRef], /) -> None:
        """Other backends, or the same ones with other shares.

        What those that are gone have connected stays until the proxy ends.
        """
        self.backends = tuple(backends)
        for split in self._splits:
            split.change(self.backends)

    def watch(self, split: _Splitting) -> None:
        """Tells *split*, for as long as it lives."""
        self._splits.add(split)


@attrs.frozen
class Split:
    """Spreads a route's requests over its backends at random, by their weights (B-13).

    A backend of weight 0 gets nothing.  One that is not ready is passed over, and another one drawn by weight; where
    none is ready, requests wait at one that may become so, or fail as it does.  A route with one backend costs nothing
    here.  The weights can be changed at any time, without touching what is in flight.

    Attributes:
        weights: the shares, or a function of the route that gives them; None: those of the route, for good.
        failover: whether the first backend that is ready gets everything instead; or a function of the route.
        rng: randomness, for tests.
    """

    per: ClassVar[str] = "backend"

    weights: Param[Weights | None] = attrs.field(default=None, repr=False)
    failover: Param[bool] = attrs.field(default=False, repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def targets(self, above: tuple[HttpRoute, ...] | None) -> tuple[BackendRef, ...] | None:
        """The backends that it may choose; None: that is not known.  *above*: the routes that it may be asked for."""
        if above is None:
            return None
        found: dict[BackendRef, None] = {}
        for route in above:
            weights = resolve(self.weights, route)
            for each in route.backends if weights is None else weights.backends:
                found[attrs.evolve(each, weight=1.0)] = None
        return tuple(found)

    def layer(self, inner: NewHttp[BackendRef], /) -> NewHttp[HttpRoute]:
        """Splits over the services that *inner* makes."""
        return _NewSplit(self, inner)


class _NewSplit:
    """Makes splits."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: Split, inner: NewHttp[BackendRef]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: HttpRoute, nursery: trio.Nursery, /) -> HttpService:
        """The split of a route; the service itself of one that has one backend for good."""
        weights = resolve(self._layer.weights, target)
        if weights is None and len(target.backends) == 1 and target.backends[0].weight > 0:
            return self._inner.new_service(attrs.evolve(target.backends[0], weight=1.0), nursery)
        cls = _FirstReady if resolve(self._layer.failover, target) else _Splitting
        split = cls(self._layer, self._inner, target.name, nursery)
        split.change(target.backends if weights is None else weights.backends)
        if weights is not None:
            weights.watch(split)
        return split


@attrs.frozen
class BackendShare:
    """A backend of a split.

    Attributes:
        backend: its name.
        weight: its share.
        picks: requests that it was given.
    """

    backend: str
    weight: float
    picks: int


@attrs.frozen
class SplitStatistics:
    """What a split did.

    Attributes:
        backends: one by one, those of weight 0 included.
        passed_over: requests whose first draw was not ready, and that went to another backend.
    """

    backends: tuple[BackendShare, ...]
    passed_over: int


class _Arm:
    """A backend with its service, made once it has a share.

    Attributes:
        status: how ready it is; None: nobody can tell, or not yet.
    """

    __slots__ = ("_looks", "picks", "service", "status")

    def __init__(self, service: HttpService) -> None:
        self.service = service
        self.picks = 0
        self.status: Callable[[], Status] | None = status_source(service)
        self._looks = 0

    def look(self) -> None:
        """Asks a few times who can tell how ready it is: what is made when it is first called can tell after that."""
        if self._looks < _LOOKS:
            self._looks += 1
            self.status = status_source(self.service)

    def now(self) -> Status:
        """How ready it is."""
        source = self.status
        if source is None:
            return Status.OPEN
        status = source()
        if status is Status.CLOSED:
            # It may have been stopped because nobody used it, and would be made anew.
            source = self.status = status_source(self.service)
            self._looks = 0
            status = Status.OPEN if source is None else source()
        return status


class _Splitting:
    """The split of one route."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "_arms",
        "_backends",
        "_cumulative",
        "_inner",
        "_last",
        "_name",
        "_nursery",
        "_passed_over",
        "_random",
        "_shares",
        "_total",
    )

    def __init__(self, layer: Split, inner: NewHttp[BackendRef], name: str, nursery: trio.Nursery) -> None:
        self.__layer__ = layer
        self._inner = inner
        self._name = name
        # Weakly: the nursery's end is the end of all this.
        self._nursery = weakref.ref(nursery)
        self._random = layer.rng.random
        self._backends: tuple[BackendRef, ...] = ()
        # By the backend, whatever its share.
        self._arms: dict[BackendRef, _Arm] = {}
        self._shares: list[_Arm] = []
        self._cumulative: list[float] = []
        self._total = 0.0
        self._last = -1
        self._passed_over = 0

    def __repr__(self) -> str:
        return f"<Split of {self._name} over {len(self._shares)}>"

    def change(self, backends: tuple[BackendRef, ...]) -> None:
        """Takes these from now on; those that stay keep their services, and what these hold."""
        nursery = self._nursery()
        if nursery is None:
            return
        arms: dict[BackendRef, _Arm] = {}
        shares: list[_Arm] = []
        weights: list[float] = []
        for each in backends:
            key = attrs.evolve(each, weight=1.0)
            arm = arms.get(key) or self._arms.get(key)
            if arm is None and each.weight > 0:
                arm = _Arm(self._inner.new_service(key, nursery))
            if arm is None:
                continue
            arms[key] = arm
            if each.weight > 0:
                shares.append(arm)
                weights.append(each.weight)
        self._backends = backends
        self._arms = arms
        self._shares = shares
        self._cumulative = list(accumulate(weights))
        self._total = self._cumulative[-1] if shares else 0.0
        self._last = len(shares) - 1

    def statistics(self) -> SplitStatistics:
        """What it did until now."""
        found = []
        for each in self._backends:
            arm = self._arms.get(attrs.evolve(each, weight=1.0))
            found.append(BackendShare(each.backend.name, each.weight, 0 if arm is None else arm.picks))
        return SplitStatistics(tuple(found), self._passed_over)

    def status(self) -> Status:
        """That of the best of its backends."""
        return max((arm.now() for arm in self._shares), default=Status.CLOSED)

    def services(self) -> dict[str, HttpService]:
        """The live services below, by backend."""
        return {key.backend.name: arm.service for key, arm in self._arms.items()}

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        last = self._last
        if last < 0:
            raise LoadShedError(f"route {self._name}: no backend has a share")
        if last:
            index = bisect(self._cumulative, self._random() * self._total, 0, last)
            arm = self._shares[index]
            if arm.status is None:
                arm.look()
            elif arm.status() is not Status.OPEN:
                arm = self._another(index)
        else:
            arm = self._shares[0]
        arm.picks += 1
        return arm.service(request)

    def _another(self, first: int) -> _Arm:
        """A ready backend other than the *first* draw, drawn by weight among the rest; where none is ready, the first
        draw at which a request may wait."""
        shares = self._shares
        weights = [after - before for before, after in zip([0.0, *self._cumulative], self._cumulative, strict=False)]
        weights[first] = 0.0
        now = shares[first].now()
        if now is Status.OPEN:
            return shares[first]
        waiting = shares[first] if now is Status.BUSY else None
        for _ in range(self._last):
            cumulative = list(accumulate(weights))
            index = bisect(cumulative, self._random() * cumulative[-1], 0, self._last)
            if not weights[index]:
                # Rounding has led behind the last one that is left.
                index = max(place for place, weight in enumerate(weights) if weight)
            arm = shares[index]
            now = arm.now()
            if now is Status.OPEN:
                self._passed_over += 1
                return arm
            if now is Status.BUSY and waiting is None:
                waiting = arm
            weights[index] = 0.0
        return shares[first] if waiting is None else waiting


class _FirstReady(_Splitting):
    """The split of one route whose backends stand in for each other, in their order."""

    __slots__ = ()

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        if self._last < 0:
            raise LoadShedError(f"route {self._name}: no backend has a share")
        shares = self._shares
        arm = shares[0]
        if arm.status is None:
            arm.look()
        elif arm.status() is not Status.OPEN:
            arm = self._stand_in()
        arm.picks += 1
        return arm.service(request)

    def _stand_in(self) -> _Arm:
        """The first that is ready; where none is, the first at which a request may wait."""
        waiting: _Arm | None = None
        for arm in self._shares:
            now = arm.now()
            if now is Status.OPEN:
                self._passed_over += arm is not self._shares[0]
                return arm
            if now is Status.BUSY and waiting is None:
                waiting = arm
        return self._shares[0] if waiting is None else waiting
