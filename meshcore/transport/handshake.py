"""One handshake: whom it is to meet, OpenSSL's questions about each certificate, and what came of it.

Verification is each connection's own.  What OpenSSL's callbacks find is written down here and looked at once more
after the handshake, so that a callback that fails, or is never asked, can only ever refuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from OpenSSL import SSL

from meshcore.errors import MeshError, TlsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509
    from OpenSSL import crypto

    from meshcore.transport.tls import TlsConnection

__all__ = ["Verification", "refusal", "shake_hands", "verify"]

_EXPIRED, _NOT_YET_VALID = 10, 9
_LABELS = {_EXPIRED: "expired", _NOT_YET_VALID: "not valid yet"}
_UNKNOWN_ISSUER = {
    2: "unknown issuer",
    18: "self-signed and not trusted",
    19: "self-signed authority that is not trusted",
    20: "unknown issuer",
    21: "unknown issuer",
}
# X509_V_ERR_* (x509_vfy.h) that people meet, besides those above.
_REASONS = {
    7: "signature is not its issuer's",
    22: "certificate chain is too long",
    23: "revoked",
    24: "issued by what is not an authority",
    25: "certificate chain is longer than its authority allows",
    26: "not meant for this side of TLS",
    28: "rejected",
    66: "key is too short",
    67: "authority's key is too short",
    68: "signature algorithm is too weak",
    79: "issued by what is not an authority",
}


class Verification:
    """What one handshake requires, and what it found.

    Attributes:
        check: says who a leaf is whose chain was verified; None for nobody in particular.  Raises to refuse.
        alpn: the protocols that an accepting side accepts, in order of preference.
        refusal: why the peer's certificate was refused; None if it was not.
        reason: the same as :attr:`~meshcore.errors.TlsError.reason`.
        verified: whether a certificate was checked and accepted.
        identity: what *check* said.
    """

    __slots__ = ("alpn", "check", "identity", "reason", "refusal", "verified")

    def __init__(self, check: Callable[[x509.Certificate], str | None], alpn: Sequence[str] = ()) -> None:
        self.check = check
        self.alpn = [name.encode("ascii") for name in alpn]
        self.refusal: str | None = None
        self.reason = "not verified"
        self.verified = False
        self.identity: str | None = None


def verify(ssl: SSL.Connection, certificate: crypto.X509, number: int, depth: int, ok: int) -> bool:
    """OpenSSL's question for each certificate of the chain; refuses whatever it does not understand."""
    found = ssl.get_app_data()
    if not isinstance(found, Verification):
        return False
    try:
        if not ok:
            if found.refusal is None:
                found.reason = _LABELS.get(number, "unknown issuer" if number in _UNKNOWN_ISSUER else "not trusted")
                found.refusal = refusal(certificate.to_cryptography(), number, depth)
            return False
        if depth == 0:
            found.identity = found.check(certificate.to_cryptography())
            found.verified = True
        return found.refusal is None
    except Exception as error:
        found.verified = False
        found.identity = None
        found.reason = error.reason if isinstance(error, TlsError) else "not verified"
        found.refusal = str(error) or type(error).__name__
        return False


def refusal(certificate: x509.Certificate, number: int, depth: int = 0) -> str:
    """Why OpenSSL refuses a certificate, in words.

    Args:
        number: ``X509_V_ERR_…``.
        depth: 0 for the leaf, more for those above it.
    """
    if number in (_EXPIRED, _NOT_YET_VALID):
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        what = "certificate" if depth == 0 else f"certificate's authority ({certificate.subject.rfc4514_string()})"
        what += " has expired" if number == _EXPIRED else " is not valid yet"
        return f"{what}: it is valid from {since:%Y-%m-%dT%H:%M:%SZ} to {until:%Y-%m-%dT%H:%M:%SZ}"
    if number in _UNKNOWN_ISSUER:
        return f"certificate is not trusted: {_UNKNOWN_ISSUER[number]} ({certificate.issuer.rfc4514_string()})"
    return f"certificate is not trusted: {_REASONS.get(number, f'verification error {number}')}"


async def shake_hands(tls: TlsConnection, found: Verification, seconds: float | None, whose: str = "") -> None:
    """Shakes hands and checks what was found; ``tls.identity`` is then the verified name.

    Args:
        found: the connection's application data.
        seconds: for all of it; None: no limit.
        whose: stands before the reason of a refusal (``"client "``).

    Raises:
        TlsError: it failed, or took too long, or a certificate came that was not verified.
    """
    try:
        await _within(tls, seconds)
    except TlsError as error:
        if found.refusal is not None:
            raise TlsError(whose + found.refusal, reason=found.reason) from error
        raise
    if found.refusal is not None:
        raise TlsError(whose + found.refusal, reason=found.reason)
    mode = tls.ssl.get_verify_mode()
    if not found.verified and mode != SSL.VERIFY_NONE and tls.ssl.get_peer_certificate() is not None:
        # The callback was never asked, as with a session that was resumed.
        raise TlsError(f"{whose}certificate was not verified", reason="not verified")
    if found.verified:
        tls.identity = found.identity


async def _within(tls: TlsConnection, seconds: float | None) -> None:
    try:
        if seconds is None:
            await tls.handshake()
            return
        with trio.move_on_after(seconds):
            await tls.handshake()
            return
    except MeshError as error:
        if isinstance(error, TlsError):
            raise
        raise TlsError(f"TLS handshake failed: {error}", reason="closed") from error
    raise TlsError(f"TLS handshake timed out after {seconds:g} s", reason="timeout")
