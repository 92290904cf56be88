"""TerminateTls: TLS on accepted connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from meshcore.transport.identity import server_tls
from meshcore.transport.server_tls import ServerTls, WatchedServerTls
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    import trio

    from meshcore.abc import NewAccept, Service
    from meshcore.transport.connection import Connection

__all__ = ["TerminateTls"]

T = TypeVar("T")


@attrs.frozen
class TerminateTls:
    """Secures each accepted connection; what is under it sees plaintext, and ALPN's choice in ``connection.alpn``.

    ``connection.identity`` is the name in a client's certificate, where those are asked for and it showed one.  The
    files are read when it is applied, and again when they have changed; connections that are open keep what they
    began with.

    Attributes:
        tls: certificate, key and what is allowed.
        handshake_timeout: seconds for the handshake; None: no limit.
    """

    tls: ServerTls
    handshake_timeout: float | None = 10.0

    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]:
        """Services of *inner* behind TLS.

        Raises:
            ConfigError: certificate or key cannot be used.
        """
        return _NewTerminateTls(self, inner, WatchedServerTls(self.tls))


class _NewTerminateTls(Generic[T]):
    """Makes the service of each accepted connection."""

    __slots__ = ("_inner", "_layer", "_tls")

    def __init__(self, layer: TerminateTls, inner: NewAccept[T], tls: WatchedServerTls) -> None:
        self._layer = layer
        self._inner = inner
        self._tls = tls

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Shakes hands, then serves."""

        async def terminate(connection: Connection) -> None:
            secured = await server_tls(connection, self._tls.context(), self._layer.handshake_timeout)
            told = target
            if isinstance(target, Accepted):
                told = attrs.evolve(target, secure=True, client_id=secured.identity)
            try:
                await self._inner.new_service(told, nursery)(secured)
            finally:
                secured.close()

        return terminate
