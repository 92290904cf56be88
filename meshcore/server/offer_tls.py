"""OfferTls: TLS for who begins it, plaintext for everybody else, at one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from meshcore.codec.transport_header import ALPN, MESH
from meshcore.transport.lookahead import Lookahead
from meshcore.transport.target import Accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import NewAccept, Service

    # Nobody structures this class from a table, and OpenSSL stays unloaded.
    from meshcore.identity.store import Identity  # noqa: TC004
    from meshcore.transport.connection import Connection
    from meshcore.transport.server_tls import ServerTls  # noqa: TC004

__all__ = ["OfferTls"]

T = TypeVar("T")

_HANDSHAKE = b"\x16"
"""The first byte of TLS (RFC 8446 §5.1), with which no method of HTTP begins."""


@attrs.frozen
class OfferTls:
    """Terminates the TLS of connections that begin with it, whatever name they ask for, and leaves others as they are.

    For an address at which nothing is passed through, such as the admin server's: a probe in plaintext and a client
    that shows a certificate both come there.  What is under it sees by ``connection.secure`` and
    ``connection.identity`` which it is.

    Attributes:
        identity: shows the proxy's own certificate, and asks for the client's.
        tls: shows another one, instead.
        timeout: seconds for the first byte, and as long for the handshake.
    """

    identity: Identity | None = attrs.field(default=None, repr=False)
    tls: ServerTls | None = None
    timeout: float = 10.0

    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]:
        """Services of *inner* for both.

        Raises:
            ConfigError: certificate or key cannot be used.
        """
        return _NewOffer(self, inner, self._securing())

    def _securing(self) -> Callable[[Connection], Awaitable[Any]]:
        # OpenSSL takes 9 MiB, which is for those to pay who use it.
        if self.tls is not None:
            from meshcore.transport.identity import server_tls
            from meshcore.transport.server_tls import WatchedServerTls

            watched = WatchedServerTls(self.tls)
            return lambda connection: server_tls(connection, watched.context(), self.timeout)
        from meshcore.identity.tls import accept_mesh_tls

        identity = self.identity
        assert identity is not None
        alpn = (ALPN, "h2", "http/1.1", MESH)
        return lambda connection: accept_mesh_tls(connection, identity, alpn=alpn, timeout=self.timeout)


class _NewOffer(Generic[T]):
    """Makes the service of each accepted connection."""

    __slots__ = ("_inner", "_layer", "_secure")

    def __init__(
        self, layer: OfferTls, inner: NewAccept[T], secure: Callable[[Connection], Awaitable[Any]]
    ) -> None:
        self._layer = layer
        self._inner = inner
        self._secure = secure

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves one connection."""

        async def service(connection: Connection) -> None:
            first = await self._first(connection)
            if not first:
                connection.close()
            elif first != _HANDSHAKE:
                plain = _told(target, no_tls="no_tls_from_remote")
                await self._inner.new_service(plain, nursery)(connection)
            else:
                secured = await self._secure(connection)
                if secured.alpn == MESH:
                    # It says who the client is, and nothing of what it speaks.
                    secured.alpn = None
                try:
                    known = _told(target, secure=True, client_id=secured.identity)
                    await self._inner.new_service(known, nursery)(secured)
                finally:
                    secured.close()

        return service

    async def _first(self, connection: Connection) -> bytes:
        """The first byte, which stays there; none: the client has left, or says nothing."""
        ahead = Lookahead(connection, 1)
        ahead.look()
        if not ahead.data and not ahead.ended:
            with trio.move_on_after(self._layer.timeout):
                await ahead.wait_for(1)
        ahead.put_back()
        return ahead.data[:1]


def _told(target: T, **known: Any) -> T:
    return attrs.evolve(target, **known) if isinstance(target, Accepted) else target
