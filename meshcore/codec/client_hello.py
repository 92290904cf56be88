"""The first message of a TLS client: whether bytes begin one, whom it asks for, and what it wants to speak.

Stricter and more patient than one look (D-11): the first byte that no ClientHello has there decides, so
that nobody waits for a timeout who speaks something else; and a hello in several records, or arriving in any
number of pieces, is understood.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import attrs

__all__ = ["MAX_HELLO", "MAX_RECORDS", "NOT_TLS", "ClientHello", "Incomplete", "NotTls", "Parsed", "parse"]

MAX_HELLO: Final = 16_384
"""Bytes on the wire, the records' own included, that a hello may take."""

MAX_RECORDS: Final = 64
"""Records that a hello may be cut into; clients cut theirs in two or three, if at all."""

_HEADER: Final = 5
"""A record's own bytes (RFC 8446 §5.1): type, version, length."""
_MAX_RECORD: Final = 1 << 14
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN = 0, 16

_host = re.compile(rb"[\x21-\x7e]{1,255}").fullmatch


@attrs.frozen
class NotTls:
    """The bytes begin something else."""


NOT_TLS: Final = NotTls()


@attrs.frozen
class Incomplete:
    """So far it is the beginning of a hello.

    Attributes:
        wanted: how many bytes, counted from the first, there have to be before another look can say more;
            always more than there are, never more than ``MAX_HELLO``.
    """

    wanted: int


@attrs.frozen
class ClientHello:
    """A whole hello.

    Attributes:
        sni: the host name that is asked for (RFC 6066 §3), as it was sent; None without.
        alpn: the protocols offered, in the client's order (RFC 7301 §3.1); empty without.
    """

    sni: str | None = None
    alpn: tuple[str, ...] = ()


Parsed: TypeAlias = NotTls | Incomplete | ClientHello


def parse(data: bytes) -> Parsed:
    """What the bytes received so far begin; they may go on after the hello.

    The first six bytes decide between TLS and anything else.  What has them and is then no hello, or none
    that is to be relied on, is refused rather than taken for something else: both sides of a proxy have to
    read the same name in it.

    Raises:
        ValueError: larger than ``MAX_HELLO``, in more than ``MAX_RECORDS`` records, malformed, or with a
            name or a list of protocols that is ambiguous.
    """
    size = len(data)
    for place in range(min(size, 6)):
        if not _may_begin(data, place):
            return NOT_TLS
    if size < 6:
        # One at a time: whoever speaks something else may have said all that it has to say.
        return Incomplete(size + 1)
    found = _reassemble(data)
    if isinstance(found, int):
        if found > MAX_HELLO:
            raise ValueError(f"TLS hello larger than {MAX_HELLO} bytes")
        return Incomplete(found)
    return _hello(found)


def _may_begin(data: bytes, place: int) -> bool:
    """Whether the byte at *place* can be there in the first record of a hello."""
    byte = data[place]
    if place == 0:
        return byte == _HANDSHAKE
    if place == 1:
        return byte == 3
    if place == 2:
        # A hello's record says 1.0 or 1.2, whatever is in it (RFC 8446 §5.1, D-11).
        return byte in (1, 3)
    if place == 4:
        return 0 < (data[3] << 8 | byte) <= _MAX_RECORD
    return place != 5 or byte == _CLIENT_HELLO


def _reassemble(data: bytes) -> bytes | int:
    """The body of the handshake message, or how many bytes are wanted for another look."""
    size = len(data)
    message = bytearray()
    start = records = 0
    while True:
        if size < start + _HEADER:
            return start + _HEADER
        length = data[start + 3] << 8 | data[start + 4]
        if data[start] != _HANDSHAKE or data[start + 1] != 3 or not 0 < length <= _MAX_RECORD:
            raise ValueError("TLS hello is interrupted by something else")
        records += 1
        if records > MAX_RECORDS:
            raise ValueError(f"TLS hello in more than {MAX_RECORDS} records")
        before = len(message)
        end = start + _HEADER + length
        message += data[start + _HEADER : end]
        # The message's own four bytes say how long it is.
        needed = 4 + int.from_bytes(message[1:4], "big") if len(message) >= 4 else 4
        last = start + _HEADER + needed - before
        if last > MAX_HELLO:
            return last
        if len(message) >= needed > 4:
            return bytes(message[4:needed])
        if len(message) >= 4 and needed == 4:
            raise ValueError("TLS hello is empty")
        if size < end:
            return min(end, last)
        start = end


class _Reader:
    """Takes a message apart; every length is checked against what is there."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("TLS hello is malformed")
        self._at += count
        return taken

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int) -> bytes:
        """Bytes that stand behind their length of so many octets."""
        return self.take(self.number(octets))


def _hello(message: bytes) -> ClientHello:
    """What a hello's body says (RFC 8446 §4.1.2)."""
    reader = _Reader(message)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    sni: str | None = None
    alpn: tuple[str, ...] | None = None
    extensions = _Reader(reader.vector(2) if reader else b"")
    if reader:
        raise ValueError("TLS hello is malformed")
    while extensions:
        kind = extensions.number(2)
        value = extensions.vector(2)
        if kind == _SERVER_NAME:
            if sni is not None:
                raise ValueError("TLS hello names its server twice")
            sni = _server_name(value)
        elif kind == _ALPN:
            if alpn is not None:
                raise ValueError("TLS hello lists its protocols twice")
            alpn = _protocols(value)
    return ClientHello(sni, alpn or ())


def _server_name(value: bytes) -> str:
    """The one host name in the extension; there is no other kind of name."""
    reader = _Reader(value)
    names = _Reader(reader.vector(2))
    kind = names.number(1)
    name = names.vector(2)
    if kind != 0 or names or reader or _host(name) is None:
        raise ValueError("TLS hello has a server name that cannot be one")
    return name.decode("ascii")


def _protocols(value: bytes) -> tuple[str, ...]:
    reader = _Reader(value)
    names = _Reader(reader.vector(2))
    found: list[str] = []
    while names:
        name = names.vector(1)
        if not name:
            raise ValueError("TLS hello is malformed")
        found.append(name.decode("latin-1"))
    if not found or reader:
        raise ValueError("TLS hello is malformed")
    return tuple(found)
