"""The four forms of a request-target (RFC 9112 §3.2)."""

from __future__ import annotations

import re
from typing import Final

from meshcore.codec.validate import is_authority, is_authority_with_port, is_path

__all__ = ["is_target", "read_target"]

_absolute_form: Final = re.compile(
    rb"(https?)://([^/?]*+)((?:/[\x21\x22\x24-\x3e\x40-\x7e]*+)?)(\?[\x21\x22\x24-\x7e]*+)?", re.IGNORECASE
).fullmatch


def read_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Scheme, authority and path of *target*, ``b""`` for what its form does not have; None where it
    is malformed or its form is not the method's (D-31).

    CONNECT takes ``host:port`` and nothing else, only OPTIONS takes an asterisk, and an OPTIONS for a
    whole server in absolute-form has the path ``*`` (RFC 9112 §3.2.4).
    """
    if method == b"CONNECT":
        return (b"", target, b"") if is_authority_with_port(target) else None
    if is_path(target):
        return b"", b"", target
    if target == b"*":
        return (b"", b"", b"*") if method == b"OPTIONS" else None
    match = _absolute_form(target)
    if match is None or not is_authority(match[2]):
        return None
    scheme, authority, path, query = match.groups(b"")
    if method == b"OPTIONS" and not path and not query:
        path = b"*"
    return scheme.lower(), authority, (path or b"/") + query


def is_target(method: bytes, target: bytes) -> bool:
    """Whether *target* can be sent with *method*."""
    return read_target(method, target) is not None
