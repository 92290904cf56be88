"""Client hellos: those of a real TLS library, and some made by hand, whole or cut."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

RANDOM = bytes(range(32))


def real(server_name: str | None = "web.test", alpn: Iterable[str] = ()) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols := list(alpn):
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def vector(octets: int, data: bytes) -> bytes:
    return len(data).to_bytes(octets, "big") + data


def extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, value)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def protocols(*names: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, name) for name in names)))


def message(*extensions: bytes, tail: bytes = b"") -> bytes:
    """The handshake message with its header."""
    body = b"\3\3" + RANDOM + vector(1, b"") + vector(2, b"\x13\1") + vector(1, b"\0")
    if extensions:
        body += vector(2, b"".join(extensions))
    return b"\1" + vector(3, body + tail)


def records(data: bytes, *cuts: int, version: int = 1) -> bytes:
    """The message in records: the first so long as the first of *cuts* says, the last takes the rest."""
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    return b"".join(b"\x16\3" + bytes([version]) + vector(2, part) for part in [*parts, data])


def padded(size: int, *extensions: bytes) -> bytes:
    """A message of so many bytes, its header included."""
    bare = len(message(*extensions, extension(21, b"")))
    return message(*extensions, extension(21, b"\0" * (size - bare)))
