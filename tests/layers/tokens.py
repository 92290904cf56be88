"""An issuer of tokens, as a test needs one: keys of every kind, and tokens that are right or wrong in one way."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

__all__ = ["ISSUER", "NOW", "Issuer", "encoded", "number"]

ISSUER = "https://id.test"
NOW = 1_800_000_000.0
_RSA = rsa.generate_private_key(65_537, 2_048)
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def encoded(data: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def number(value: int, size: int = 0) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big")).decode()


class Issuer:
    """Keys for all algorithms, by their ``kid``: the algorithm's own kind."""

    def __init__(self) -> None:
        self.private: dict[str, Any] = {
            "RSA": _RSA,
            "P-256": ec.generate_private_key(ec.SECP256R1()),
            "P-384": ec.generate_private_key(ec.SECP384R1()),
            "Ed25519": ed25519.Ed25519PrivateKey.generate(),
        }

    def jwk(self, kind: str, **more: Any) -> dict[str, Any]:
        """The public key of that kind."""
        public = self.private[kind].public_key()
        told: dict[str, Any] = {"kid": kind, "use": "sig"}
        if kind == "RSA":
            told |= {"kty": "RSA", "n": number(public.public_numbers().n), "e": number(public.public_numbers().e)}
        elif kind == "Ed25519":
            told |= {"kty": "OKP", "crv": kind, "x": encoded(public.public_bytes_raw()).decode()}
        else:
            size = 32 if kind == "P-256" else 48
            numbers = public.public_numbers()
            told |= {"kty": "EC", "crv": kind, "x": number(numbers.x, size), "y": number(numbers.y, size)}
        return {key: value for key, value in (told | more).items() if value is not None}

    def jwks(self, *kinds: str) -> bytes:
        """The key set with these kinds; all of them by default."""
        return json.dumps({"keys": [self.jwk(kind) for kind in kinds or self.private]}).encode()

    def sign(self, algorithm: str, data: bytes) -> bytes:
        if algorithm == "EdDSA":
            return bytes(self.private["Ed25519"].sign(data))
        digest = _HASHES[algorithm[2:]]
        if algorithm.startswith("RS"):
            return bytes(self.private["RSA"].sign(data, padding.PKCS1v15(), digest))
        if algorithm.startswith("PS"):
            return bytes(self.private["RSA"].sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest))
        kind, size = ("P-256", 32) if algorithm == "ES256" else ("P-384", 48)
        r, s = decode_dss_signature(self.private[kind].sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def token(
        self, algorithm: str = "ES256", header: dict[str, Any] | None = None, /, now: float = NOW, **claims: Any
    ) -> bytes:
        """A good token; *header* and *claims* make it another one, None takes one of them away."""
        kind = {"RS": "RSA", "PS": "RSA", "Ed": "Ed25519"}.get(algorithm[:2]) or f"P-{algorithm[2:]}"
        told = {"alg": algorithm, "kid": kind, "typ": "JWT", **(header or {})}
        said = {"iss": ISSUER, "aud": "orders", "sub": "user-1", "exp": now + 60, **claims}
        parts = [{key: value for key, value in each.items() if value is not None} for each in (told, said)]
        signed = b".".join(encoded(json.dumps(part).encode()) for part in parts)
        return signed + b"." + encoded(self.sign(algorithm, signed))
