"""The layer that lets only so many requests be in flight."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore._unwrap import status_source
from meshcore._wakeup import Wakeup, clock
from meshcore.abc import HttpService, NewHttp, Status, link
from meshcore.errors import LoadShedError, MeshError
from meshcore.http.concurrency import Concurrency
from meshcore.layers.concurrency_limit.adaptive import Adaptive
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.metrics.registry import Counter

__all__ = ["ConcurrencyLimit", "ConcurrencyStatistics"]

T = TypeVar("T")

_TOO_MUCH = (429, 503)


@attrs.frozen
class ConcurrencyLimit:
    """Lets so many requests be in flight, to the last byte of their responses; refuses the others with 503, at once or
    after a wait in their order (B-11, B-12).

    Attributes:
        limit: how many, with or without a wait; or a function of the target; None: as many as there are.
        shared: one limit for everything that the layer is applied to; otherwise each target has its own.
        registry: where ``concurrency_limit_refused_total`` goes; None: nowhere.
        name: the role, where a stack has more than one; and the label ``limit`` of the metric.

    Raises:
        LoadShedError: when called, before anything is sent on.
    """

    limit: Param[int | Concurrency | None] = attrs.field(factory=Concurrency)
    shared: bool = False
    registry: Registry | None = attrs.field(default=None, repr=False)
    name: str = attrs.field(default="concurrency_limit", repr=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Limits the services that *inner* makes."""
        return _NewLimited(self, inner)


class _NewLimited(Generic[T]):
    """Makes limited services."""

    __slots__ = ("_inner", "_layer", "_permits")

    def __init__(self, layer: ConcurrencyLimit, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._permits: Permits | None = None

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The limited service for *target*; that of *inner* where there is no limit."""
        inner = self._inner.new_service(target, nursery)
        permits = self._permits
        if permits is None:
            limit: Any = resolve(self._layer.limit, target)
            if limit is None:
                return inner
            concurrency = limit if isinstance(limit, Concurrency) else Concurrency(limit)
            where = str(getattr(target, "name", "")) if not self._layer.shared else ""
            permits = Permits(concurrency, where, self._layer)
            if self._layer.shared:
                self._permits = permits
        return link(_Limited(inner, permits), inner, self._layer)


@attrs.frozen
class ConcurrencyStatistics:
    """What a limit knows.

    Attributes:
        limit: requests that may be in flight now.
        in_flight: those that are.
        waiting: those that wait for their turn.
        refused: how many were refused.
        usual, recent: latencies in seconds that an adaptive limit compares; 0.0 for others.
    """

    limit: int
    in_flight: int
    waiting: int
    refused: int
    usual: float
    recent: float


class _Turn:
    """Somebody who waits."""

    __slots__ = ("granted", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.granted = False


class Permits:
    """The state of one limit.

    Attributes:
        limit: how many there are now.
        taken: how many are.
    """

    __slots__ = (
        "__weakref__",
        "_concurrency",
        "_counter",
        "_refused",
        "_waiting",
        "_where",
        "adaptive",
        "limit",
        "now",
        "taken",
    )

    def __init__(self, concurrency: Concurrency, where: str, layer: ConcurrencyLimit) -> None:
        self._concurrency = concurrency
        self._where = f"{where}: " if where else ""
        self.now = clock()
        self.adaptive: Adaptive | None = None
        self.limit = concurrency.limit
        if concurrency.adaptive is not None:
            self.adaptive = Adaptive(concurrency.adaptive, concurrency.limit, self.now())
            self.limit = self.adaptive.limit
        self.taken = 0
        self._waiting: OrderedDict[_Turn, None] = OrderedDict()
        self._refused = 0
        self._counter: Counter | None = None
        if layer.registry is not None:
            self._counter = layer.registry.counter(
                "concurrency_limit_refused_total", "Requests refused since too many were in flight.", "limit", "target"
            ).labels(layer.name, where)

    def statistics(self) -> ConcurrencyStatistics:
        """What is known now."""
        adaptive = self.adaptive
        return ConcurrencyStatistics(
            self.limit,
            self.taken,
            len(self._waiting),
            self._refused,
            adaptive.usual if adaptive is not None else 0.0,
            adaptive.recent if adaptive is not None else 0.0,
        )

    def status(self) -> Status:
        """Open: there are some; busy: one would wait for one; closed: one would be refused."""
        if self.taken < self.limit:
            return Status.OPEN
        concurrency = self._concurrency
        return Status.BUSY if concurrency.wait and len(self._waiting) < concurrency.waiting else Status.CLOSED

    async def turn(self) -> None:
        """Waits for one, where all are taken; it is taken then.

        Raises:
            LoadShedError: too many wait, or it took too long.
        """
        concurrency = self._concurrency
        if self.status() is not Status.BUSY:
            raise self._shed(f"{self.limit} requests are in flight already")
        turn = _Turn()
        self._waiting[turn] = None
        try:
            with trio.move_on_after(concurrency.wait):
                while not turn.granted:
                    await turn.wakeup.wait()
        except BaseException:
            # Cancelled, perhaps after it was granted.
            self._leave(turn)
            raise
        if not turn.granted:
            self._leave(turn)
            raise self._shed(f"no turn within {concurrency.wait:g} s")

    def _leave(self, turn: _Turn) -> None:
        if turn.granted:
            self.release()
        else:
            del self._waiting[turn]

    def _shed(self, why: str) -> LoadShedError:
        self._refused += 1
        if self._counter is not None:
            self._counter.value += 1
        return LoadShedError(f"{self._where}service unavailable: {why}")

    def release(self) -> None:
        """One is given back: whoever has waited longest gets it."""
        self.taken -= 1
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.taken < self.limit:
            turn, _ = self._waiting.popitem(last=False)
            turn.granted = True
            self.taken += 1
            turn.wakeup.wake()

    def learn(self, adaptive: Adaptive, started: float, dropped: bool) -> None:
        """What a request tells of the right limit."""
        now = self.now()
        if adaptive.sample(now, now - started, self.taken, dropped):
            self.limit = adaptive.limit
            self._grant()


class _Limited:
    """A limited service: one frame a request."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_inner", "_permits", "_status")

    def __init__(self, inner: HttpService, permits: Permits) -> None:
        self._inner = inner
        self._permits = permits
        self._status: Callable[[], Status] | None = status_source(inner)

    def statistics(self) -> ConcurrencyStatistics:
        """What is known now."""
        return self._permits.statistics()

    def status(self) -> Status:
        """That of the limit, or of what stands below it if that is worse."""
        own = self._permits.status()
        return own if self._status is None or own is not Status.OPEN else self._status()

    async def __call__(self, request: Request, /) -> Response:
        permits = self._permits
        if permits.taken >= permits.limit:
            await permits.turn()
        else:
            permits.taken += 1
        adaptive = permits.adaptive
        started = permits.now() if adaptive is not None else 0.0
        try:
            response = await self._inner(request)
        except BaseException as error:
            if adaptive is not None and isinstance(error, MeshError):
                permits.learn(adaptive, started, True)
            permits.release()
            raise
        if adaptive is not None:
            permits.learn(adaptive, started, response.status in _TOO_MUCH)
        response.body.on_end(self._ended)
        return response

    def _ended(self, end: EndOfStream) -> None:
        self._permits.release()
