"""Two proxies in memory: a client before the one, an application behind the other, orig-proto between them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import trio

import meshcore
from meshcore.abc import HttpService
from meshcore.layers import DowngradeOrigProto, ProxyErrors, RequireId, Rescue, SetClientId, UpgradeOrigProto
from meshcore.stack import accept, stack
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Accepted, Endpoint
from tests.http1_peers import Owner, Peer
from tests.http1_peers import pair as pair_of

INBOUND = Endpoint(("10.0.0.2", 4143), mesh_proxy=True)
APPLICATION = Endpoint(("127.0.0.1", 8000), "http/1")


class To:
    """A layer that gives everything to one endpoint, whose service is made once."""

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery) -> None:
        self.endpoint = endpoint
        self.nursery = nursery

    def layer(self, inner: Any, /) -> Any:
        service = inner.new_service(self.endpoint, self.nursery)

        class Made:
            def new_service(self, target: Any, nursery: trio.Nursery, /) -> HttpService:
                return service  # type: ignore[no-any-return]

        return Made()


class Watch(meshcore.ServiceLayer):
    """Notes the requests that pass."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        self.answers: list[list[tuple[bytes, bytes]]] = []

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        async def watch(request: meshcore.Request) -> meshcore.Response:
            self.seen.append((request.version, list(request.headers.raw)))
            response = await inner(request)
            self.answers.append(list(response.headers.raw))
            return response

        return watch


class MeshPair:
    """Outbound and inbound proxy as a sidecar stacks them, as far as orig-proto and identity go.

    Attributes:
        between: the connections between the proxies, the inbound side's ends.
        wire: the requests between the proxies, with their versions.
        applications: the application's ends of the connections to it.
    """

    def __init__(self, nursery: trio.Nursery, endpoint: Endpoint, identity: str | None, inbound: bool) -> None:
        self.nursery = nursery
        self.identity = identity
        self._has_inbound = inbound
        self.asked: list[Endpoint] = []
        self.sweeper = Sweeper()
        self.owner = Owner()
        self.between: list[Connection] = []
        self.wire = Watch()
        self.applications: list[Peer] = []
        self.clients: list[Peer] = []
        self._news = trio.Event()
        nursery.start_soon(self.sweeper.run)
        self._inbound = (
            accept(Accepted)
            .then(meshcore.ServeHttp())
            .then(Rescue("meshed"))
            .then(self.wire)
            .then(DowngradeOrigProto())
            .then(SetClientId())
            .then(To(APPLICATION, nursery))
            .then(stack(Endpoint).then(ProxyErrors()))
            .then(meshcore.Http())
            .layer(self._connect_application)
        )
        self._outbound = (
            accept(Accepted)
            .then(meshcore.ServeHttp())
            .then(Rescue())
            .then(To(endpoint, nursery))
            .then(stack(Endpoint).then(ProxyErrors()).then(RequireId()).then(UpgradeOrigProto()))
            .then(meshcore.Http())
            .layer(self._connect_inbound)
        )

    def _accepted(self, connection: Connection) -> None:
        connection.owner = self.owner
        connection.sweeper = self.sweeper

    async def _connect_inbound(self, endpoint: Endpoint, /) -> Connection:
        self.asked.append(endpoint)
        ours, theirs = memory_connection_pair(peer=endpoint.address)
        self._arrive(theirs)
        return ours

    def _arrive(self, connection: Connection) -> None:
        self._accepted(connection)
        connection.identity = self.identity
        self.between.append(connection)
        self._news.set()
        if self._has_inbound:
            self.nursery.start_soon(self._inbound.new_service(Accepted(), self.nursery), connection)

    async def _connect_application(self, endpoint: Endpoint, /) -> Connection:
        ours, theirs = memory_connection_pair(peer=endpoint.address)
        self.applications.append(Peer(theirs))
        self._news.set()
        return ours

    async def application(self, index: int = 0) -> Peer:
        """The application's end of connection number *index*, once it has been made."""
        await self._wait_for(self.applications, index)
        return self.applications[index]

    async def inbound(self, index: int = 0) -> Connection:
        """The inbound side's end of connection number *index* between the proxies, once it has been made."""
        await self._wait_for(self.between, index)
        return self.between[index]

    async def _wait_for(self, made: list[Any], index: int) -> None:
        with trio.fail_after(200):
            while len(made) <= index:
                self._news = trio.Event()
                await self._news.wait()

    def stranger(self) -> Connection:
        """A connection to the inbound proxy that does not come from the outbound one."""
        ours, theirs = memory_connection_pair()
        self._arrive(ours)
        return theirs

    def client(self, kind: str = "memory") -> Peer:
        """A new connection to the outbound proxy; only of a ``"socket"`` is a hang-up seen while nobody reads."""
        ours, theirs = pair_of(kind)
        self._accepted(ours)
        self.clients.append(Peer(theirs))
        self.nursery.start_soon(self._outbound.new_service(Accepted(), self.nursery), ours)
        return self.clients[-1]

    async def pass_through(self, request: bytes, forwarded: bytes, answer: bytes, answered: bytes) -> None:
        """One exchange over the newest connection to the application, compared on either side."""
        client = self.clients[-1] if self.clients else self.client()
        await client.send(request)
        application = await self.application()
        await application.expect(forwarded)
        await application.send(answer)
        await client.expect(answered)


@contextlib.asynccontextmanager
async def mesh_pair(
    endpoint: Endpoint = INBOUND, identity: str | None = "web.shop", *, inbound: bool = True
) -> AsyncIterator[MeshPair]:
    """Two proxies, of which none has crashed when the block ends; without *inbound* the test is the second one."""
    async with trio.open_nursery() as nursery:
        pair = MeshPair(nursery, endpoint, identity, inbound)
        try:
            yield pair
        finally:
            for peer in (*pair.applications, *pair.clients):
                peer.close()
            for connection in pair.between:
                connection.close()
        nursery.cancel_scope.cancel()
    assert pair.owner.crashes == []
