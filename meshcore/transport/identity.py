"""TLS with clients and upstreams outside the mesh: both handshakes, and whom the connecting side believes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL

from meshcore.errors import TlsError
from meshcore.transport.contexts import new_context, trust
from meshcore.transport.handshake import Verification, shake_hands, verify
from meshcore.transport.names import ascii_host, check_name, client_name, ip_address
from meshcore.transport.pem import load_certificates
from meshcore.transport.server_tls import ServerTls, server_context
from meshcore.transport.tls import TlsConnection, tls_connection

if TYPE_CHECKING:
    from cryptography import x509

    from meshcore.transport.connection import Connection
    from meshcore.transport.target import TlsClient

__all__ = ["ClientContexts", "ServerTls", "client_tls", "server_context", "server_tls"]


class ClientContexts:
    """OpenSSL's settings of the connecting side, made once for each set of trust anchors."""

    __slots__ = ("_contexts",)

    def __init__(self) -> None:
        self._contexts: dict[tuple[bytes | None, bool], SSL.Context] = {}

    def get(self, trust_anchors: bytes | None, verify: bool) -> SSL.Context:
        """The settings for *trust_anchors* (PEM; None: the system's).

        Raises:
            TlsError: the anchors are not certificates.
        """
        key = (trust_anchors, verify)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _client_context(trust_anchors, verify)
        return context


def _client_context(trust_anchors: bytes | None, verified: bool) -> SSL.Context:
    context = new_context(SSL.TLS_CLIENT_METHOD, "1.2")
    if not verified:
        context.set_verify(SSL.VERIFY_NONE)
        return context
    context.set_verify(SSL.VERIFY_PEER, verify)
    if trust_anchors is None:
        context.set_default_verify_paths()
        return context
    try:
        anchors = load_certificates(trust_anchors)
    except ValueError as error:
        raise TlsError(f"trust anchors: {error}", retryable=False) from error
    trust(context, anchors)
    return context


async def client_tls(
    connection: Connection,
    settings: TlsClient,
    contexts: ClientContexts,
    timeout: float | None = 10.0,  # noqa: ASYNC109
) -> TlsConnection:
    """Secures an outgoing connection; on failure *connection* is closed.

    ``identity`` of the result is the name that was verified, None without verification.

    Args:
        connection: fresh: nothing was sent or read.
        settings: whom to expect.
        contexts: where OpenSSL's settings are kept.
        timeout: seconds for the handshake; None: no limit.

    Raises:
        TlsError: it failed, or took too long; never downgraded (T-17).
    """
    try:
        tls = tls_connection(contexts.get(settings.trust_anchors, settings.verify), connection)
        ssl = tls.ssl
        expected = settings.identity or settings.server_name

        def check(certificate: x509.Certificate) -> str:
            check_name(certificate, expected)
            return expected

        found = Verification(check)
        ssl.set_app_data(found)
        ssl.set_connect_state()
        if ip_address(settings.server_name) is None:
            # RFC 6066 §3: no address in SNI.
            ssl.set_tlsext_host_name(ascii_host(settings.server_name).encode("ascii"))
        if settings.alpn:
            ssl.set_alpn_protos([name.encode("ascii") for name in settings.alpn])
        await shake_hands(tls, found, timeout)
        if settings.verify and tls.identity is None:
            raise TlsError("certificate was not verified")
        return tls
    except BaseException:
        connection.close()
        raise


async def server_tls(
    connection: Connection,
    context: SSL.Context,
    timeout: float | None = 10.0,  # noqa: ASYNC109
) -> TlsConnection:
    """Secures an accepted connection; on failure *connection* is closed.

    ``identity`` of the result is the client's verified name; None without a certificate, or if that has neither a
    host name nor a SPIFFE URI (T-05).

    Raises:
        TlsError: the handshake failed, a certificate is missing or cannot be verified, or it took longer than
            *timeout* (seconds; None: no limit).
    """
    try:
        tls = tls_connection(context, connection)
        found = Verification(client_name)
        tls.ssl.set_app_data(found)
        tls.ssl.set_accept_state()
        await shake_hands(tls, found, timeout, "client ")
        if not found.verified and tls.ssl.get_verify_mode() & SSL.VERIFY_FAIL_IF_NO_PEER_CERT:
            raise TlsError("client certificate was not verified", reason="not verified")
        return tls
    except BaseException:
        connection.close()
        raise
