"""What a proxy changes in a message that it sends on: hops, paths taken, protocols asked for.

The functions work on lists of fields as the codecs give and take them; none changes its argument.
They are the translation rules between HTTP/1 and HTTP/2 in both directions, and the fields by which
a proxy says that it was there.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import CONNECTION_FIELDS, join_cookies, tokens

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = [
    "accept_websocket",
    "append_forwarded",
    "append_via",
    "connect_to_upgrade",
    "forwarded_by",
    "join_cookies",
    "strip_connection",
    "upgrade_to_connect",
]

_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_WEBSOCKET_KEYS: Final = frozenset((b"sec-websocket-key", b"sec-websocket-accept"))
_LENGTH: Final = frozenset((b"content-length",))
_is_token: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_unquotable: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_SEPARATORS: Final = frozenset((b"", b";", b",", b" ", b"\t"))


def strip_connection(fields: Fields) -> Fields:
    """The fields without those of one connection and those that ``connection`` names (D-29).

    For messages that a layer or service made: what comes from a codec has been stripped already, and
    what goes into one is stripped again.  ``te: trailers`` stays.
    """
    named: set[bytes] = set()
    for name, value in fields:
        if name == b"connection":
            named.update(tokens(value))
    named -= {b"host", b"content-length", b"te"}
    return [
        field
        for field in fields
        if field[0] not in CONNECTION_FIELDS
        and field[0] not in named
        and (field[0] != b"te" or field[1] == b"trailers")
    ]


def append_via(fields: Fields, version: int, name: bytes) -> Fields:
    """With ``via`` extended by this hop: *version* (10, 11, 20) as received, and *name*, our pseudonym
    (RFC 9110 §7.6.3)."""
    hop = b"%b %b" % (b"2.0" if version == 20 else b"1.%d" % (version - 10), name)
    return _append(fields, b"via", hop)


def append_forwarded(fields: Fields, *, by: bytes, for_: bytes, host: bytes, proto: bytes) -> Fields:
    """With ``forwarded`` extended by this hop: ``by=…;for=…;host=…;proto=…`` (RFC 7239; A-22).

    Values that are no tokens are quoted.

    Raises:
        ValueError: a value has a control character.
    """
    hop = b"by=%b;for=%b;host=%b;proto=%b" % (_quoted(by), _quoted(for_), _quoted(host), _quoted(proto))
    return _append(fields, b"forwarded", hop)


def forwarded_by(fields: Fields, identity: bytes) -> bool:
    """Whether ``forwarded`` says that the message has passed *identity* before: a loop (A-22).

    Found wherever it stands, so that nothing malformed before it can hide it; letter case is ignored.
    """
    identity = identity.lower()
    needles = {b"by=" + _quoted(identity), b"by=" + _quote(identity)}
    return any(_contains(value.lower(), needle) for name, value in fields if name == b"forwarded" for needle in needles)


def upgrade_to_connect(fields: Fields) -> tuple[Fields, bytes | None]:
    """An HTTP/1 upgrade request's fields as those of an extended CONNECT (RFC 8441 §5.1).

    Returns the fields without the WebSocket key, and the key: what the answer has to prove on
    HTTP/1 (:func:`accept_websocket`).
    """
    key = next((value for name, value in fields if name == b"sec-websocket-key"), None)
    return _without(fields, _WEBSOCKET_KEYS | _LENGTH), key


def connect_to_upgrade(fields: Fields, key: bytes) -> Fields:
    """An extended CONNECT's fields as those of an HTTP/1 GET with ``upgrade`` (RFC 8441 §5.1).

    *key* is 16 random bytes; they are sent in base64.
    """
    kept = _without(fields, _WEBSOCKET_KEYS | _LENGTH)
    kept.append((b"sec-websocket-key", base64.b64encode(key)))
    return kept


def accept_websocket(key: bytes) -> bytes:
    """The value of ``sec-websocket-accept`` for the value of ``sec-websocket-key`` (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())


def _without(fields: Fields, names: frozenset[bytes]) -> Fields:
    return [field for field in fields if field[0] not in names]


def _append(fields: Fields, name: bytes, hop: bytes) -> Fields:
    """One more member for a list-valued field: in the last field of that name, or a new one."""
    for index in range(len(fields) - 1, -1, -1):
        if fields[index][0] == name:
            value = b"%b, %b" % (fields[index][1], hop) if fields[index][1] else hop
            return [*fields[:index], (name, value), *fields[index + 1 :]]
    return [*fields, (name, hop)]


def _contains(value: bytes, needle: bytes) -> bool:
    at = value.find(needle)
    while at >= 0:
        end = at + len(needle)
        if value[max(at - 1, 0) : at] in _SEPARATORS and value[end : end + 1] in _SEPARATORS:
            return True
        at = value.find(needle, end)
    return False


def _quoted(value: bytes) -> bytes:
    if _is_token(value) is not None:
        return value
    if _unquotable(value) is not None:
        raise ValueError("control character in a forwarded value")
    return _quote(value)


def _quote(value: bytes) -> bytes:
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
