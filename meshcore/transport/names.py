"""Whose a certificate is: its subject alternative names, and whether one of them is the expected one."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import attrs
from cryptography import x509

from meshcore.errors import TlsError

__all__ = [
    "SubjectNames",
    "ascii_host",
    "check_identity",
    "check_name",
    "client_name",
    "identity_names",
    "ip_address",
    "is_authority",
    "same_identity",
    "subject_names",
]


def ip_address(host: str) -> IPv4Address | IPv6Address | None:
    """*host* as an address, None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def ascii_host(host: str) -> str:
    """A host name as it stands in certificates and in SNI: A-labels, lower case, no dot at the end.

    Raises:
        TlsError: it cannot be one.
    """
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise TlsError(f"{host!r} cannot be a host name: {error}") from error
    return name.lower().removesuffix(".")


@attrs.frozen
class SubjectNames:
    """A certificate's subject alternative names by their kind: one kind never stands for another.

    Attributes:
        dns: host names, perhaps with a wildcard.
        uris: such as SPIFFE identities.
        addresses: IP addresses.
    """

    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    def __str__(self) -> str:
        names = [*self.dns, *self.uris, *map(str, self.addresses)]
        return ", ".join(names[:5]) + (", …" if len(names) > 5 else "") if names else "no name"


def subject_names(certificate: x509.Certificate) -> SubjectNames:
    """The DNS names, URIs and addresses in the subject alternative name; the common name does not count.

    Raises:
        TlsError: the extension is malformed, or a name has a character that none may have.  A NUL would cut the
            name short for whoever reads it as a C string, so the whole certificate is refused.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return SubjectNames()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise TlsError(f"certificate has a malformed subject alternative name: {error}", reason="name") from error
    texts = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.UniformResourceIdentifier)
    for text in (*texts[0], *texts[1]):
        if not text or not all("!" <= character <= "~" for character in text):
            raise TlsError(f"certificate has a malformed name: {text!r}", reason="name")
    addresses = [
        address
        for address in names.get_values_for_type(x509.IPAddress)
        if isinstance(address, (IPv4Address, IPv6Address))
    ]
    return SubjectNames(tuple(texts[0]), tuple(texts[1]), tuple(addresses))


def check_name(certificate: x509.Certificate, expected: str) -> None:
    """Checks that *certificate* is *expected*'s: an IP address or URI exactly, a DNS name by RFC 9525 §6.3 (one
    wildcard, as the whole of the left-most label, with at least two labels behind it).

    Raises:
        TlsError: it is not, or its names are malformed.
    """
    names = subject_names(certificate)
    address = ip_address(expected)
    if address is not None:
        matched = address in names.addresses
    elif "://" in expected:
        matched = expected in names.uris
    else:
        host = ascii_host(expected)
        matched = bool(host) and any(_same_host(name, host) for name in names.dns)
    if not matched:
        raise TlsError(f"certificate does not match TLS identity: expected {expected}, found {names}", reason="name")


def identity_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names in *certificate* that can be a workload's, in its own order: host names (lower case) and SPIFFE URIs.
    A host name with a wildcard or a dot at the end is none (T-05).

    Raises:
        TlsError: see :func:`subject_names`.
    """
    if subject_names(certificate) == SubjectNames():
        return ()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = []
    for name in names:
        if isinstance(name, x509.DNSName) and "*" not in name.value and not name.value.endswith("."):
            found.append(name.value.lower())
        elif isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith("spiffe://"):
            found.append(name.value)
    return tuple(found)


def client_name(certificate: x509.Certificate) -> str | None:
    """Who a client is: the first of its :func:`identity_names` (T-05); None if it has none."""
    return next(iter(identity_names(certificate)), None)


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue others (RFC 5280 §4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def same_identity(name: str, expected: str) -> bool:
    """Whether two names are one: host names whatever their case, URIs exactly; never by a wildcard."""
    if "://" in name or "://" in expected:
        return name == expected
    return name.lower() == ascii_host(expected) != ""


def check_identity(certificate: x509.Certificate, expected: str) -> None:
    """Checks that *certificate* has the identity *expected*: one of its host names or URIs (T-04).

    Raises:
        TlsError: it has not, or its names are malformed.
    """
    names = subject_names(certificate)
    if not any(same_identity(name, expected) for name in (names.uris if "://" in expected else names.dns)):
        raise TlsError(f"certificate does not match TLS identity: expected {expected}, found {names}", reason="name")


def _same_host(pattern: str, host: str) -> bool:
    pattern = pattern.lower().removesuffix(".")
    if not pattern.startswith("*."):
        return "*" not in pattern and pattern == host
    behind = pattern[1:]
    first, dot, rest = host.partition(".")
    return bool(first) and "*" not in behind and behind.count(".") >= 2 and dot + rest == behind
