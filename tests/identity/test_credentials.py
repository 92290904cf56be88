"""What can be an identity, what cannot, and that no key is ever shown."""

from __future__ import annotations

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshcore.identity import Authority, Credentials
from meshcore.identity.authority import check_workload_name
from tests.identity.issued import DAY, NOW, authority, credentials
from tests.transport.test_tls import Authority as AnyAuthority


@pytest.fixture(scope="module")
def ca() -> Authority:
    return authority()


def pem(ca: Authority, name: str = "orders.shop") -> tuple[bytes, bytes, bytes]:
    return *ca.issue(name, now=NOW), ca.cert_pem()


@pytest.mark.parametrize("name", ["orders.shop", "spiffe://mesh.local/ns/shop/sa/orders"])
def test_credentials_have_their_name_and_their_time(ca: Authority, name: str) -> None:
    made = credentials(ca, name)

    assert name == made.name
    assert (name,) == made.names
    assert made.not_before < NOW < made.not_after <= NOW + DAY


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.shop", "b.shop"], ("a.shop", "b.shop")),
        (["dotted.shop.", "b.shop"], ("b.shop",)),
        (["*.shop", "b.shop"], ("b.shop",)),
        (["https://x/", "spiffe://m/a", "b.shop"], ("spiffe://m/a", "b.shop")),
        (["B.Shop"], ("b.shop",)),
    ],
)
@pytest.mark.parity("T-05")
def test_the_name_is_the_first_that_a_workload_can_have(names: list[str], expected: tuple[str, ...]) -> None:
    ca = AnyAuthority()
    sans = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]

    made = Credentials.from_pem(*ca.issue(sans), ca.certificate)

    assert expected == made.names
    assert expected[0] == made.name


def test_what_cannot_be_used_is_refused_with_what_is_wrong(ca: Authority) -> None:
    cert, key, anchors = pem(ca)
    _, other, _ = pem(ca)
    nameless = AnyAuthority().issue([])
    nul = AnyAuthority().issue([x509.DNSName("orders.shop\0.evil.example")])
    for arguments, expected in [
        ((cert, other, anchors), "the key is not the certificate's"),
        ((b"", key, anchors), "no certificate in PEM found"),
        ((cert[: len(cert) // 2], key, anchors), "no certificate in PEM found"),
        ((cert, b"", anchors), "no private key in PEM found"),
        ((cert, key[: len(key) // 2], anchors), "no private key in PEM found"),
        ((cert, key, b"nothing"), "trust anchors: no certificate in PEM found"),
        ((*nameless, anchors), "no DNS name and no spiffe:// URI"),
        ((*nul, anchors), "malformed name"),
    ]:
        with pytest.raises(ValueError, match=expected):
            Credentials.from_pem(*arguments)


def test_an_encrypted_key_is_refused(ca: Authority) -> None:
    cert, key, anchors = pem(ca)
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(ValueError, match="the key is encrypted"):
        Credentials.from_pem(cert, locked, anchors)


def test_no_key_is_in_a_repr_or_in_an_error(ca: Authority) -> None:
    cert, key, anchors = pem(ca)
    made = Credentials.from_pem(cert, key, anchors)
    middle = key.splitlines()[1].decode()

    assert "Credentials(name='orders.shop'" in repr(made)
    for text in (repr(made), repr(ca), str(attrs.asdict(made, filter=lambda a, _: a.repr))):
        assert "key" not in text.lower()
        assert middle not in text
    with pytest.raises(ValueError) as caught:
        Credentials.from_pem(cert, key.replace(b"PRIVATE KEY", b"PRIVATE KEX"), anchors)
    assert middle not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "a..b", "-a.b", "a b", "a/b", "*.shop", "10.0.0.1", "::1", "http://a/b", "spiffe://", "spiffe:///x",
        "spiffe://Mesh/x", "spiffe://m/x?y", "spiffe://m/x#y", "spiffe://m//x", "spiffe://m/../x", "spiffe://m/x/",
        "spiffe://u@m/x", "spiffe://m:1/x", "a" * 64, "a." * 130 + "b", "a\0b", "spiffe://m/a\0b", "../x",
    ],
)  # fmt: skip
def test_a_certificate_is_issued_only_for_a_dns_name_or_a_spiffe_id(ca: Authority, name: str) -> None:
    with pytest.raises(ValueError):
        check_workload_name(name)
    with pytest.raises(ValueError):
        ca.issue(name, now=NOW)


def test_no_certificate_outlives_its_authority() -> None:
    short = authority(now=NOW, days=0.5)

    assert credentials(short, "a.shop", days=9).not_after <= NOW + DAY / 2
    with pytest.raises(ValueError, match="the authority has expired"):
        short.issue("a.shop", now=NOW + DAY)
    with pytest.raises(ValueError, match="not an authority's"):
        Authority.from_pem(*short.issue("a.shop", now=NOW))
