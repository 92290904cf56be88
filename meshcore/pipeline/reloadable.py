"""Reloadable: where the requests of connections that stay open find the pipeline that a reload has built."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import trio

    from meshcore.abc import HttpService, NewHttp
    from meshcore.http.message import Request, Response

__all__ = ["Lease", "Reloadable"]


class Lease:
    """Nothing but something to refer to: a build is used for as long as somebody has its lease."""

    __slots__ = ("__weakref__",)


class Reloadable:
    """The part of one build of a pipeline that is asked request by request; a layer, its NewService, and a value to
    nobody: there is one for each build.

    A request that has begun goes on in the build that it began in, which has been left once the last of them is over,
    its body included: they hold its lease.  A request costs one call and two attributes.

    Attributes:
        nursery: where its services start what they need; set before it is used.
        lease: held by the requests that are in it, and by whoever may bring another one.
    """

    accounted: ClassVar[bool] = False

    def __init__(self) -> None:
        self.nursery: trio.Nursery | None = None
        self.lease: Lease | None = Lease()
        self._inner: NewHttp[Any] | None = None
        self._newer: Reloadable | None = None
        self._services: weakref.WeakSet[_Reloaded] = weakref.WeakSet()

    def __repr__(self) -> str:
        return "Reloadable()"

    def layer(self, inner: NewHttp[Any], /) -> Reloadable:
        """Itself, over the services that *inner* makes."""
        self._inner = inner
        return self

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> HttpService:
        """A service for *target*, which moves with every reload; *nursery* is that of its connection and not used."""
        build = self
        while build._newer is not None:
            # A reload came while the connection was looked at, or secured.
            build = build._newer
        return build._new(target)

    def _new(self, target: Any) -> HttpService:
        service = _Reloaded(self, target)
        self._services.add(service)
        return service

    def make(self, target: Any) -> HttpService:
        """The service of this build."""
        assert self._inner is not None
        assert self.nursery is not None
        return self._inner.new_service(target, self.nursery)

    def move_to(self, newer: Reloadable) -> None:
        """From now on every request goes to the newer build."""
        for service in list(self._services):
            service.move(newer)
            newer._services.add(service)
        self._services.clear()
        self._newer = newer
        self._inner = None

    def leave(self) -> weakref.ref[Lease]:
        """Lets go of the lease: the reference is empty once the last request is over."""
        assert self.lease is not None
        left = weakref.ref(self.lease)
        self.lease = None
        return left


class _Reloaded:
    """The service of one connection."""

    __slots__ = ("__weakref__", "_build", "_lease", "_service", "_target")

    def __init__(self, build: Reloadable, target: Any) -> None:
        self._target = target
        self._build = build
        self._lease = build.lease
        self._service: HttpService = build.make(target)

    def __repr__(self) -> str:
        return f"<Reloaded {self._service!r}>"

    @property
    def __wrapped__(self) -> object:
        """How a live stack is walked."""
        return self._service

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        request.lease = self._lease
        return self._service(request)

    def move(self, build: Reloadable) -> None:
        """To another build; its service is made when the next request comes, if one does."""
        self._build = build
        self._lease = build.lease
        self._service = self._first

    def _first(self, request: Request, /) -> Awaitable[Response]:
        self._service = self._build.make(self._target)
        return self._service(request)
