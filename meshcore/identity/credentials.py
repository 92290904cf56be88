"""Credentials: one certificate with its key, and the authorities that are trusted together with it."""

from __future__ import annotations

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from meshcore.errors import TlsError
from meshcore.transport.names import identity_names
from meshcore.transport.pem import load_certificates, load_pair

__all__ = ["Credentials"]


@attrs.frozen(eq=False)
class Credentials:
    """One certified identity.  The key is in no repr; a certificate only by its names and validity.

    Attributes:
        name: own name: the first of *names* (T-05).
        names: host names and SPIFFE URIs of the leaf, in its own order.
        not_before, not_after: when the leaf is valid, seconds since the epoch.
        chain: the leaf, then what issued it.
        key: the leaf's private key.
        anchors: the authorities that are trusted.
    """

    name: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    chain: tuple[x509.Certificate, ...] = attrs.field(repr=False)
    key: PrivateKeyTypes = attrs.field(repr=False)
    anchors: tuple[x509.Certificate, ...] = attrs.field(repr=False)

    @classmethod
    def from_pem(cls, cert: bytes, key: bytes, anchors: bytes) -> Credentials:
        """Reads PEM; whether this is the time to use it, the store decides.

        Args:
            cert: the leaf, then its chain.
            key: the leaf's private key, not encrypted.
            anchors: the authorities trusted, own and others'.

        Raises:
            ValueError: it cannot be used: no PEM, the key of another certificate, no name to be known by.
        """
        chain, private = load_pair(cert, key)
        try:
            trusted = load_certificates(anchors)
        except ValueError as error:
            raise ValueError(f"trust anchors: {error}") from error
        try:
            names = identity_names(chain[0])
        except TlsError as error:
            raise ValueError(str(error)) from error
        if not names:
            raise ValueError("the certificate has no DNS name and no spiffe:// URI as subject alternative name")
        return cls(
            name=names[0],
            names=names,
            not_before=chain[0].not_valid_before_utc.timestamp(),
            not_after=chain[0].not_valid_after_utc.timestamp(),
            chain=chain,
            key=private,
            anchors=trusted,
        )
