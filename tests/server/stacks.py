"""Stand-ins for what is above and below accepting: branches that say what they got, servers in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from meshcore.errors import ConnectError
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Endpoint

Serve = Callable[[Connection], Awaitable[None]]


@attrs.frozen
class New:
    """A NewService whose every service is *serve*."""

    serve: Callable[..., Awaitable[None]]

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        return self.serve


@attrs.frozen
class Branch:
    """A layer at the end of a branch: *serve*, whatever is under it."""

    serve: Callable[..., Awaitable[None]]

    def layer(self, inner: Any, /) -> Any:
        return New(self.serve)


@attrs.frozen
class To:
    """A layer that gives every accepted connection to one endpoint."""

    endpoint: Endpoint

    def layer(self, inner: Any, /) -> Any:
        endpoint = self.endpoint

        class Fixed:
            def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Any:
                return inner.new_service(endpoint, nursery)

        return Fixed()


async def read_all(connection: Connection) -> bytes:
    """Everything until the end."""
    parts = []
    while data := await connection.receive_some():
        parts.append(data)
    return b"".join(parts)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for what no task says: the kernel's doings, mostly."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.001)


class MemoryServer:
    """A ``Connect`` to a server in memory.

    Attributes:
        serve: what the server does with each connection.
        connected: the server's ends so far.
        refuse: whether connecting fails.
    """

    def __init__(self, nursery: trio.Nursery, serve: Serve, *, nowait: bool = True) -> None:
        self.nursery = nursery
        self.serve = serve
        self.nowait = nowait
        self.connected: list[Connection] = []
        self.refuse = False

    async def __call__(self, endpoint: Endpoint, /) -> Connection:
        if self.refuse:
            raise ConnectError(f"endpoint {endpoint}: connection refused")
        here, there = memory_connection_pair(peer=endpoint.address, nowait=self.nowait)
        self.connected.append(there)
        self.nursery.start_soon(self._serve, there)
        return here

    async def _serve(self, connection: Connection) -> None:
        await self.serve(connection)
        connection.close()
