"""The keys that tokens are checked with: a JSON Web Key Set (RFC 7517).

OpenSSL takes 9 MiB, so this is only imported where tokens are checked.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Literal

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

__all__ = ["MAX_KEYS", "MAX_SET", "Key", "KeySet"]

MAX_SET = 262_144
"""Bytes of the longest key set."""
MAX_KEYS = 100
"""Keys in one set."""
_RSA_BITS = (2_048, 8_192)
"""RFC 7518 §3.3 wants the one; with more than the other a check takes too long."""

_Kind = Literal["RSA", "P-256", "P-384", "Ed25519"]
_FITS: dict[str, _Kind] = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
    "EdDSA": "Ed25519",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {"P-256": (ec.SECP256R1(), 32), "P-384": (ec.SECP384R1(), 48)}


@attrs.frozen
class Key:
    """A public key.

    Attributes:
        kid: its name; None without.
        kind: what it is.
        algorithm: the only one that it is for; None: any that fits.
        public: the key itself.
    """

    kid: str | None
    kind: _Kind
    algorithm: str | None
    public: Any = attrs.field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether it is for signatures of that kind: what a token says must not choose how a key is used."""
        return _FITS.get(algorithm) == self.kind and self.algorithm in (None, algorithm)

    def verify(self, algorithm: str, signature: bytes, data: bytes) -> bool:
        """Whether *signature* is this key's, of *data*."""
        try:
            if self.kind == "Ed25519":
                self.public.verify(signature, data)
            elif self.kind == "RSA":
                digest = _HASHES[algorithm[2:]]
                padded: padding.AsymmetricPadding = padding.PKCS1v15()
                if algorithm.startswith("PS"):
                    padded = padding.PSS(padding.MGF1(digest), digest.digest_size)
                self.public.verify(signature, data, padded, digest)
            else:
                size = _CURVES[self.kind][1]
                if len(signature) != 2 * size:
                    return False
                r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
                self.public.verify(encode_dss_signature(r, s), data, ec.ECDSA(_HASHES[algorithm[2:]]))
        except (InvalidSignature, ValueError):
            return False
        return True


@attrs.frozen
class KeySet:
    """The keys of an issuer.

    Attributes:
        keys: those that can check signatures.
    """

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, data: bytes) -> KeySet:
        """The keys of a JSON Web Key Set.  Those that are for something else, or of a kind that is not known, are
        left out, as RFC 7517 §5 wants it.

        Raises:
            ValueError: it is none, or has no key that could be used.
        """
        if len(data) > MAX_SET:
            raise ValueError(f"key set is longer than {MAX_SET} bytes")
        try:
            value = json.loads(data.decode("utf-8"))
        except RecursionError:
            raise ValueError("key set is nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"key set is no JSON: {error}") from error
        told = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(told, list):
            raise ValueError('key set has no list "keys"')
        if len(told) > MAX_KEYS:
            raise ValueError(f"key set has more than {MAX_KEYS} keys")
        found = tuple(key for each in told if (key := _key(each)) is not None)
        if not found:
            raise ValueError("key set has no key that could check a signature")
        return cls(found)

    def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed a token: those with its key's name, or any where it has none."""
        return [key for key in self.keys if (kid is None or key.kid == kid) and key.fits(algorithm)]


def _key(told: Any) -> Key | None:
    if not isinstance(told, dict):
        return None
    if told.get("use", "sig") != "sig" or "verify" not in _list(told.get("key_ops", ["verify"])):
        return None
    kid, algorithm = told.get("kid"), told.get("alg")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        return None
    try:
        kind, public = _public(told)
    except (ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm, binascii.Error):
        return None
    return Key(kid, kind, algorithm, public)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _public(told: dict[str, Any]) -> tuple[_Kind, Any]:
    """Raises one of several errors for what is no public key of a known kind."""
    family, curve = told["kty"], told.get("crv")
    if family == "RSA":
        modulus, exponent = _number(told["n"]), _number(told["e"])
        if not _RSA_BITS[0] <= modulus.bit_length() <= _RSA_BITS[1] or exponent.bit_length() > 32:
            raise ValueError("RSA key of a size that is not used")
        return "RSA", rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if family == "EC" and curve in _CURVES:
        kind: _Kind = "P-256" if curve == "P-256" else "P-384"
        numbers = ec.EllipticCurvePublicNumbers(_number(told["x"]), _number(told["y"]), _CURVES[curve][0])
        return kind, numbers.public_key()
    if family == "OKP" and curve == "Ed25519":
        return "Ed25519", ed25519.Ed25519PublicKey.from_public_bytes(_bytes(told["x"]))
    # Shared keys ("oct") are here, too: nobody is let in by one.
    raise ValueError("key of a kind that is not used")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > 2_048:
        raise ValueError("not base64url")
    return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)


def _number(value: Any) -> int:
    return int.from_bytes(_bytes(value), "big")
