"""Endpoints that answer, refuse, stall and break, as a balancer sees them."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from meshcore.errors import ConnectError, again
from meshcore.http.body import Body, Full
from meshcore.http.message import Request, Response
from meshcore.transport.target import Address, Endpoint


@attrs.define(eq=False)
class Peer:
    """How one address behaves, and what it saw."""

    latency: float = 0.001
    down: bool = False
    refuses: ConnectError | None = None
    status: int = 200
    error: Exception | None = None
    body: Callable[[], Body] = lambda: Full(b"x")
    served: int = 0
    probes: list[float] = attrs.Factory(list)
    made: int = 0
    stopped: int = 0
    crash: trio.Event = attrs.Factory(trio.Event)


class Service:
    """The service for one endpoint."""

    def __init__(self, peer: Peer, endpoint: Endpoint) -> None:
        self.peer = peer
        self.endpoint = endpoint

    async def __call__(self, request: Request) -> Response:
        peer = self.peer
        if peer.down or peer.refuses is not None:
            await trio.lowlevel.checkpoint()
            raise again(peer.refuses) if peer.refuses else ConnectError(f"endpoint {self.endpoint}: connection refused")
        await trio.sleep(peer.latency)
        if peer.error is not None:
            raise peer.error
        peer.served += 1
        return Response(peer.status, body=peer.body())

    async def ready(self) -> None:
        self.peer.probes.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.peer.refuses is not None:
            raise again(self.peer.refuses)
        if self.peer.down:
            raise ConnectError(f"endpoint {self.endpoint}: connection refused")


class Network:
    """Makes a service for each endpoint; ``network[address]`` is how the peer there behaves."""

    def __init__(self) -> None:
        self.peers: dict[Address, Peer] = {}

    def __getitem__(self, address: Address) -> Peer:
        return self.peers.setdefault(address, Peer())

    def new_service(self, endpoint: Endpoint, nursery: trio.Nursery, /) -> Service:
        peer = self[endpoint.address]
        peer.made += 1
        nursery.start_soon(self._live, peer)
        return Service(peer, endpoint)

    async def _live(self, peer: Peer) -> None:
        try:
            await peer.crash.wait()
            peer.crash = trio.Event()
            raise ValueError("a bug in a connection's task")
        finally:
            peer.stopped += 1

