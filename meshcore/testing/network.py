"""A network in memory: listeners and connections by address, and faults by address."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from meshcore._wakeup import WakeupQueue, checkpoint
from meshcore.errors import ConnectError
from meshcore.testing.streams import MemoryConnection, MemoryStream, Wire, memory_stream_pair
from meshcore.transport.stream import StreamConnection

if TYPE_CHECKING:
    from meshcore.transport.target import Address, Endpoint

__all__ = ["Faults", "MemoryListener", "MemoryNetwork"]


@attrs.define
class Faults:
    """How an address behaves towards those who connect to it; changed at any time, for new connections.

    Attributes:
        connect: ``"accept"``; ``"refuse"`` at once; ``"black-hole"``: no answer, ever; ``"reset"``: the
            connection is made and broken at once; ``"close"``: made and closed at once.
        connect_delay: seconds until the connection is made (or refused).
        request: what the bytes towards this address go through.
        response: what the bytes from this address go through.
    """

    connect: Literal["accept", "refuse", "black-hole", "reset", "close"] = "accept"
    connect_delay: float = 0.0
    request: Wire = attrs.Factory(Wire)
    response: Wire = attrs.Factory(Wire)


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Accepts the connections made to one address of a :class:`MemoryNetwork`; made by its ``listen``."""

    def __init__(self, network: MemoryNetwork, address: Address, backlog: int) -> None:
        self._network = network
        self.address = address
        self.backlog = backlog
        self.accepted = 0
        self.closed = False
        self._waiting: deque[MemoryStream] = deque()
        self._arrivals = WakeupQueue()

    def __repr__(self) -> str:
        host, port = self.address
        return f"<MemoryListener {host}:{port}{' closed' if self.closed else ''}>"

    async def accept(self) -> MemoryStream:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next connection's stream.

        Raises:
            trio.ClosedResourceError: the listener was closed.
        """
        await checkpoint()
        while not self._waiting:
            if self.closed:
                raise trio.ClosedResourceError
            await self._arrivals.wait()
        if self.closed:
            raise trio.ClosedResourceError
        self.accepted += 1
        return self._waiting.popleft()

    def close(self) -> None:
        """Stops listening at once; connections not yet accepted are reset."""
        if not self.closed:
            self.closed = True
            self._network.forget(self)
            for stream in self._waiting:
                stream.reset()
            self._arrivals.wake_all()

    async def aclose(self) -> None:
        """See :class:`trio.abc.AsyncResource`."""
        self.close()
        await checkpoint()

    def arrive(self, stream: MemoryStream) -> bool:
        """Takes a new connection into the backlog; False if that is full."""
        if self.closed or len(self._waiting) >= self.backlog:
            return False
        self._waiting.append(stream)
        self._arrivals.wake_one()
        return True


class MemoryNetwork:
    """Addresses that can be listened on and connected to, without sockets.

    ``network.connect`` is a :data:`~meshcore.abc.Connect` service, to stand under a stack in place of
    ``connect_tcp``; ``network.listen`` gives what ``serve`` takes.  Under a ``MockClock`` delays and
    rates take virtual time only.  A whole proxy runs over it: ``serve_config(config, connect=network.connect,
    listen=network.open_listeners)``, or see :class:`~meshcore.testing.MemoryMesh`.

    Attributes:
        connects: how often each address was connected to, successful or not.
        connections: every connection made, the connecting side's end, in order.
    """

    def __init__(self, *, nowait: bool = True) -> None:
        """*nowait*: as for :func:`~meshcore.testing.memory_connection_pair`."""
        self.connects: dict[Address, int] = {}
        self.connections: list[StreamConnection] = []
        self._nowait = nowait
        self._listeners: dict[Address, MemoryListener] = {}
        self._faults: dict[Address, Faults] = {}
        self._client_port = 50_000
        self._free_port = 40_000

    def listen(self, address: Address, *, backlog: int = 1_024) -> MemoryListener:
        """Listens on *address*.

        Raises:
            OSError: somebody does already.
        """
        if address in self._listeners:
            raise OSError(f"address in use: {address[0]}:{address[1]}")
        listener = self._listeners[address] = MemoryListener(self, address, backlog)
        return listener

    async def open_listeners(self, host: str, port: int) -> list[MemoryListener]:
        """Listens on an address, in place of :func:`~meshcore.transport.tcp.open_listeners`; port 0 takes a free one.

        Raises:
            OSError: somebody does already.
        """
        if port == 0:
            port = self._free_port = self._free_port + 1
        return [self.listen((host, port))]

    def forget(self, listener: MemoryListener) -> None:
        """The address is free again; called by the listener when it closes."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def faults(self, address: Address) -> Faults:
        """The faults of an address, to be changed in place."""
        return self._faults.setdefault(address, Faults())

    def heal(self, address: Address | None = None) -> None:
        """Takes the faults of one address, or of all, away; connections made keep theirs."""
        if address is None:
            self._faults.clear()
        else:
            self._faults.pop(address, None)

    async def connect(self, endpoint: Endpoint, /) -> StreamConnection:
        """A connection to the endpoint's address.

        Raises:
            ConnectError: nobody listens there, or its faults say so.
        """
        stream = await self.open_stream(endpoint.address)
        kind = MemoryConnection if self._nowait else StreamConnection
        assert stream.local is not None
        connection = kind(stream, stream.local, endpoint.address)
        self.connections.append(connection)
        return connection

    async def open_stream(self, address: Address) -> MemoryStream:
        """As ``connect``, but the bare stream: for clients in a test."""
        host, port = address
        self.connects[address] = self.connects.get(address, 0) + 1
        faults = self._faults.get(address) or Faults()
        if faults.connect == "black-hole":
            await trio.sleep_forever()
        await trio.sleep(faults.connect_delay)
        listener = self._listeners.get(address)
        if faults.connect == "refuse" or listener is None:
            raise ConnectError(f"endpoint {host}:{port}: connection refused")
        self._client_port += 1
        here, there = memory_stream_pair(
            attrs.evolve(faults.request),
            attrs.evolve(faults.response),
            local=("10.255.0.1", self._client_port),
            peer=address,
        )
        if faults.connect == "reset":
            there.reset()
        elif faults.connect == "close":
            there.close()
        elif not listener.arrive(there):
            raise ConnectError(f"endpoint {host}:{port}: backlog is full")
        return here

    def reset_all(self, address: Address) -> int:
        """Breaks every open connection to an address, as when its host dies; how many there were."""
        count = 0
        for connection in self.connections:
            stream = connection.stream
            if connection.peer == address and isinstance(stream, MemoryStream) and not stream.closed:
                stream.break_both()
                count += 1
        return count
