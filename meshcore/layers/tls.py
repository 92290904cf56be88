"""Tls: secures connections to endpoints that want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.codec.transport_header import MESH
from meshcore.errors import TlsError

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.identity.store import Identity  # noqa: TC004 – would load OpenSSL; no file structures it
    from meshcore.transport.connection import Connection
    from meshcore.transport.identity import ClientContexts
    from meshcore.transport.target import Endpoint, TlsClient

__all__ = ["Tls"]


@attrs.frozen
class Tls:
    """TLS on connections to endpoints whose ``tls`` is set, others as they are; a layer over ``Connect``.

    The endpoint says whom to trust and whom to expect; ALPN's choice is in ``connection.alpn``, the name
    that was verified in ``connection.identity``.  A failure is a :class:`~meshcore.errors.TlsError`, never
    plaintext (T-17).

    An endpoint of the mesh (``tls.mesh``) is met with the proxy's own identity (T-15); without one it cannot be
    reached.

    Attributes:
        handshake_timeout: seconds for the handshake; None: no limit.
        identity: the proxy's own, for endpoints of the mesh.
        name: the role, where a stack has more than one.
    """

    handshake_timeout: float | None = 10.0
    identity: Identity | None = attrs.field(default=None, repr=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: Connect, /) -> Connect:
        """A ``Connect`` that shakes hands on what *inner* connected."""
        contexts: ClientContexts | None = None
        identity, timeout = self.identity, self.handshake_timeout

        async def connect(endpoint: Endpoint) -> Connection:
            nonlocal contexts
            if endpoint.tls is not None and endpoint.tls.mesh and identity is None:
                raise TlsError(
                    f"endpoint {endpoint}: mutual TLS is wanted, and no identity is configured", retryable=False
                )
            connection = await inner(endpoint)
            if endpoint.tls is None:
                return connection
            # OpenSSL takes 9 MiB, which is for those to pay who use it.
            from meshcore.transport.identity import ClientContexts, client_tls

            try:
                if endpoint.tls.mesh:
                    between = endpoint.mesh_proxy or endpoint.transport_header is not None
                    return await _meet(connection, endpoint.tls, identity, timeout, (MESH,) if between else ())
                if contexts is None:
                    contexts = ClientContexts()
                return await client_tls(connection, endpoint.tls, contexts, timeout)
            except TlsError as error:
                raise TlsError(
                    f"endpoint {endpoint}: {error}", retryable=error.retryable, reason=error.reason
                ) from error

        return connect


async def _meet(
    connection: Connection, tls: TlsClient, identity: Identity | None, seconds: float | None, mark: tuple[str, ...]
) -> Connection:
    from meshcore.identity.tls import connect_mesh_tls

    # Both were made sure of: by the layer and by TlsClient.
    assert identity is not None
    assert tls.identity is not None
    return await connect_mesh_tls(
        connection, identity, server_name=tls.server_name, expected=tls.identity, alpn=tls.alpn + mark, timeout=seconds
    )
