"""Mutual TLS between proxies: both handshakes, each with the peer's name verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import TlsError
from meshcore.transport.handshake import Verification, shake_hands
from meshcore.transport.names import ascii_host, check_identity, client_name, ip_address
from meshcore.transport.tls import TlsConnection, tls_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from meshcore.identity.store import Identity
    from meshcore.transport.connection import Connection

__all__ = ["accept_mesh_tls", "connect_mesh_tls"]


async def accept_mesh_tls(
    connection: Connection,
    identity: Identity,
    *,
    alpn: Sequence[str] = (),
    timeout: float | None = 10.0,  # noqa: ASYNC109
) -> TlsConnection:
    """Secures an accepted connection with the own certificate; on failure *connection* is closed.

    ``identity`` of the result is the client's verified name; None if it showed no certificate, or one without a
    name (T-03, T-05).  A certificate that cannot be verified fails the handshake.

    Args:
        alpn: protocols accepted, the preferred first; a client that offers only others is refused, one that offers
            none is served.  Empty: what the client offers is not looked at (T-07).
        timeout: seconds for the handshake; None: no limit.

    Raises:
        TlsError: it failed, took too long, or there is no certificate yet.
    """
    try:
        found = Verification(client_name, alpn)
        tls = tls_connection(identity.server_context(), connection)
        tls.ssl.set_app_data(found)
        tls.ssl.set_accept_state()
        await shake_hands(tls, found, timeout, "client ")
        return tls
    except BaseException as error:
        connection.close()
        if isinstance(error, TlsError):
            identity.metrics.failed("server", error.reason)
        raise


async def connect_mesh_tls(
    connection: Connection,
    identity: Identity,
    *,
    server_name: str,
    expected: str,
    alpn: Sequence[str] = (),
    timeout: float | None = 10.0,  # noqa: ASYNC109
) -> TlsConnection:
    """Secures an outgoing connection, showing the own certificate; on failure *connection* is closed.

    ``identity`` of the result is *expected*.  The server may still refuse our certificate: in TLS 1.3 it judges it
    after our side of the handshake is done, and the first read says so (:class:`TlsError`).

    Args:
        connection: fresh: nothing was sent or read.
        server_name: the SNI; what the certificate must have is *expected*.
        expected: who must answer, a host name or a ``spiffe://`` URI (T-04).
        alpn: protocols offered, the preferred first.
        timeout: seconds for the handshake; None: no limit.

    Raises:
        TlsError: it failed, took too long, somebody else answered, or there is no certificate yet.
    """

    def check(certificate: x509.Certificate) -> str:
        check_identity(certificate, expected)
        return expected

    try:
        found = Verification(check)
        tls = tls_connection(identity.client_context(), connection)
        ssl = tls.ssl
        ssl.set_app_data(found)
        ssl.set_connect_state()
        if server_name and "://" not in server_name and ip_address(server_name) is None:
            # RFC 6066 §3: neither addresses nor URIs in SNI.
            ssl.set_tlsext_host_name(ascii_host(server_name).encode("ascii"))
        if alpn:
            ssl.set_alpn_protos([name.encode("ascii") for name in alpn])
        await shake_hands(tls, found, timeout)
        if not found.verified:
            raise TlsError("certificate was not verified", reason="not verified")
        return tls
    except BaseException as error:
        connection.close()
        if isinstance(error, TlsError):
            identity.metrics.failed("client", error.reason)
        raise
