"""The contracts: what a service, a layer and a body are.

An application of these protocols to HTTP has its own aliases (``HttpService`` …), because that is
what most layers are written against.
"""

from __future__ import annotations

import contextlib
import enum
import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

from meshcore.http.body import Body
from meshcore.http.message import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import trio

    from meshcore.errors import MeshError
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = [
    "Body",
    "Connect",
    "Gate",
    "HealthCheck",
    "HttpService",
    "Layer",
    "Listen",
    "NewAccept",
    "NewHttp",
    "NewService",
    "Resolve",
    "Service",
    "ServiceLayer",
    "Status",
]

Req_contra = TypeVar("Req_contra", contravariant=True)
Rsp_co = TypeVar("Rsp_co", covariant=True)
Target_contra = TypeVar("Target_contra", contravariant=True)
Inner_contra = TypeVar("Inner_contra", contravariant=True)
Outer_co = TypeVar("Outer_co", covariant=True)
T = TypeVar("T")


class Service(Protocol[Req_contra, Rsp_co]):
    """An async function from a request to a response."""

    def __call__(self, request: Req_contra, /) -> Awaitable[Rsp_co]: ...


class NewService(Protocol[Target_contra, Req_contra, Rsp_co]):
    """Makes the service for one target: at once, without failing.

    What the service needs in the background is started in *nursery*, and only there.  What must be
    waited for (a connection, discovery) is waited for when the service is called.
    """

    def new_service(self, target: Target_contra, nursery: trio.Nursery, /) -> Service[Req_contra, Rsp_co]: ...


@runtime_checkable
class Layer(Protocol[Inner_contra, Outer_co]):
    """Decorates whatever is under it.  A frozen value; it does nothing until applied."""

    def layer(self, inner: Inner_contra, /) -> Outer_co: ...


HttpService: TypeAlias = Service[Request, Response]
Connect: TypeAlias = "Service[Endpoint, Connection]"
Listen: TypeAlias = "Callable[[str, int], Awaitable[Sequence[trio.abc.Listener[Any]]]]"
NewHttp: TypeAlias = NewService[T, Request, Response]
NewAccept: TypeAlias = "NewService[T, Connection, None]"


class ServiceLayer(ABC):
    """A layer that wraps each HTTP service by itself and lets targets through: most layers.

    Subclasses are frozen attrs classes with one method, :meth:`wrap`.
    """

    @abstractmethod
    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """The service that stands before *inner*, made once for *target*: parameters that depend on
        the target are resolved here, never per request."""

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Applies :meth:`wrap` to every service that *inner* makes."""
        return _Wrapped(self, inner)


class _Wrapped(Generic[T]):
    """A NewService whose services are wrapped by one layer."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: ServiceLayer, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The wrapped service for *target*; ``__wrapped__`` leads down a live stack."""
        inner = self._inner.new_service(target, nursery)
        wrapped = self._layer.wrap(inner, target)
        return link(wrapped, inner, self._layer)


def link(outer: HttpService, inner: object, layer: object) -> HttpService:
    """Records on a service what is under it and which layer made it, so that live stacks can be
    walked; costs nothing per request.  Services that refuse attributes are left alone."""
    if outer is inner:
        return outer
    with contextlib.suppress(AttributeError):
        functools.update_wrapper(cast("Any", outer), cast("Any", inner), assigned=(), updated=())
        cast("Any", outer).__layer__ = layer
    return outer


class Status(enum.IntEnum):
    """Readiness, ordered: ``min`` is the worst, ``max`` the best.

    ``OPEN`` takes requests.  ``BUSY`` would rather not: it is sent some only where so few are open that those would
    be overrun (the panic threshold).  ``CLOSED`` refuses what it is sent.
    """

    CLOSED = 0
    BUSY = 1
    OPEN = 2


class Gate(Protocol):
    """A service under ``Balance`` that can shut its endpoint, and open it again: a breaker, a health check.

    Whatever has these three names is one; ``Balance`` looks for all of them once, when the endpoint's service is made,
    from the outermost down through ``__wrapped__``, and takes the worst status of them.  While that is not
    ``OPEN`` the endpoint is not picked (``BUSY`` ones are in a panic); when it is again it gets its share, and those
    who wait for an endpoint are given it.  With every endpoint shut, requests wait and fail as if none could be
    connected (B-09, B-17).

    Requests may come to a gate that has just shut: several that waited are given the same endpoint before the first
    of them gets there, and a gate that admits one request for a try (B-14) is shut by that one.  A gate refuses what
    it does not want by raising :class:`~meshcore.errors.NotReady`, before anything was sent, and ``Balance``
    finds another endpoint for it.  A gate may shut in the call itself: the endpoint is not picked again from then on.

    Attributes:
        cause: why it is not open, for the chain of causes that an answer tells; None: there is nothing to tell.
    """

    cause: MeshError | None

    def status(self) -> Status:
        """What it is now; cheap, does not wait."""
        ...

    def on_status(self, changed: Callable[[], None], /) -> None:
        """From now on *changed* is called, synchronously, whenever the status may have changed.  One balancer asks
        for this, once."""
        ...


class HealthCheck(Protocol):
    """A way to ask an endpoint whether it is well: over HTTP, by connecting, by gRPC's health protocol.  A frozen,
    hashable value."""

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        """Asks once; returns if it is well.

        Args:
            endpoint: whom.
            service: what stands below the checks in the endpoint's stack: takes requests, or connections, as the
                endpoint's own ones do, with its TLS.

        Raises:
            MeshError: it is not, and why.  How long that may take is limited by who asks.
        """
        ...


class Resolve(Protocol[Target_contra]):
    """Discovery: who are the endpoints of a target."""

    async def watch(
        self, target: Target_contra, publish: Callable[[Sequence[Endpoint]], None], /
    ) -> None:
        """Runs for as long as the target is kept, in its nursery; calls *publish* synchronously with
        the whole set of endpoints whenever it changes.  It may return when it will not change any
        more.  It does not raise for what the source does: it keeps the last good set, retries and
        says so."""
        ...
