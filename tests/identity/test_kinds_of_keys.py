"""Which keys and signatures a peer's certificate may have (T-02)."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from meshcore.identity import Credentials, Identity
from meshcore.testing import memory_connection_pair
from tests.identity.issued import NOW, shake

KINDS: dict[str, Any] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
}


def self_signed(name: str, key: Any) -> tuple[bytes, bytes]:
    """A certificate that is its own authority, and its key; both PEM."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    leaf = builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return leaf, private


@pytest.mark.parity("T-02")
@pytest.mark.parametrize("kind", KINDS)
async def test_peers_with_any_usual_key_meet(kind: str) -> None:
    pairs = {"a.shop": self_signed("a.shop", KINDS["P-256"]()), "b.shop": self_signed("b.shop", KINDS[kind]())}
    anchors = b"".join(leaf for leaf, _ in pairs.values())
    one, other = (Identity(name, clock=lambda: NOW) for name in pairs)
    for each in (one, other):
        assert each.publish(Credentials.from_pem(*pairs[each.name], anchors))

    client, server = await shake(memory_connection_pair, one, other, "b.shop")

    assert ("b.shop", "a.shop") == (client.identity, server.identity)
    client, server = await shake(memory_connection_pair, other, one, "a.shop")
    assert ("a.shop", "b.shop") == (client.identity, server.identity)
