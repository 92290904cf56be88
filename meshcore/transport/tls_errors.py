"""What OpenSSL says of a failure, in words and in one word."""

from __future__ import annotations

import os

from OpenSSL import SSL

__all__ = ["is_refusal", "kind", "reason"]

# Alerts by which a handshake is refused (RFC 8446 §6.2), in OpenSSL's words; what precedes them depends on the
# version that first had them.
_REFUSALS = (
    "alert bad certificate",
    "alert unsupported certificate",
    "alert certificate revoked",
    "alert certificate expired",
    "alert certificate unknown",
    "alert certificate required",
    "alert unknown ca",
    "alert access denied",
    "alert decrypt error",
    "alert handshake failure",
)


def is_refusal(why: str) -> bool:
    """Whether this is the peer's refusal of our certificate."""
    return why.endswith(_REFUSALS)


def kind(why: str) -> str:
    """The label of a failed handshake; few, since the peer may choose what we say of it."""
    if is_refusal(why):
        return "refused by peer"
    if "did not return a certificate" in why:
        return "no certificate"
    if "protocol version" in why or "unsupported protocol" in why:
        return "version"
    if "alert" in why:
        return "alert"
    return "closed" if why.startswith("closed") or "reset" in why else "malformed"


def reason(error: BaseException) -> str:
    """What OpenSSL says, in a few words."""
    if isinstance(error, SSL.SysCallError):
        number = error.args[0] if error.args else -1
        return "closed without close_notify" if number == -1 else os.strerror(number).lower()
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        texts = [str(entry[2]) for entry in error.args[0] if len(entry) > 2 and entry[2]]
        if texts:
            return texts[-1]
    return str(error) or type(error).__name__
