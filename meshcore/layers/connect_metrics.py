"""Connections made to endpoints and their bytes counted, by linkerd's names (M-05)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.metrics.connections import ConnectionCounts
from meshcore.metrics.registry import Registry

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["ConnectMetrics"]


@attrs.frozen
class ConnectMetrics:
    """Counts the connections that are made, and the bytes they carry, with ``peer="dst"``; a layer over
    ``Connect``.

    Its place is under ``Tls``, whose bytes it counts as they go over the wire, the handshake's apart.

    Attributes:
        registry: where the series are.
        direction: ``"inbound"`` or ``"outbound"``.
        name: the role, where a stack has more than one.
    """
    name: str = attrs.field(default="", repr=False, kw_only=True)

    registry: Registry = attrs.field(repr=False)
    direction: str = attrs.field(default="outbound", validator=attrs.validators.in_(("inbound", "outbound")))

    def layer(self, inner: Connect, /) -> Connect:
        """Counts every connection that *inner* makes until it is closed."""
        counts = ConnectionCounts.of(self.registry, self.direction, "dst")

        async def connect(endpoint: Endpoint) -> Connection:
            connection = await inner(endpoint)
            counts.series(endpoint, connection).add(connection)
            return connection

        return connect
