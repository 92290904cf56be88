"""Everything to one backend: the route of what has no authority, such as opaque connections."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import attrs

from meshcore.stack import Param, resolve
from meshcore.transport.target import Backend

if TYPE_CHECKING:
    import trio

    from meshcore.abc import NewAccept, NewHttp, NewService, Service

__all__ = ["ToBackend"]

T = TypeVar("T")
Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


@attrs.frozen
class ToBackend:
    """Sends every request, or connection, to the same backend, or to the one that its target says.

    A backend's service is made once for each nursery and shared by all targets above; it is no frame at all.

    Attributes:
        backend: where to, or a function of the target; one that names many backends has to name few in all.
        name: the role, where a stack has more than one.
    """
    name: str = attrs.field(default="", repr=False, kw_only=True)

    backend: Param[Backend] = attrs.field(repr=lambda backend: repr(getattr(backend, "name", backend)))

    def targets(self, above: tuple[Any, ...] | None) -> tuple[Backend, ...] | None:
        """The backends that it may choose; None: that is not known.  *above*: what it may be asked for."""
        if isinstance(self.backend, Backend):
            return (self.backend,)
        told = getattr(self.backend, "targets", None)
        if told is not None:
            return tuple(told())
        choose: Param[Backend] = self.backend
        return None if above is None else tuple(dict.fromkeys(resolve(choose, target) for target in above))

    # The first says it all; pyright's inference needs the two that are used.
    @overload
    def layer(self, inner: NewService[Backend, Req, Rsp], /) -> NewService[T, Req, Rsp]: ...  # type: ignore[overload-overlap]
    @overload
    def layer(self, inner: NewHttp[Backend], /) -> NewHttp[T]: ...
    @overload
    def layer(self, inner: NewAccept[Backend], /) -> NewAccept[T]: ...
    def layer(self, inner: NewService[Backend, Any, Any], /) -> NewService[T, Any, Any]:
        """Services of *inner* for the one backend."""
        return _NewToBackend(self, inner)


class _NewToBackend(Generic[T, Req, Rsp]):
    """Makes the backend's service, once for each nursery."""

    __slots__ = ("_inner", "_layer", "_made")

    def __init__(self, layer: ToBackend, inner: NewService[Backend, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner
        self._made: weakref.WeakKeyDictionary[trio.Nursery, dict[Backend, Service[Req, Rsp]]]
        self._made = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The service of the backend, the same for every target that has it."""
        backend = resolve(self._layer.backend, target)
        made = self._made.get(nursery)
        if made is None:
            made = self._made[nursery] = {}
        service = made.get(backend)
        if service is None:
            service = made[backend] = self._inner.new_service(backend, nursery)
        return service
