"""Which of its backends a route's request goes to, by their shares."""

from __future__ import annotations

import random
import weakref
from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

import attrs
import trio

from meshcore._unwrap import status_source
from meshcore.abc import Status
from meshcore.errors import FailFastError, LoadShedError, MeshError, NoEndpoints
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from meshcore.abc import HttpService, NewHttp
    from meshcore.http.message import Request, Response
    from meshcore.transport.target import BackendRef, HttpRoute

__all__ = ["BackendShare", "Split", "SplitStatistics", "Weights"]

_LOOKS = 16
_PAUSES = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""Seconds between looks whether a backend has become ready, where none is: a quarter of one in all."""
_NOT_SENT = (FailFastError, NoEndpoints)
"""What a backend says that has no endpoint ready: nobody has seen anything of the request."""


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

    A backend of weight 0 gets nothing.  One that is not ready, or turns out not to be, is passed over, and another one
    drawn by weight; where none is, a request waits a moment for any, then at one that may become so, and fails as
    that does.  A route with one backend costs nothing here.  The weights can be changed at any time, without touching
    what is in flight.

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
        in_order = resolve(self._layer.failover, target)
        split = _Splitting(self._layer, self._inner, target.name, in_order, nursery)
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
        "_in_order",
        "_inner",
        "_last",
        "_name",
        "_nursery",
        "_passed_over",
        "_random",
        "_shares",
        "_total",
        "_weights",
    )

    def __init__(
        self, layer: Split, inner: NewHttp[BackendRef], name: str, in_order: bool, nursery: trio.Nursery
    ) -> None:
        self.__layer__ = layer
        self._inner = inner
        self._name = name
        self._in_order = in_order
        # Weakly: the nursery's end is the end of all this.
        self._nursery = weakref.ref(nursery)
        self._random = layer.rng.random
        self._backends: tuple[BackendRef, ...] = ()
        # By the backend, whatever its share.
        self._arms: dict[BackendRef, _Arm] = {}
        # Replaced when they change, never changed themselves: whoever is drawing goes on with what there was.
        self._shares: list[_Arm] = []
        self._weights: list[float] = []
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
        self._weights = weights
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
        if last > 0:
            index = 0 if self._in_order else bisect(self._cumulative, self._random() * self._total, 0, last)
            arm = self._shares[index]
            if arm.status is None:
                arm.look()
            elif arm.status() is not Status.OPEN:
                return self._elsewhere(request, arm, None)
            return self._ask(request, arm)
        if last < 0:
            raise LoadShedError(f"route {self._name}: no backend has a share")
        return self._asked(request, self._shares[0], False)

    def _asked(self, request: Request, arm: _Arm, elsewhere: bool) -> Awaitable[Response]:
        arm.picks += 1
        request.elsewhere = elsewhere
        return arm.service(request)

    async def _ask(self, request: Request, arm: _Arm) -> Response:
        """Asks the first draw, where the request does not wait."""
        headers = request.headers
        try:
            return await self._asked(request, arm, True)
        except _NOT_SENT as error:
            failure = error
        # The backend's own filters may have changed them.
        request.headers = headers
        return await self._elsewhere(request, arm, failure)

    async def _elsewhere(self, request: Request, first: _Arm, failure: MeshError | None) -> Response:
        """Asks a ready backend other than the *first* draw.

        Where none is ready, one may become so in a moment; after that the request waits at the first draw at which it
        may, and has one more chance when that has failed.
        """
        headers = request.headers
        tried = set() if failure is None else {first}
        for pause in _PAUSES:
            busy = False
            for arm in self._draws(first):
                status = arm.now()
                busy = busy or status is Status.BUSY
                if status is Status.OPEN and arm not in tried:
                    tried.add(arm)
                    self._passed_over += arm is not first
                    try:
                        return await self._asked(request, arm, True)
                    except _NOT_SENT as error:
                        busy, failure = True, error
                        request.headers = headers
            if not busy:
                break
            await trio.sleep(pause)
            tried.clear()
        waiting = next((arm for arm in self._draws(first) if arm.now() is Status.BUSY), None)
        if waiting is not None:
            try:
                return await self._asked(request, waiting, False)
            except _NOT_SENT as error:
                failure = error
                request.headers = headers
        ready = next((arm for arm in self._draws(first) if arm.now() is Status.OPEN), None)
        if ready is None and failure is not None:
            raise failure
        return await self._asked(request, ready or first, False)

    def _draws(self, first: _Arm) -> Iterator[_Arm]:
        """All backends: the *first* draw, then the rest, drawn by weight; or all in their order."""
        shares, weights = self._shares, self._weights
        if self._in_order:
            yield from shares
            return
        yield first
        left = [index for index, arm in enumerate(shares) if arm is not first]
        while left:
            sums = list(accumulate(weights[index] for index in left))
            yield shares[left.pop(bisect(sums, self._random() * sums[-1], 0, len(left) - 1))]
