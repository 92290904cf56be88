"""Keep: stacks by target that outlive the pipeline above them, so that a reload finds them again."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import trio

from meshcore._unwrap import find, status_source
from meshcore._wakeup import WakeupQueue
from meshcore.abc import Status
from meshcore.errors import LoadShedError
from meshcore.pipeline.same import same
from meshcore.transport.target import Backend, RequestPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from meshcore.abc import NewService, Service
    from meshcore.stack import Stack
    from meshcore.transport.connection import Owner

__all__ = ["Keep", "Keeper", "Place", "balancer_of"]

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at what is not wanted any more."""
IDLE = 10.0
"""Seconds without use after which it is stopped."""

_UPDATED = ("endpoints", "discover", "template")
"""Fields of a backend that a running balancer takes anew."""
_NOWHERE = Backend("")
_PLAIN: dict[str, Any] = {
    name: getattr(_NOWHERE, name) for name in (*_UPDATED, *(field.name for field in attrs.fields(RequestPolicy)))
}
"""What is of no concern to a running balancer, which takes the first anew, and stands below whatever reads the rest."""


def balancer_of(target: Any, /) -> Hashable:
    """What a balancer is kept for: all of a backend but what it can be told while it runs, and what is decided above
    it."""
    return attrs.evolve(target, **_PLAIN) if isinstance(target, Backend) else target


def _whole(target: Any, /) -> Hashable:
    return target  # type: ignore[no-any-return]


class Keeper:
    """Every kept stack of a process.

    Attributes:
        nursery: where they live; None before the proxy runs.
        owner: who is told of crashes in them; None: they are only logged.
        places: where in the pipelines there are some.
    """

    def __init__(self, owner: Owner | None = None) -> None:
        self.nursery: trio.Nursery | None = None
        self.owner = owner
        self.places: list[Place] = []
        self._old: list[Place] = []
        self._unwanted: dict[_Kept, _Unwanted] = {}
        self._leaving: list[_Leaving] = []
        self._news = WakeupQueue()

    def place(self, name: str, below: Stack[Any, Any], *, balancer: bool = False, requests: bool = False) -> Place:
        """The place of this name over a stack of these layers: the same one again for the same ones.

        Args:
            name: where it is in which pipeline.
            below: the layers under it.
            balancer: the first of them is one.
            requests: it is used by requests, not by connections.
        """
        for known in (*self.places, *self._old):
            if known.is_at(name, below):
                return known
        return Place(self, name, below, balancer_of if balancer else _whole, requests)

    def settle(self, wanted: Mapping[Place, Iterable[Any] | None]) -> None:
        """Says which places there are now, and with which targets (None: that is not known).

        What is wanted and runs is told of its target, should that have changed; what is not wanted is stopped once
        everybody has left who may use it (:meth:`when_over`), or nobody has used it for :data:`IDLE` seconds.
        """
        self._old = [place for place in (*self.places, *self._old) if place not in wanted and place.kept]
        self.places = list(wanted)
        for place in self._old:
            for kept in place.kept.values():
                self.unwanted(kept)
        for place, targets in wanted.items():
            place.settle(targets)

    def want(self, places: Mapping[Place, Iterable[Any] | None]) -> None:
        """There are these places, too."""
        for place, targets in places.items():
            if place not in self.places:
                self.places.append(place)
            place.settle(targets)

    def unwanted(self, kept: _Kept) -> None:
        """It is stopped once nobody uses it."""
        kept.wanted = False
        if kept not in self._unwanted:
            users = tuple(each for each in self._leaving if each.requests is kept.requests)
            self._unwanted[kept] = _Unwanted(trio.current_time(), users)
        self._news.wake_all()

    def take_back(self, kept: _Kept) -> None:
        """It is wanted again."""
        kept.wanted = True
        self._unwanted.pop(kept, None)

    def running(self) -> list[tuple[str, object]]:
        """What is kept, wanted or not, each with its pipeline's name."""
        return [
            (place.name.partition("/")[0], kept)
            for place in (*self.places, *self._old)
            for kept in place.kept.values()
        ]

    def when_over(self, used: Callable[[], bool], end: Callable[[], None], *, requests: bool = False) -> None:
        """Calls *end* once *used* has become false.

        Args:
            used: whether a part of an old build, which may use what is not wanted any more, is used itself.
            end: ends it.
            requests: it is the part for requests, not that for connections.
        """
        self._leaving.append(_Leaving(used, end, requests))
        self._news.wake_all()

    async def run(self) -> None:
        """Stops what is not wanted any more; looks only while there is something."""
        while True:
            if not self._unwanted and not self._leaving:
                await self._news.wait()
            await trio.sleep(LOOK)
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        for leaving in self._leaving:
            leaving.over = not leaving.used()
        for kept, known in list(self._unwanted.items()):
            if known.users and all(each.over for each in known.users):
                idle = True
            elif kept.in_use():
                known.since = now
                idle = False
            else:
                idle = now - known.since >= IDLE
            if idle:
                del self._unwanted[kept]
                kept.stop()
        over = [each for each in self._leaving if each.over]
        self._leaving = [each for each in self._leaving if not each.over]
        for each in over:
            each.end()


@attrs.define(eq=False)
class _Leaving:
    """Part of an old build."""

    used: Callable[[], bool]
    end: Callable[[], None]
    requests: bool
    over: bool = False


@attrs.define(eq=False)
class _Unwanted:
    """Since when something has not been used, and who may still use it."""

    since: float
    users: tuple[_Leaving, ...]


class Place:
    """One place in a pipeline, and what is kept there; a NewService.

    Attributes:
        name: which one.
        below: the layers under it.
        kept: by key.
        targets: those that it may be asked for; None: that is not known.
        requests: it is used by requests, not by connections.
    """

    def __init__(
        self, keeper: Keeper, name: str, below: Stack[Any, Any], key: Callable[[Any], Hashable], requests: bool
    ) -> None:
        self.requests = requests
        self.keeper = keeper
        self.name = name
        self.below = below
        self.kept: dict[Hashable, _Kept] = {}
        self.inner: NewService[Any, Any, Any] | None = None
        self.targets: tuple[Any, ...] | None = None
        self._key = key

    def __repr__(self) -> str:
        return f"<Place {self.name} kept={len(self.kept)}>"

    def is_at(self, name: str, below: Stack[Any, Any]) -> bool:
        """Whether it is the place of that name over these layers."""
        return self.name == name and same(self.below, below)

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Service[Any, Any]:
        """What is kept for *target*; made in a task of its own."""
        key = self._key(target)
        kept = self.kept.get(key)
        if kept is None:
            kept = self.kept[key] = _Kept(self, target)
            # Before the first request, so that it may be ready by then.
            with contextlib.suppress(LoadShedError):
                kept.begin()
        return kept

    def settle(self, targets: Iterable[Any] | None) -> None:
        """See :meth:`Keeper.settle`."""
        self.targets = None if targets is None else tuple(targets)
        if self.targets is None:
            return
        wanted = {self._key(target): target for target in self.targets}
        for key, kept in list(self.kept.items()):
            target = wanted.get(key)
            if target is None:
                self.keeper.unwanted(kept)
            else:
                self.keeper.take_back(kept)
                kept.retarget(target)

    def forget(self, kept: _Kept) -> None:
        """It was stopped: whoever asks from now on gets another one."""
        for key, known in list(self.kept.items()):
            if known is kept:
                del self.kept[key]


@attrs.frozen
class Keep:
    """Finds again, after a reload, what was made for a target before: its connections, load and statistics.

    Attributes:
        place: where it stands.
    """

    accounted: ClassVar[bool] = False

    place: Place = attrs.field(repr=lambda place: repr(place.name))

    def layer(self, inner: NewService[Any, Any, Any], /) -> NewService[Any, Any, Any]:
        """The services that the place has already; else those that *inner* makes."""
        if self.place.inner is None:
            self.place.inner = inner
        return self.place


class _Kept:
    """The service of one target, whether it is made at the moment or not.  A request costs one call more.

    Attributes:
        wanted: whether the configuration has it; if not, it is stopped once nobody uses it, and made anew for
            whoever comes late.
    """

    __slots__ = (
        "__weakref__",
        "_crash",
        "_place",
        "_scope",
        "_service",
        "_started",
        "_status",
        "_target",
        "wanted",
    )

    def __init__(self, place: Place, target: Any) -> None:
        self._place = place
        self._target = target
        self._service: Service[Any, Any] | None = None
        self._status: Callable[[], Status] | None = None
        self._started: trio.Event | None = None
        self._scope: trio.CancelScope | None = None
        self._crash: Exception | None = None
        self.wanted = True

    def __repr__(self) -> str:
        return f"<kept for {getattr(self._target, 'name', self._target)}>"

    @property
    def requests(self) -> bool:
        """Whether it is used by requests."""
        return self._place.requests

    @property
    def __wrapped__(self) -> object:
        """How a live stack is walked."""
        return self._service

    def __call__(self, request: Any, /) -> Any:
        service = self._service
        return self._first(request) if service is None else service(request)

    def status(self) -> Status:
        """That of what is kept; what is not made yet is made, for whoever asks has a request for it."""
        source = self._status
        if source is not None:
            return source()
        if self._service is not None:
            return Status.OPEN
        if self._started is None:
            try:
                self.begin()
            except LoadShedError:
                return Status.CLOSED
        return Status.BUSY

    async def _first(self, request: Any) -> Any:
        return await (await self._start())(request)

    async def _start(self) -> Service[Any, Any]:
        """Makes the service; whoever comes meanwhile waits for the same start."""
        while (service := self._service) is None:
            started = self._started
            if started is None:
                started = self.begin()
            await started.wait()
            if self._service is None and (crash := self._crash) is not None:
                raise crash
        return service

    def begin(self) -> trio.Event:
        """Has it made; the event is set once it is.

        Raises:
            LoadShedError: nothing is started any more.
        """
        self._crash = None
        nursery = self._place.keeper.nursery
        try:
            if nursery is None:
                raise RuntimeError("not running")
            nursery.start_soon(self.run, name=repr(self))
        except RuntimeError as error:
            raise LoadShedError(f"{self._target}: nothing new is started, the proxy is shutting down") from error
        started = self._started = trio.Event()
        if not self.wanted:
            # A request that had been under way for long when the reload came.
            self._place.keeper.unwanted(self)
        return started

    async def run(self) -> None:
        """The task that its service, and what that starts, live under."""
        started = self._started
        assert started is not None
        inner = self._place.inner
        assert inner is not None
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                service = inner.new_service(self._target, nursery)
                self._status = status_source(service)
                self._service = service
                started.set()
                await trio.sleep_forever()
        except* Exception as group:
            self._crashed(group)
        finally:
            if self._started is started:
                self._stopped()
            started.set()

    def _crashed(self, group: BaseExceptionGroup[Exception]) -> None:
        single: BaseException = group
        while isinstance(single, BaseExceptionGroup) and len(single.exceptions) == 1:
            single = single.exceptions[0]
        self._crash = single if isinstance(single, Exception) else None
        owner = self._place.keeper.owner
        if owner is not None:
            owner.crashed(single, repr(self))
        else:
            log.error("crash in %r: %s", self, single, exc_info=single)

    def _stopped(self) -> None:
        self._service = self._status = None
        self._started = self._scope = None

    def in_use(self) -> bool:
        """Whether something is in flight, as far as what is kept can tell."""
        busy = find(self._service, "in_use") if self._service is not None else None
        return busy is not None and bool(busy())

    def retarget(self, target: Any) -> None:
        """The target is another one now, whose key is the same."""
        if target == self._target:
            return
        self._target = target
        told = find(self._service, "retarget") if self._service is not None else None
        if told is not None:
            told(target)

    def stop(self) -> None:
        """Ends it, and what it started."""
        scope = self._scope
        self._stopped()
        self._place.forget(self)
        if scope is not None:
            scope.cancel(reason="not wanted any more")
