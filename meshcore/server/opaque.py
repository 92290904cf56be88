"""Opaque forwarding: a connection's bytes to an endpoint and back, unread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.transport.duplex import duplex

if TYPE_CHECKING:
    import trio

    from meshcore.abc import Connect, NewService, Service
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["Forward"]


@attrs.frozen
class Forward:
    """Connects to an endpoint and forwards bytes both ways until both directions have ended (D-42).

    A drain does not end it: tunnels go on for the grace period (X-40).

    Attributes:
        idle_timeout: seconds without a byte in either direction after which it is closed; None: never.
            Enforced by the server's sweeper.
        name: the role, where a stack has more than one.
    """

    idle_timeout: float | None = 3600.0
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: Connect, /) -> NewService[Endpoint, Connection, None]:
        """Services that forward through connections made by *inner*."""
        return _NewForward(self, inner)


class _NewForward:
    """Makes the forwarding service of each endpoint."""

    __slots__ = ("_connect", "_layer")

    def __init__(self, layer: Forward, connect: Connect) -> None:
        self._layer = layer
        self._connect = connect

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._connect!r}"

    def new_service(self, target: Endpoint, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Forwards to *target*."""
        return _ForwardTo(target, self._connect, self._layer.idle_timeout)


class _ForwardTo:
    """Forwards connections to one endpoint."""

    __slots__ = ("_connect", "_endpoint", "_idle_timeout")

    def __init__(self, endpoint: Endpoint, connect: Connect, idle_timeout: float | None) -> None:
        self._endpoint = endpoint
        self._connect = connect
        self._idle_timeout = idle_timeout

    async def __call__(self, connection: Connection, /) -> None:
        """Both connections are closed when it returns.

        Raises:
            ConnectError: nothing was read from *connection*, which is open still: another endpoint may serve it.
            ConnectionLost, StreamTimeout: see :func:`~meshcore.transport.duplex.duplex`.
        """
        upstream = await self._connect(self._endpoint)
        upstream.owner = connection.owner
        if connection.sweeper is not None:
            upstream.poll_with(connection.sweeper.poller)
        await duplex(connection, upstream, idle_timeout=self._idle_timeout, sweeper=connection.sweeper)

    async def ready(self) -> None:
        """Makes sure that a connection can be made.

        Raises:
            ConnectError: it cannot.
        """
        (await self._connect(self._endpoint)).close()
