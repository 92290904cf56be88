"""Whose a certificate is: its subject alternative names, and whether one of them is the expected one."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509

from meshcore.errors import TlsError

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

__all__ = ["ascii_host", "check_name", "ip_address", "subject_names"]


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


def subject_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names, URIs and addresses in the subject alternative name; the common name does not count.

    Raises:
        TlsError: the extension is malformed, or a name has a character that none may have.  A NUL would cut the
            name short for whoever reads it as a C string, so the whole certificate is refused.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise TlsError(f"certificate has a malformed subject alternative name: {error}") from error
    found: list[str] = []
    for name in names:
        if isinstance(name, (x509.DNSName, x509.UniformResourceIdentifier)):
            if not name.value or not all("!" <= character <= "~" for character in name.value):
                raise TlsError(f"certificate has a malformed name: {name.value!r}")
            found.append(name.value)
        elif isinstance(name, x509.IPAddress):
            found.append(str(name.value))
    return found


def check_name(certificate: x509.Certificate, expected: str) -> None:
    """Checks that *certificate* is *expected*'s: an IP address or URI exactly, a DNS name by RFC 9525 §6.3 (one
    wildcard, as the whole of the left-most label, with at least two labels behind it).

    Raises:
        TlsError: it is not, or its names are malformed.
    """
    names = subject_names(certificate)
    address = ip_address(expected)
    if address is not None:
        matched = any(ip_address(name) == address for name in names)
    elif "://" in expected:
        matched = expected in names
    else:
        host = ascii_host(expected)
        matched = bool(host) and any(_same_host(name, host) for name in names)
    if not matched:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise TlsError(f"certificate does not match TLS identity: expected {expected}, found {shown or 'no name'}")


def _same_host(pattern: str, host: str) -> bool:
    if "/" in pattern or ip_address(pattern) is not None:
        return False
    pattern = pattern.lower().removesuffix(".")
    if not pattern.startswith("*."):
        return "*" not in pattern and pattern == host
    behind = pattern[1:]
    first, dot, rest = host.partition(".")
    return bool(first) and "*" not in behind and behind.count(".") >= 2 and dot + rest == behind
