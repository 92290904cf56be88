"""Accepted connections and their bytes counted, by linkerd's names (M-05)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore.metrics.connections import ConnectionCounts
from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    import trio

    from meshcore.abc import NewAccept, Service
    from meshcore.transport.connection import Connection

__all__ = ["TcpMetrics"]

T = TypeVar("T")


@attrs.frozen
class TcpMetrics:
    """Counts the connections that are accepted, and the bytes they carry, with ``peer="src"``.

    Under ``TerminateTls`` it counts what is inside of TLS and knows who the client is; above it, what
    goes over a plaintext listener, too.

    Attributes:
        registry: where the series are.
        direction: ``"inbound"``, ``"outbound"`` or ``"admin"``.
        name: the role, where a stack has more than one.
    """

    registry: Registry = attrs.field(repr=False)
    direction: str = attrs.field(default="inbound", validator=attrs.validators.in_(("inbound", "outbound", "admin")))
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]:
        """Counts the connections that the services of *inner* serve."""
        return _NewCounted(self, inner)


class _NewCounted(Generic[T]):
    """Makes services whose connections are counted while they are served."""

    __slots__ = ("_counts", "_inner", "_layer")

    def __init__(self, layer: TcpMetrics, inner: NewAccept[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._counts = ConnectionCounts.of(layer.registry, layer.direction, "src")

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """The counted service for *target*."""
        return _Counted(self._counts, target, self._inner.new_service(target, nursery))


class _Counted:
    """Counts a connection for as long as its service runs."""

    __slots__ = ("__weakref__", "__wrapped__", "_counts", "_target")

    def __init__(self, counts: ConnectionCounts, target: object, inner: Service[Connection, None]) -> None:
        self._counts = counts
        self._target = target
        self.__wrapped__ = inner

    async def __call__(self, connection: Connection, /) -> None:
        series = self._counts.series(self._target, connection)
        series.add(connection)
        try:
            await self.__wrapped__(connection)
        finally:
            series.close(connection)
