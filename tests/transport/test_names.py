"""Names in certificates: what matches, what never does, and what makes a certificate unusable."""

from __future__ import annotations

import datetime
import ipaddress
import string

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import TlsError
from meshcore.transport.names import (
    SubjectNames,
    ascii_host,
    check_identity,
    check_name,
    identity_names,
    ip_address,
    subject_names,
)

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(*names: x509.GeneralName) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.example")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def matches(pattern: x509.GeneralName, expected: str) -> bool:
    try:
        check_name(certificate(pattern), expected)
    except TlsError:
        return False
    return True


@pytest.mark.parametrize(
    ("pattern", "expected", "whether"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "SHOP.example", True),
        ("Shop.Example", "shop.example", True),
        ("shop.example", "shop.example.", True),
        ("shop.example.", "shop.example", True),
        ("shop.example", "a.shop.example", False),
        ("a.shop.example", "shop.example", False),
        ("*.shop.example", "a.shop.example", True),
        ("*.shop.example", "a.b.shop.example", False),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", ".shop.example", False),
        ("*.example", "shop.example", False),
        ("*", "shop", False),
        ("*.*.example", "a.b.example", False),
        ("a*.shop.example", "ab.shop.example", False),
        ("a.*.example", "a.b.example", False),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("shop.example", "", False),
        ("spiffe://shop/ns/a", "spiffe://shop/ns/a", False),
    ],
)
def test_dns_names_match_as_rfc_9525_says(pattern: str, expected: str, whether: bool) -> None:
    assert whether == matches(x509.DNSName(pattern), expected)


@pytest.mark.parametrize(
    ("address", "expected", "whether"),
    [
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("2001:db8::1", "2001:0db8:0::0001", True),
        ("10.0.0.7", "::ffff:10.0.0.7", False),
    ],
)
def test_addresses_match_as_addresses(address: str, expected: str, whether: bool) -> None:
    assert whether == matches(x509.IPAddress(ipaddress.ip_address(address)), expected)


@pytest.mark.parametrize(
    ("uri", "expected", "whether"),
    [
        ("spiffe://shop/ns/a", "spiffe://shop/ns/a", True),
        ("spiffe://shop/ns/a", "spiffe://shop/ns/ab", False),
        ("spiffe://shop/ns/a", "spiffe://shop/ns/A", False),
        ("spiffe://shop/ns/a", "shop", False),
        ("spiffe://shop.example", "shop.example", False),
    ],
)
def test_uris_match_exactly(uri: str, expected: str, whether: bool) -> None:
    assert whether == matches(x509.UniformResourceIdentifier(uri), expected)


def test_the_common_name_never_counts() -> None:
    with pytest.raises(TlsError, match=r"expected common\.example, found no name"):
        check_name(certificate(), "common.example")


def test_names_of_other_kinds_are_passed_over() -> None:
    found = certificate(
        x509.RFC822Name("a@example"), x509.DNSName("shop.example"), x509.RegisteredID(x509.NameOID.COMMON_NAME)
    )

    assert SubjectNames(("shop.example",)) == subject_names(found)


def test_a_long_list_is_cut_in_the_message() -> None:
    with pytest.raises(TlsError, match=r"found a0\.example, a1\.example, a2\.example, a3\.example, a4\.example, …$"):
        check_name(certificate(*(x509.DNSName(f"a{number}.example") for number in range(9))), "b.example")


@pytest.mark.parametrize("name", ["shop.example\0.evil", "\0", "a b", "", "tab\t.example"])
@pytest.mark.parametrize("kind", [x509.DNSName, x509.UniformResourceIdentifier])
def test_a_malformed_name_makes_the_certificate_unusable_for_any_other(
    name: str, kind: type[x509.DNSName | x509.UniformResourceIdentifier]
) -> None:
    with pytest.raises(TlsError, match="malformed"):
        check_name(certificate(x509.DNSName("shop.example"), kind(name)), "shop.example")


def test_an_extension_that_cannot_be_read_makes_the_certificate_unusable() -> None:
    broken = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x05nope")
    subject = x509.Name([])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    found = (
        x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, start, start + datetime.timedelta(days=1))
        .add_extension(broken, critical=False)
        .sign(KEY, hashes.SHA256())
    )

    with pytest.raises(TlsError, match="malformed subject alternative name"):
        subject_names(found)


@pytest.mark.parametrize("host", ["a" * 70 + ".bücher", "ü" * 300])
def test_a_host_that_cannot_be_a_name_is_refused(host: str) -> None:
    with pytest.raises(TlsError, match="cannot be a host name"):
        ascii_host(host)


label = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
host = st.lists(label, min_size=2, max_size=5).map(".".join).filter(lambda name: ip_address(name) is None)


@given(host)
def test_every_name_matches_itself_and_the_wildcard_over_it(name: str) -> None:
    assert matches(x509.DNSName(name), name)
    first, _, rest = name.partition(".")
    assert ("." in rest) == matches(x509.DNSName(f"*.{rest}"), name)
    assert not matches(x509.DNSName(f"{first}.*"), name)


@given(host, host)
def test_different_names_never_match(one: str, other: str) -> None:
    assert (one == other) == matches(x509.DNSName(one), other)


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_that_a_certificate_may_say_gets_past_with_another_answer(name: str, expected: str) -> None:
    # Whatever is in it: a match, or a refusal by its own kind of error.
    try:
        found = certificate(x509.DNSName(name))
    except ValueError:
        return
    try:
        check_name(found, expected)
    except TlsError:
        return
    assert name.lower().removesuffix(".") == ascii_host(expected) or name.startswith("*.")


# ----- identities of the mesh: exact, never by a wildcard -----


def is_identity(expected: str, *names: x509.GeneralName) -> bool:
    try:
        check_identity(certificate(*names), expected)
    except TlsError:
        return False
    return True


LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda host: ip_address(host) is None)
SPIFFE = st.lists(LABEL, min_size=1, max_size=3).map(lambda parts: "spiffe://mesh.local/" + "/".join(parts))


@pytest.mark.parity("T-04")
@given(st.lists(HOST | SPIFFE, min_size=1, max_size=4), HOST | SPIFFE)
def test_an_identity_is_one_of_the_names_and_nothing_like_it(names: list[str], expected: str) -> None:
    sans = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]
    same = [name == expected if "://" in expected + name else name.lower() == expected.lower() for name in names]

    assert any(same) == is_identity(expected, *sans)
    assert is_identity(names[0], *sans)
    assert not is_identity(names[0] + "x", sans[0])
    assert not is_identity("*." + expected, *sans)


@given(HOST, st.text(string.ascii_lowercase + ".", max_size=10))
def test_a_nul_anywhere_in_a_name_makes_the_certificate_unusable(host: str, rest: str) -> None:
    for names in ([x509.DNSName(f"{host}\0{rest}")], [x509.DNSName(host), x509.DNSName(f"a\0{rest}")]):
        assert not is_identity(host, *names)
        with pytest.raises(TlsError):
            identity_names(certificate(*names))


@given(HOST)
def test_no_wildcard_and_no_other_kind_of_name_is_an_identity(host: str) -> None:
    assert not is_identity(f"a.{host}", x509.DNSName(f"*.{host}"))
    assert not is_identity(host, x509.UniformResourceIdentifier(f"spiffe://{host}"))
    assert not is_identity(f"spiffe://{host}", x509.DNSName(host))
    assert not is_identity("", x509.DNSName(host))
    assert not is_identity("10.0.0.1", x509.IPAddress(ipaddress.ip_address("10.0.0.1")))
