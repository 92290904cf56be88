"""OpenSSL's settings: what is negotiated, shown and trusted.

Two things that OpenSSL 4 does cannot be set from here: it prefers X25519MLKEM768, and it sends tickets after a
TLS 1.3 handshake.  The tickets are worth nothing, since no session is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from OpenSSL import SSL, crypto

from meshcore.errors import TlsError
from meshcore.transport.tls_errors import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["VERSIONS", "choose_alpn", "new_context", "present", "trust", "trust_store"]

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# TLS 1.2 with forward secrecy and authenticated encryption only; TLS 1.3 has no other.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

# SSL_MODE_NO_AUTO_CHAIN (ssl.h): what is shown is what the file has, never completed by what is trusted.
_NO_AUTO_CHAIN = 0x8


def new_context(method: int, min_version: str) -> SSL.Context:
    """Settings of one side, ``SSL.TLS_SERVER_METHOD`` or ``SSL.TLS_CLIENT_METHOD``, that trusts nobody yet.

    No compression, no renegotiation, no resumption: a session must not outlive what was checked when it was
    made (T-03).  Buffers are given back while a connection is idle.
    """
    context = SSL.Context(method)
    context.set_min_proto_version(VERSIONS[min_version])
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if method == SSL.TLS_SERVER_METHOD:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        # A client that offers to resume is answered by a full handshake; without an id it would be refused.
        context.set_session_id(b"meshcore")
    return context


def present(context: SSL.Context, chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> None:
    """Makes *context* show *chain* (the leaf first) and sign with *key*.

    Raises:
        ValueError: OpenSSL cannot use them.
    """
    try:
        context.use_certificate(chain[0])
        for each in chain[1:]:
            context.add_extra_chain_cert(each)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.check_privatekey()
    except (SSL.Error, crypto.Error, TypeError) as error:
        raise ValueError(f"not usable for TLS: {reason(error)}") from error


def trust(context: SSL.Context, anchors: Iterable[x509.Certificate]) -> None:
    """Makes *context* believe what *anchors* issued."""
    store = context.get_cert_store()
    assert store is not None
    _add(store, anchors)


def trust_store(anchors: Iterable[x509.Certificate]) -> crypto.X509Store:
    """A store of its own that trusts *anchors*."""
    store = crypto.X509Store()
    _add(store, anchors)
    return store


def _add(store: crypto.X509Store, anchors: Iterable[x509.Certificate]) -> None:
    # An anchor is trusted as it is, an authority between or the leaf itself, too.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))


def choose_alpn(wanted: Sequence[bytes], offered: Sequence[bytes]) -> bytes:
    """The first protocol *wanted* by the accepting side that the client offers.

    Raises:
        TlsError: none is in common (RFC 7301 §3.2): the handshake fails.
    """
    for name in wanted:
        if name in offered:
            return name
    raise TlsError(
        "TLS handshake failed: no application protocol in common: the client offers "
        + (", ".join(name.decode("latin-1") for name in offered[:5]) or "none"),
        reason="alpn",
    )
