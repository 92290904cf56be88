"""A certificate authority for development: makes itself, and issues certificates for workloads.

Files are written whole or not at all; private keys are readable by their owner only.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshcore.errors import TlsError
from meshcore.transport.names import ascii_host, ip_address, is_authority
from meshcore.transport.pem import load_pair

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Authority", "check_workload_name", "write_file"]

_EARLY = datetime.timedelta(minutes=5)
"""How far back validity begins: clocks differ."""


def check_workload_name(name: str) -> x509.GeneralName:
    """*name* as it stands in a certificate: a DNS name or a ``spiffe://`` URI.

    Raises:
        ValueError: it is neither.
    """
    if "://" in name:
        # SPIFFE-ID §2: a trust domain in lower case, a path of plain segments, nothing else.
        parts = urlsplit(name)
        domain = parts.netloc
        segments = parts.path.split("/")[1:]
        plain = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
        if (
            not name.startswith("spiffe://")
            or not domain
            or set(domain) - set(plain)
            or "?" in name
            or "#" in name
            or len(name) > 2048
            or any(not s or s in (".", "..") or set(s.lower()) - set(plain) for s in segments)
        ):
            raise ValueError(f"{name!r} is not a SPIFFE ID: spiffe://TRUST-DOMAIN/PATH")
        return x509.UniformResourceIdentifier(name)
    try:
        host = ascii_host(name)
    except TlsError as error:
        raise ValueError(str(error)) from error
    labels = host.split(".")
    if ip_address(host) is not None or len(host) > 253 or not all(map(_is_label, labels)):
        raise ValueError(f"{name!r} is neither a DNS name nor a spiffe:// URI")
    return x509.DNSName(host)


def _is_label(label: str) -> bool:
    rest = label.replace("-", "").replace("_", "")
    return 0 < len(label) <= 63 and rest.isascii() and rest.isalnum() and label[0] != "-" and label[-1] != "-"


@attrs.frozen(eq=False)
class Authority:
    """An authority with its key (ECDSA P-256), which is in no repr.

    Attributes:
        certificate: its own, self-signed.
    """

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)

    @classmethod
    def make(cls, name: str, *, now: float, days: float = 3650) -> Authority:
        """A new one.

        Args:
            name: its common name.
            now: seconds since the epoch.
            days: how long it is valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), now, days)
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(authority=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def from_pem(cls, cert: bytes, key: bytes) -> Authority:
        """One that was made earlier.

        Raises:
            ValueError: they are no authority's, or do not belong together; the text never has the key.
        """
        chain, private = load_pair(cert, key)
        if not is_authority(chain[0]):
            raise ValueError("the certificate is not an authority's")
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not an elliptic curve's")
        return cls(chain[0], private)

    def cert_pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """Its private key."""
        return _key_pem(self._key)

    def issue(self, name: str, *, now: float, days: float = 1) -> tuple[bytes, bytes]:
        """A certificate for a workload, for both sides of TLS, and its key, both PEM.

        Args:
            name: a DNS name or a ``spiffe://`` URI.
            now: seconds since the epoch.
            days: how long it is valid, at most as long as the authority.

        Raises:
            ValueError: *name* is neither, or the authority has expired.
        """
        subject_name = check_workload_name(name)
        if now >= self.certificate.not_valid_after_utc.timestamp():
            raise ValueError(f"the authority has expired: {self.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)
        except x509.ExtensionNotFound:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        until = self.certificate.not_valid_after_utc
        # Without a subject the names have to be critical (RFC 5280 §4.2.1.6).
        builder = _builder(x509.Name([]), self.certificate.subject, key.public_key(), now, days, until)
        for extension, critical in (
            (x509.SubjectAlternativeName([subject_name]), True),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(authority=False), True),
            (
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                False,
            ),
            (issuer, False),
        ):
            builder = builder.add_extension(extension, critical)
        leaf = builder.sign(self._key, hashes.SHA256())
        return leaf.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: float,
    days: float,
    until: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    end = moment + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _EARLY)
        .not_valid_after(end if until is None else min(end, until))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_file(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    """Writes a file whole or not at all, with *mode* from its first byte on.

    Args:
        replace: False leaves a file that is there alone, even one that appears meanwhile.

    Raises:
        FileExistsError: it is there and is not to be replaced.
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
