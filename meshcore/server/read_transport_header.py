"""ReadTransportHeader: where a connection is to go, as the proxy at its other end says at its head."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from meshcore.codec.transport_header import ALPN, TransportHeader, decode
from meshcore.errors import AuthorizationError, RemoteProtocolError, StreamTimeout
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    from meshcore.abc import NewAccept, Service
    from meshcore.transport.connection import Connection

__all__ = ["ReadTransportHeader"]

T = TypeVar("T")


@attrs.frozen
class ReadTransportHeader:
    """Reads the transport header of connections that negotiated it; others pass as they are (D-22).

    What is under it finds in ``connection.protocol`` what follows the header (``"http/1"``, ``"h2"`` or
    ``"opaque"``), so that nothing need be detected, in ``target.original`` the port that was asked for at the
    host that the connection came to, and in ``target.transport_header`` all that was told.  Its place is
    below what terminates TLS.

    Only who has an identity may say where its connection goes, and only one of *ports*.

    Attributes:
        timeout: seconds for the header to come whole.
        ports: those that may be asked for; None: any, which are then for what is below to judge.
        observe: told of each header, and who sent it.
    """

    timeout: float = 10.0
    ports: frozenset[int] | None = None
    observe: Callable[[TransportHeader, str], None] | None = attrs.field(default=None, repr=False)

    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]:
        """Services of *inner* behind the header."""
        return _NewRead(self, inner)


class _NewRead(Generic[T]):
    """Makes services that read the header first."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: ReadTransportHeader, inner: NewAccept[T]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves one connection that was accepted as *target*."""

        async def service(connection: Connection) -> None:
            told = target
            if connection.alpn == ALPN:
                header = await self._read(connection)
                connection.protocol = header.protocol or "opaque"
                if self._layer.observe is not None:
                    self._layer.observe(header, connection.identity or "")
                told = _told(target, connection, header)
            await self._inner.new_service(told, nursery)(connection)

        return service

    async def _read(self, connection: Connection) -> TransportHeader:
        """The header; what came after it is put back.

        Raises:
            AuthorizationError: the client has no identity, or asks for what it may not have.
            RemoteProtocolError: it sent something else.
            StreamTimeout: it did not send it in time.
            ConnectionLost: the connection broke.
        """
        layer = self._layer
        if connection.identity is None:
            raise AuthorizationError("transport header: the client has no identity")
        data = bytearray()
        header: TransportHeader | None = None
        with trio.move_on_after(layer.timeout):
            while header is None:
                more = await connection.receive_some()
                if not more:
                    raise RemoteProtocolError("transport header: the connection ended within it")
                data += more
                try:
                    found = decode(data)
                except ValueError as error:
                    raise RemoteProtocolError(str(error)) from error
                if found is not None:
                    header, taken = found
                    if taken < len(data):
                        connection.unread(bytes(data[taken:]))
        if header is None:
            raise StreamTimeout(f"reading a transport header timed out after {layer.timeout:g} s")
        if layer.ports is not None and header.port not in layer.ports:
            raise AuthorizationError(f"transport header: port {header.port} is not served here")
        return header


def _told(target: T, connection: Connection, header: TransportHeader) -> T:
    """The target that knows what was told, if it is one that can."""
    if not isinstance(target, Accepted):
        return target
    host = (target.original or connection.local)[0]
    return attrs.evolve(target, original=(host, header.port), transport_header=header)
