"""What was made for a target is kept while it is used."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import attrs
import trio

from meshcore.errors import LoadShedError
from meshcore.http.message import Response
from meshcore.transport.connection import Owner
from meshcore.transport.sweep import Sweeper

if TYPE_CHECKING:
    from meshcore.abc import NewAccept, NewHttp, NewService, Service
    from meshcore.http.body import EndOfStream

__all__ = ["IdleCache", "KeptStatistics"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


@attrs.frozen
class IdleCache:
    """Makes one service for each target, on its first request, and stops it once it has been idle.

    What the service needs in the background lives in a task and a nursery of the target's own, so that it
    ends with it; a crash there is logged and ends that one target.  Idle is: nothing in flight, bodies
    included, and no new request.  A request costs a counter and a callback at the end of its body.

    Attributes:
        idle: seconds without a request after which a service is stopped (up to a quarter more).
        owner: who is told of crashes; None: they are only logged.
    """

    idle: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    owner: Owner | None = attrs.field(default=None, repr=False)

    # The first says it all; pyright's inference needs the two that are used.
    @overload
    def layer(self, inner: NewService[T, Req, Rsp], /) -> NewService[T, Req, Rsp]: ...  # type: ignore[overload-overlap]
    @overload
    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]: ...
    @overload
    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]: ...
    def layer(self, inner: NewService[T, Any, Any], /) -> NewService[T, Any, Any]:
        """Keeps the services that *inner* makes, one for each target and nursery."""
        return _NewKept(self, inner)


class _NewKept(Generic[T, Req, Rsp]):
    """The kept services: one set for each nursery that they were asked for in."""

    __slots__ = ("_inner", "_layer", "_sets")

    def __init__(self, layer: IdleCache, inner: NewService[T, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner
        self._sets: weakref.WeakKeyDictionary[trio.Nursery, _Set[T, Req, Rsp]] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The service kept for *target*; made when it is first called."""
        found = self._sets.get(nursery)
        if found is None:
            found = self._sets[nursery] = _Set(self._layer, self._inner, nursery)
        kept = found.services.get(target)
        return _Kept(found, target) if kept is None else kept


class _Set(Generic[T, Req, Rsp]):
    """The services kept in one nursery, and the sweeper that stops the idle ones."""

    __slots__ = ("__weakref__", "inner", "layer", "nursery", "services", "sweeper")

    def __init__(self, layer: IdleCache, inner: NewService[T, Req, Rsp], nursery: trio.Nursery) -> None:
        self.layer = layer
        self.inner = inner
        self.nursery = nursery
        # By target: kept alive by whoever may call it, and by its task while it has one.
        self.services: weakref.WeakValueDictionary[T, _Kept[T, Req, Rsp]] = weakref.WeakValueDictionary()
        self.sweeper: Sweeper | None = None

    def start(self, kept: _Kept[T, Req, Rsp]) -> None:
        """Starts the target's task; its nursery's end is the end of all."""
        try:
            if self.sweeper is None:
                sweeper = Sweeper()
                self.nursery.start_soon(sweeper.run, name="sweeper of an idle cache")
                self.sweeper = sweeper
            self.nursery.start_soon(kept.run, name=f"kept for {kept.target}")
        except RuntimeError as error:
            raise LoadShedError(f"{kept.target}: nothing new is started, the proxy is shutting down") from error
        self.sweeper.add(kept, self.layer.idle)


@attrs.frozen
class KeptStatistics:
    """What a kept service did.

    Attributes:
        running: whether it is made at the moment.
        in_flight: requests whose bodies have not ended.
        requests: since it was first asked for.
        starts: how often it was made.
        crashes: how often its background ended in an exception.
    """

    running: bool
    in_flight: int
    requests: int
    starts: int
    crashes: int


class _Kept(Generic[T, Req, Rsp]):
    """The service of one target, whether it is made at the moment or not."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "__wrapped__",
        "_crash",
        "_crashes",
        "_idle_since",
        "_in_flight",
        "_requests",
        "_scope",
        "_seen",
        "_service",
        "_set",
        "_started",
        "_starts",
        "target",
    )

    def __init__(self, owner: _Set[T, Req, Rsp], target: T) -> None:
        self._set = owner
        self.target = target
        self.__layer__ = owner.layer
        self.__wrapped__: object | None = None
        self._service: Service[Req, Rsp] | None = None
        self._started: trio.Event | None = None
        self._scope: trio.CancelScope | None = None
        self._crash: Exception | None = None
        self._in_flight = 0
        self._requests = 0
        self._seen = -1
        self._idle_since = 0.0
        self._starts = 0
        self._crashes = 0
        owner.services[target] = self

    @property
    def idle(self) -> bool:
        """Whether nothing is made for the target: whoever keeps this may forget it."""
        return self._service is None and self._started is None

    def statistics(self) -> KeptStatistics:
        """What it did until now."""
        return KeptStatistics(
            self._service is not None, self._in_flight, self._requests, self._starts, self._crashes
        )

    async def __call__(self, request: Req, /) -> Rsp:
        service = self._service
        self._requests += 1
        # Counted before the wait, so that what is being started is not swept away.
        self._in_flight += 1
        try:
            if service is None:
                service = await self._start()
            response = await service(request)
        except BaseException:
            self._in_flight -= 1
            raise
        if isinstance(response, Response):
            response.body.on_end(self._ended)
        else:
            self._in_flight -= 1
        return response

    def _ended(self, end: EndOfStream) -> None:
        self._in_flight -= 1

    async def _start(self) -> Service[Req, Rsp]:
        """Makes the service; whoever comes meanwhile waits for the same start."""
        while (service := self._service) is None:
            started = self._started
            if started is None:
                self._crash = None
                started = self._started = trio.Event()
                try:
                    self._set.start(self)
                except LoadShedError:
                    self._started = None
                    raise
            await started.wait()
            if self._service is None and (crash := self._crash) is not None:
                raise crash
        return service

    async def run(self) -> None:
        """The target's task: what its service needs in the background lives under it."""
        started = self._started
        assert started is not None
        self._starts += 1
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                self._service = self.__wrapped__ = self._set.inner.new_service(self.target, nursery)
                self._idle_since = trio.current_time()
                started.set()
                await trio.sleep_forever()
        except* Exception as group:
            self._crashed(group)
        finally:
            # An eviction that came first has cleared these already, and they may be the next start's.
            if self._started is started:
                self._stopped()
            started.set()

    def _crashed(self, group: BaseExceptionGroup[Exception]) -> None:
        self._crashes += 1
        single: BaseException = group
        while isinstance(single, BaseExceptionGroup) and len(single.exceptions) == 1:
            single = single.exceptions[0]
        self._crash = single if isinstance(single, Exception) else None
        where = f"what is kept for {self.target}"
        owner = self._set.layer.owner
        if owner is not None:
            owner.crashed(single, where)
        else:
            log.error("crash in %s: %s", where, single, exc_info=single)

    def _stopped(self) -> None:
        self._service = self.__wrapped__ = None
        self._started = self._scope = None
        self._seen = -1
        if self._set.sweeper is not None:
            self._set.sweeper.discard(self)

    def sweep(self, now: float, /) -> None:
        """Stops the service if it has been idle for long enough; called by the sweeper."""
        if self._in_flight or self._requests != self._seen:
            self._seen = self._requests
            self._idle_since = now
        elif now - self._idle_since >= self._set.layer.idle and self._scope is not None:
            scope = self._scope
            self._stopped()
            scope.cancel()
