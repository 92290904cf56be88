"""Certificates and trust: what the accepted side shows, and whom the connecting side believes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from meshcore.errors import ConfigError, MeshError, TlsError
from meshcore.transport.names import ascii_host, check_name, ip_address
from meshcore.transport.tls import TlsConnection, reason, tls_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.transport.connection import Connection
    from meshcore.transport.target import TlsClient

__all__ = ["ClientContexts", "ServerTls", "client_tls", "server_context", "server_tls"]

# TLS 1.2 with forward secrecy and authenticated encryption only; TLS 1.3 has no other.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

_EXPIRED, _NOT_YET_VALID = 10, 9
_UNKNOWN_ISSUER = {
    2: "unknown issuer",
    18: "self-signed and not trusted",
    19: "self-signed authority that is not trusted",
    20: "unknown issuer",
    21: "unknown issuer",
}
# X509_V_ERR_* (x509_vfy.h) that people meet, besides those above.
_REASONS = {
    7: "signature is not its issuer's",
    22: "certificate chain is too long",
    23: "revoked",
    24: "issued by what is not an authority",
    25: "certificate chain is longer than its authority allows",
    26: "not meant for this side of TLS",
    28: "rejected",
    66: "key is too short",
    67: "authority's key is too short",
    68: "signature algorithm is too weak",
}


@attrs.frozen
class ServerTls:
    """How accepted connections are secured.

    Attributes:
        cert: PEM file: the leaf, then its chain.
        key: PEM file: its private key, not encrypted.
        alpn: protocols accepted, the preferred first; a client that offers none of them is refused (RFC 7301).
        min_version: ``"1.2"`` or ``"1.3"``.
    """

    cert: Path = attrs.field(converter=Path)
    key: Path = attrs.field(converter=Path)
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    min_version: str = attrs.field(default="1.2", validator=attrs.validators.in_(sorted(_VERSIONS)))

    def context(self) -> SSL.Context:
        """Reads the files.

        Raises:
            ConfigError: a file cannot be read, is not what it should be, or they do not belong together.
        """
        cert, key = _read(self.cert, "certificate"), _read(self.key, "key")
        try:
            return server_context(cert, key, alpn=self.alpn, min_version=self.min_version)
        except ValueError as error:
            raise ConfigError([f"{self.cert} and {self.key}: {error}"]) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{what} {path}: {(error.strerror or str(error)).lower()}"]) from error


def server_context(
    cert: bytes, key: bytes, *, alpn: Sequence[str] = ("h2", "http/1.1"), min_version: str = "1.2"
) -> SSL.Context:
    """OpenSSL's settings of an accepting side.

    Args:
        cert: PEM of the leaf and its chain.
        key: PEM of the private key.
        alpn: see :class:`ServerTls`; so is *min_version*.

    Raises:
        ValueError: they are not usable; the text never has the key.
    """
    try:
        chain = x509.load_pem_x509_certificates(cert)
    except ValueError:
        raise ValueError("no certificate in PEM found") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    except ValueError:
        raise ValueError("no private key in PEM found") from None
    if private.public_key() != chain[0].public_key():
        raise ValueError("the key is not the certificate's")
    context = _context(SSL.TLS_SERVER_METHOD, min_version)
    try:
        context.use_certificate(chain[0])
        for each in chain[1:]:
            context.add_extra_chain_cert(each)
        context.use_privatekey(private)  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, crypto.Error, TypeError) as error:
        raise ValueError(f"not usable for TLS: {reason(error)}") from error
    # No resumption: a session must not outlive what was checked when it was made.  TLS 1.3 sends tickets all
    # the same, which nothing can be done with.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE)
    preferred = [name.encode("ascii") for name in alpn]

    def select(_: SSL.Connection, offered: list[bytes]) -> bytes:
        for name in preferred:
            if name in offered:
                return name
        raise TlsError(
            "TLS handshake failed: no application protocol in common: the client offers "
            + (", ".join(name.decode("latin-1") for name in offered[:5]) or "none")
        )

    if preferred:
        context.set_alpn_select_callback(select)
    return context


def _context(method: int, min_version: str) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_VERSIONS[min_version])
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


class _Expected:
    """Whom a client's handshake is to meet, and what came of it."""

    __slots__ = ("name", "refusal", "verified")

    def __init__(self, name: str) -> None:
        self.name = name
        self.refusal: str | None = None
        self.verified = False


def _verify(ssl: SSL.Connection, certificate: crypto.X509, number: int, depth: int, ok: int) -> bool:
    """OpenSSL's question for each certificate of the chain; refuses whatever it does not understand."""
    expected = ssl.get_app_data()
    if not isinstance(expected, _Expected):
        return False
    try:
        if not ok:
            if expected.refusal is None:
                expected.refusal = _refusal(certificate, number)
            return False
        if depth == 0:
            check_name(certificate.to_cryptography(), expected.name)
            expected.verified = True
        return expected.refusal is None
    except Exception as error:
        expected.verified = False
        expected.refusal = str(error) or type(error).__name__
        return False


def _refusal(certificate: crypto.X509, number: int) -> str:
    if number in (_EXPIRED, _NOT_YET_VALID):
        found = certificate.to_cryptography()
        since, until = found.not_valid_before_utc, found.not_valid_after_utc
        what = "certificate has expired" if number == _EXPIRED else "certificate is not valid yet"
        return f"{what}: it is valid from {since:%Y-%m-%dT%H:%M:%SZ} to {until:%Y-%m-%dT%H:%M:%SZ}"
    if number in _UNKNOWN_ISSUER:
        issuer = certificate.to_cryptography().issuer.rfc4514_string()
        return f"certificate is not trusted: {_UNKNOWN_ISSUER[number]} ({issuer})"
    return f"certificate is not trusted: {_REASONS.get(number, f'verification error {number}')}"


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


def _client_context(trust_anchors: bytes | None, verify: bool) -> SSL.Context:
    context = _context(SSL.TLS_CLIENT_METHOD, "1.2")
    if not verify:
        context.set_verify(SSL.VERIFY_NONE)
        return context
    context.set_verify(SSL.VERIFY_PEER, _verify)
    if trust_anchors is None:
        context.set_default_verify_paths()
        return context
    try:
        anchors = x509.load_pem_x509_certificates(trust_anchors)
    except ValueError as error:
        raise TlsError("trust anchors: no certificate in PEM found", retryable=False) from error
    store = context.get_cert_store()
    assert store is not None
    # An anchor is trusted as it is, an authority between or the leaf itself, too.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
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
        expected = _Expected(settings.identity or settings.server_name)
        ssl.set_app_data(expected)
        ssl.set_connect_state()
        if ip_address(settings.server_name) is None:
            # RFC 6066 §3: no address in SNI.
            ssl.set_tlsext_host_name(ascii_host(settings.server_name).encode("ascii"))
        if settings.alpn:
            ssl.set_alpn_protos([name.encode("ascii") for name in settings.alpn])
        try:
            await _within(tls, timeout)
        except TlsError as error:
            if expected.refusal is not None:
                raise TlsError(expected.refusal) from error
            raise
        if settings.verify:
            if not expected.verified or expected.refusal is not None:
                raise TlsError("certificate was not verified")
            tls.identity = expected.name
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

    Raises:
        TlsError: the handshake failed, or took longer than *timeout* (seconds; None: no limit).
    """
    try:
        tls = tls_connection(context, connection)
        tls.ssl.set_accept_state()
        await _within(tls, timeout)
        return tls
    except BaseException:
        connection.close()
        raise


async def _within(tls: TlsConnection, seconds: float | None) -> None:
    try:
        if seconds is None:
            await tls.handshake()
            return
        with trio.move_on_after(seconds):
            await tls.handshake()
            return
    except MeshError as error:
        if isinstance(error, TlsError):
            raise
        raise TlsError(f"TLS handshake failed: {error}") from error
    raise TlsError(f"TLS handshake timed out after {seconds} s")
