"""PEM files of TLS: certificates, and the private key that belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["load_certificates", "load_pair"]


def load_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in *pem*, at least one.

    Raises:
        ValueError: there is none, or one is malformed.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise ValueError("no certificate in PEM found") from None


def load_pair(cert: bytes, key: bytes) -> tuple[tuple[x509.Certificate, ...], PrivateKeyTypes]:
    """A leaf with its chain, and the leaf's private key.

    Args:
        cert: PEM, the leaf first.
        key: PEM, not encrypted.

    Raises:
        ValueError: they are not usable or do not belong together; the text never has the key.
    """
    chain = load_certificates(cert)
    try:
        private = serialization.load_pem_private_key(key, None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    except ValueError:
        raise ValueError("no private key in PEM found") from None
    except Exception:
        # An algorithm that is not known here.
        raise ValueError("the key is of a kind that is not supported") from None
    try:
        public = chain[0].public_key()
    except Exception:
        raise ValueError("the certificate's key is of a kind that is not supported") from None
    if private.public_key() != public:
        raise ValueError("the key is not the certificate's")
    return chain, private
