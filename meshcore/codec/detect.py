"""Which protocol a connection's first bytes begin: HTTP/1, HTTP/2, TLS or something opaque.

Better than one read (D-01): a prefix that could still become a request line or the HTTP/2 preface
is undecided, so that a slow or split first segment is not mistyped; and one byte that no protocol
allows there decides at once, so that nobody waits for a timeout who need not (D-02 to D-04).
"""

from __future__ import annotations

import enum
import re
from typing import Final

__all__ = ["MAX_PREFIX", "PREFACE", "Detection", "detect"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The client's connection preface (RFC 9113 §3.4)."""

MAX_PREFIX: Final = 8_192
"""Bytes up to which a prefix may stay undecided; a longer one is opaque."""

_MAX_METHOD: Final = 64
_VERSION: Final = b"HTTP/"
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))

_method: Final = re.compile(rb"(?:\r\n)?([!#$%&'*+.^_`|~0-9A-Za-z-]*+)").match
_target: Final = re.compile(rb"[\x21-\x7e]*+").match


class Detection(enum.Enum):
    """What a prefix is; ``UNDECIDED`` asks for more bytes."""

    HTTP1 = "http/1"
    HTTP2 = "http/2"
    TLS = "tls"
    OPAQUE = "opaque"
    UNDECIDED = "undecided"


def detect(prefix: bytes) -> Detection:
    """What the bytes received so far begin; they are never consumed (D-09).

    HTTP/1 is a method of RFC 9110 and a target that begins with a slash, or any method token (of at
    most 64 bytes) with any target before ``HTTP/``: SIP, RTSP, SMTP or Redis look alike up to there.
    One empty line may come first.  HTTP/2 is its whole preface.  TLS is a handshake record of
    version 3 (D-11).
    """
    first = prefix[:1]
    if first == b"\x16":
        if len(prefix) == 1:
            return Detection.UNDECIDED
        return Detection.TLS if prefix[1] == 0x03 else Detection.OPAQUE
    if prefix.startswith(PREFACE):
        return Detection.HTTP2
    if PREFACE.startswith(prefix) or prefix == b"\r":
        return Detection.UNDECIDED
    found = _request_line(prefix)
    return Detection.OPAQUE if found is Detection.UNDECIDED and len(prefix) > MAX_PREFIX else found


def _request_line(prefix: bytes) -> Detection:
    match = _method(prefix)
    assert match is not None
    method = match[1]
    end = match.end()
    if len(method) > _MAX_METHOD:
        return Detection.OPAQUE
    if end == len(prefix):
        return Detection.UNDECIDED
    if not method or prefix[end] != 0x20:
        return Detection.OPAQUE
    if method in _METHODS and prefix.startswith(b"/", end + 1):
        return Detection.HTTP1
    match = _target(prefix, end + 1)
    assert match is not None
    if match.end() == len(prefix):
        return Detection.UNDECIDED
    if match.end() == end + 1 or prefix[match.end()] != 0x20:
        return Detection.OPAQUE
    version = prefix[match.end() + 1 : match.end() + 1 + len(_VERSION)]
    if version == _VERSION:
        return Detection.HTTP1
    return Detection.UNDECIDED if _VERSION.startswith(version) else Detection.OPAQUE
