"""Tls: secures connections to endpoints that want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.errors import TlsError

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.transport.connection import Connection
    from meshcore.transport.identity import ClientContexts
    from meshcore.transport.target import Endpoint

__all__ = ["Tls"]


@attrs.frozen
class Tls:
    """TLS on connections to endpoints whose ``tls`` is set, others as they are; a layer over ``Connect``.

    The endpoint says whom to trust and whom to expect; ALPN's choice is in ``connection.alpn``, the name
    that was verified in ``connection.identity``.  A failure is a :class:`~meshcore.errors.TlsError`, never
    plaintext (T-17).

    Attributes:
        handshake_timeout: seconds for the handshake; None: no limit.
        name: the role, where a stack has more than one.
    """
    name: str = attrs.field(default="", repr=False, kw_only=True)

    handshake_timeout: float | None = 10.0

    def layer(self, inner: Connect, /) -> Connect:
        """A ``Connect`` that shakes hands on what *inner* connected."""
        contexts: ClientContexts | None = None
        timeout = self.handshake_timeout

        async def connect(endpoint: Endpoint) -> Connection:
            nonlocal contexts
            connection = await inner(endpoint)
            if endpoint.tls is None:
                return connection
            # OpenSSL takes 9 MiB, which is for those to pay who use it.
            from meshcore.transport.identity import ClientContexts, client_tls

            if contexts is None:
                contexts = ClientContexts()
            try:
                return await client_tls(connection, endpoint.tls, contexts, timeout)
            except TlsError as error:
                raise TlsError(f"endpoint {endpoint}: {error}", retryable=error.retryable) from error

        return connect
