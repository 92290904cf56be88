"""The control fields of an HTTP/1 message, judged: what frames it, persists it and changes its protocol.

The rules are RFC 9112 §6 and RFC 9110 §7.6.1, read strictly: wherever two recipients could
disagree, the message is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import (
    CONNECTION_FIELDS,
    END_TO_END_FIELDS,
    FRAMING_FIELDS,
    is_authority,
    is_protocol,
    is_reserved,
    parse_content_length,
    tokens,
)
from meshcore.errors import RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["SPECIAL", "Control", "plain_control", "plain_length", "strip"]

SPECIAL: Final = CONNECTION_FIELDS | FRAMING_FIELDS | {b"te", b"expect"}
"""The names whose fields control the message or the connection."""

_STRIPPED: Final = CONNECTION_FIELDS | {b"expect"}
_NONE: Final[frozenset[bytes]] = frozenset()

# Options that say something about the connection itself rather than name a field to be stripped.
_OPTIONS: Final = (CONNECTION_FIELDS - FRAMING_FIELDS) | {b"close", b"te"}

# What nearly every `connection` field is.
_COMMON_OPTIONS: Final = {
    b"keep-alive": [b"keep-alive"],
    b"Keep-Alive": [b"keep-alive"],
    b"close": [b"close"],
    b"upgrade": [b"upgrade"],
    b"Upgrade": [b"upgrade"],
}


class Control:
    """What the special fields of one head say.

    Attributes:
        content_length: as declared, or None.
        chunked: ``transfer-encoding: chunked``.
        close, keep_alive, upgrade: whether ``connection`` has that option.
        named: further fields that ``connection`` says belong to it.
        protocols: members of ``upgrade`` but ``h2c``, lower case.
        host: the value of ``host``, or None.
        expect: the members of ``expect``.
    """

    __slots__ = (
        "chunked",
        "close",
        "content_length",
        "expect",
        "host",
        "keep_alive",
        "named",
        "padded",
        "protocols",
        "te",
        "upgrade",
    )

    def __init__(self, special: Fields, minor: int) -> None:
        """Reads and judges *special*.

        Raises:
            RemoteProtocolError: 400; 501 for transfer codings other than chunked.
        """
        self.content_length: int | None = None
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.upgrade = False
        self.named: frozenset[bytes] = _NONE
        self.protocols: list[bytes] = []
        self.host: bytes | None = None
        self.expect: list[bytes] = []
        self.te: bytes | None = None
        self.padded = False
        codings: bytes | None = None
        for name, value in special:
            if name == b"host":
                if self.host is not None:
                    raise RemoteProtocolError("more than one host field")
                self.host = value
            elif name == b"connection":
                self._read_connection(value)
            elif name == b"content-length":
                length = parse_content_length(value)
                if length is None:
                    raise RemoteProtocolError("content-length not a number")
                if self.content_length is not None:
                    raise RemoteProtocolError("more than one content-length field")
                self.content_length = length
                self.padded = value[0] == 0x30 and len(value) > 1
            elif name == b"transfer-encoding":
                if codings is not None:
                    raise RemoteProtocolError("more than one transfer-encoding field")
                codings = value
            elif name == b"te":
                self.te = value if self.te is None else b""
            elif name == b"expect":
                self.expect += tokens(value)
            elif name == b"upgrade":
                self.protocols += [p for p in tokens(value) if p != b"h2c" and is_protocol(p)]
        if codings is not None:
            self._read_codings(codings, minor)

    def _read_connection(self, value: bytes) -> None:
        named: set[bytes] = set()
        for option in _COMMON_OPTIONS.get(value) or tokens(value):
            if option == b"close":
                self.close = True
            elif option == b"keep-alive":
                self.keep_alive = True
            elif option == b"upgrade":
                self.upgrade = True
            elif option not in _OPTIONS:
                named.add(option)
        if named:
            self.named |= named

    def _read_codings(self, value: bytes, minor: int) -> None:
        if self.content_length is not None:
            raise RemoteProtocolError("both content-length and transfer-encoding")
        if minor == 0:
            raise RemoteProtocolError("transfer-encoding on HTTP/1.0")
        codings = tokens(value)
        if codings == [b"chunked"] and value.lower() == b"chunked":
            self.chunked = True
            return
        known = codings[-1:] == [b"chunked"] and codings.count(b"chunked") == 1 and all(map(is_protocol, codings))
        raise RemoteProtocolError("transfer-encoding not supported", status=501 if known and len(codings) > 1 else 400)

    def check_named(self) -> None:
        """Refuses a ``connection`` that names what frames or routes the message.

        Raises:
            RemoteProtocolError: 400.
        """
        if not self.named.isdisjoint(FRAMING_FIELDS):
            raise RemoteProtocolError("connection names a framing field")

    def check_host(self) -> bytes:
        """The host that was named, ``b""`` for an empty one or none.

        Raises:
            RemoteProtocolError: 400, it is not ``host[:port]``.
        """
        host = self.host
        if not host:
            return b""
        if not is_authority(host):
            raise RemoteProtocolError(f"host not valid: {host[:64]!r}")
        return host


def plain_length(special: Fields) -> int | None:
    """The content-length where it is the only special field and needs no change: most responses."""
    if len(special) != 1:
        return None
    name, value = special[0]
    if name != b"content-length" or (value[:1] == b"0" and len(value) > 1):
        return None
    return parse_content_length(value)


def plain_control(special: Fields) -> tuple[tuple[bytes, bytes] | None, int | None, bool] | None:
    """The host field, the content-length and whether there is ``connection: keep-alive``, where there is
    nothing else and each of them once, as they nearly always are; None where it takes a :class:`Control`."""
    host: tuple[bytes, bytes] | None = None
    length: int | None = None
    keep_alive = False
    for field in special:
        name, value = field
        if name == b"host":
            if host is not None:
                return None
            host = field
        elif name == b"content-length":
            if length is not None or (value[:1] == b"0" and len(value) > 1):
                return None
            length = parse_content_length(value)
            if length is None:
                return None
        elif name == b"connection" and not keep_alive and (value == b"keep-alive" or value == b"Keep-Alive"):
            keep_alive = True
        else:
            return None
    return host, length, keep_alive


def strip(fields: Fields, control: Control, more: frozenset[bytes] = _NONE) -> Fields:
    """The fields that go beyond this connection, *more* left out as well (D-29).

    ``te`` stays where it is exactly ``trailers``; what ``connection`` names goes, but for framing,
    security and reserved fields, which nobody can have stripped by naming them.
    """
    gone = _STRIPPED | more if more else _STRIPPED
    if control.named:
        gone |= {name for name in control.named - END_TO_END_FIELDS - FRAMING_FIELDS if not is_reserved(name)}
    if control.te is not None and control.te != b"trailers":
        gone |= {b"te"}
    kept = [field for field in fields if field[0] not in gone]
    if control.padded and b"content-length" not in gone:
        number = b"%d" % (control.content_length or 0)
        kept = [(name, number) if name == b"content-length" else (name, value) for name, value in kept]
    return kept
