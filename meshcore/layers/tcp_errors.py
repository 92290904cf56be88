"""Connections that end with an error counted, by linkerd's names (E-08)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore.metrics.errors import ErrorCounts, error_family
from meshcore.metrics.registry import Counter, Family, Registry

if TYPE_CHECKING:
    import trio

    from meshcore.abc import NewAccept, Service
    from meshcore.transport.connection import Connection

__all__ = ["TcpErrors"]

T = TypeVar("T")


@attrs.frozen
class TcpErrors:
    """Counts the accepted connections whose service raises, in ``inbound_tcp_errors_total`` or
    ``outbound_tcp_errors_total``, by the kind of error.

    It stands at the top, above all that may raise.  Errors of requests are answered, and counted by ``Rescue``.

    Attributes:
        registry: where they are counted.
        direction: ``"inbound"`` or ``"outbound"``.
    """

    registry: Registry = attrs.field(repr=False)
    direction: str = attrs.field(default="inbound", validator=attrs.validators.in_(("inbound", "outbound")))

    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]:
        """Counts the errors of the services that *inner* makes."""
        return _NewCounted(self, inner)


class _NewCounted(Generic[T]):
    """Makes services whose errors are counted."""

    __slots__ = ("_family", "_inner", "_layer")

    def __init__(self, layer: TcpErrors, inner: NewAccept[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._family = error_family(layer.registry, layer.direction, "tcp")

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """The counted service for *target*."""
        return _Counted(self._layer, self._family, target, self._inner.new_service(target, nursery))


class _Counted:
    """One frame a connection; nothing is made before there is an error."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_family", "_target")

    def __init__(
        self, layer: TcpErrors, family: Family[Counter], target: object, inner: Service[Connection, None]
    ) -> None:
        self.__layer__ = layer
        self._family = family
        self.__wrapped__ = inner
        self._target = target

    async def __call__(self, connection: Connection, /) -> None:
        try:
            await self.__wrapped__(connection)
        except Exception as error:
            ErrorCounts(self._family, self.__layer__.direction, self._target).count(error)
            raise
