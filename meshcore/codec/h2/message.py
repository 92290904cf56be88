"""HTTP/2 messages: header blocks to events and back, strictly (RFC 9113 §8).

Both engines stand behind these functions.  What is malformed raises :class:`Malformed` and costs its
stream, never the connection (RFC 9113 §8.1.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from hpack import NeverIndexedHeaderTuple

from meshcore.codec.events import Field, Fields, InformationalReceived, RequestReceived, ResponseReceived
from meshcore.codec.validate import (
    CONNECTION_FIELDS,
    REFUSED_TRAILERS,
    UNTRUSTED_TRAILERS,
    VOLATILE,
    check_trailers,
    is_authority,
    is_authority_with_port,
    is_field_name,
    is_field_value,
    is_method,
    is_path,
    is_protocol,
    is_reserved,
    is_volatile_value,
    parse_content_length,
)
from meshcore.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.h2.stream import Stream
    from meshcore.codec.limits import H2Limits

__all__ = ["Malformed", "MessageReader", "TooLarge", "check_sendable", "is_scheme"]

# What a field is, for the loops below; anything from METHOD on is a pseudo-header field.
PLAIN: Final = 0
COOKIE: Final = 1
HOST: Final = 2
LENGTH: Final = 3
EXPECT: Final = 4
DROPPED: Final = 5
REFUSED: Final = 6
METHOD: Final = 8
SCHEME: Final = 9
AUTHORITY: Final = 10
PATH: Final = 11
PROTOCOL: Final = 12
STATUS: Final = 13
_KIND: Final = 15

# And what it would be in trailers: an attack, or of no meaning (``check_trailers``).
_NO_TRAILER: Final = 16
_LEFT_OUT: Final = 32

_PSEUDO: Final = {
    b":method": METHOD,
    b":scheme": SCHEME,
    b":authority": AUTHORITY,
    b":path": PATH,
    b":protocol": PROTOCOL,
    b":status": STATUS,
}
_SPECIAL: Final = {
    b"cookie": COOKIE,
    b"host": HOST,
    b"content-length": LENGTH,
    b"expect": EXPECT,
    b"http2-settings": DROPPED,
}
_FORBIDDEN: Final = CONNECTION_FIELDS - {b"http2-settings"}
_match_scheme: Final = re.compile(rb"[A-Za-z][0-9A-Za-z+.-]{0,31}").fullmatch
_match_status: Final = re.compile(rb"[1-9][0-9]{2}").fullmatch

_never_indexed: Final[Any] = NeverIndexedHeaderTuple

_KNOWN_FIELDS: Final = 256
_KNOWN_SIZE: Final = 256


class Malformed(Exception):
    """A message that RFC 9113 calls malformed."""


class TooLarge(Exception):
    """A request beyond the limits of header fields.

    Attributes:
        status: 431 or 414.
    """

    def __init__(self, reason: str, status: int = 431) -> None:
        super().__init__(reason)
        self.status = status


class MessageReader:
    """Turns the header blocks of one connection into events.

    It remembers the fields found valid on *this* connection: shared between connections, how fast a
    field is accepted would tell one peer what another sent.
    """

    __slots__ = ("_count", "_known", "_path", "_sendable", "_size", "extended_connect", "limits")

    def __init__(self, limits: H2Limits) -> None:
        self.limits = limits
        self._count = limits.header_count
        self._path = limits.path_size
        # The sizes of fields stand above 16 bits that say what they are.
        self._size = (limits.header_list_size + 1 << 16) - 1
        self._sendable: set[Field] = set()
        self.extended_connect = limits.extended_connect
        self._known: dict[Field, int] = {}

    def code(self, field: Field) -> int:
        """What a field is, with its size (RFC 9113 §6.5.2) above the lowest 16 bits; remembered if it is small."""
        code = self._known.get(field)
        if code is None:
            name: bytes = field[0]
            value: bytes = field[1]
            size = len(name) + len(value)
            if name == VOLATILE:
                # Another one each time: what is remembered would only take the place of what comes again.
                return (size + 32) << 16 | (PLAIN if is_volatile_value(value) else REFUSED)
            try:
                kind = _classify(name, value)
            except Malformed:
                # Said where it is read: a field may be in a table without being in a message.
                kind = REFUSED
            if name in REFUSED_TRAILERS:
                kind |= _NO_TRAILER
            elif name in UNTRUSTED_TRAILERS or is_reserved(name):
                kind |= _LEFT_OUT
            code = (size + 32) << 16 | kind
            if size <= _KNOWN_SIZE:
                if len(self._known) >= _KNOWN_FIELDS:
                    self._known.clear()
                self._known[field] = code
        return code

    def codes(self, fields: list[Field]) -> list[int]:
        """``code`` of each."""
        known = self._known
        found: list[int] = []
        for field in fields:
            code = known.get(field)
            found.append(self.code(field) if code is None else code)
        return found

    def request(self, stream: Stream, fields: list[Field], codes: list[int], end_stream: bool) -> RequestReceived:
        """The head of a request, whose fields are *codes*; leaves its method and content-length in *stream*.

        Raises:
            Malformed: RFC 9113 §8.3.1, RFC 8441 §4.
            TooLarge: beyond ``header_list_size``, ``header_count``, ``cookie_size`` or ``path_size``.
        """
        pseudo: list[bytes | None] = [None, None, None, None, None]
        host: bytes | None = None
        length: int | None = None
        cookies: list[bytes] | None = None
        headers: list[Field] = []
        expect = regular = False
        size = 0
        for place in range(len(fields)):
            field = fields[place]
            code = codes[place]
            size += code
            kind = code & _KIND
            if not kind:
                headers.append(field)
            elif kind >= METHOD:
                if headers or regular:
                    raise Malformed("pseudo-header field after a regular one")
                if kind == STATUS or pseudo[kind - METHOD] is not None:
                    raise Malformed("repeated or unexpected pseudo-header field")
                pseudo[kind - METHOD] = field[1]
            else:
                regular = True
                if kind == COOKIE:
                    if cookies is None:
                        cookies = [field[1]]
                        headers.append(field)
                    else:
                        cookies.append(field[1])
                elif kind == LENGTH:
                    if length is not None:
                        raise Malformed("repeated content-length")
                    length = int(field[1])
                    headers.append(field)
                elif kind == HOST:
                    if host is not None:
                        raise Malformed("repeated host")
                    host = field[1]
                elif kind == EXPECT:
                    expect = True
                elif kind == REFUSED:
                    _classify(field[0], field[1])
        method, scheme, authority, path, protocol = pseudo
        if method is None:
            raise Malformed("no :method")
        if method == b"CONNECT" and protocol is None:
            if authority is None or scheme is not None or path is not None:
                raise Malformed("CONNECT takes :authority alone")
            if not is_authority_with_port(authority):
                raise Malformed("CONNECT needs host and port")
            scheme = path = b""
        else:
            if scheme is None or path is None:
                raise Malformed("no :scheme or no :path")
            if path == b"*" and method != b"OPTIONS":
                raise Malformed("asterisk-form is for OPTIONS")
            if protocol is not None and (method != b"CONNECT" or authority is None or not self.extended_connect):
                raise Malformed("unexpected :protocol")
        if host is not None:
            if authority is None:
                authority = host
            elif host != authority and host.lower() != authority.lower():
                raise Malformed("host differs from :authority")
        elif authority is None:
            authority = b""
        count = len(fields)
        if cookies is not None:
            if len(cookies) > 1:
                count -= len(cookies)
                headers = _with_cookie(headers, cookies, fields)
            if sum(map(len, cookies)) + 2 * len(cookies) - 2 > self.limits.cookie_size:
                raise TooLarge("cookies")
        if count > self._count or size > self._size:
            raise TooLarge("header fields")
        if len(path) > self._path:
            raise TooLarge("path", 414)
        if length is not None:
            if end_stream and length:
                raise Malformed("content-length without a body")
            stream.length = length
        stream.method = method
        return RequestReceived(
            stream.id,
            method,
            scheme,
            authority,
            path,
            headers,
            end_stream,
            20,
            length,
            protocol,
            False,
            expect,
        )

    def response(
        self, stream: Stream, fields: list[Field], codes: list[int], end_stream: bool
    ) -> ResponseReceived | InformationalReceived:
        """The head of a response; leaves its content-length in *stream*.

        Raises:
            Malformed: RFC 9113 §8.3.2.
            TooLarge: beyond ``header_list_size``, ``header_count`` or ``cookie_size``.
        """
        status = 0
        length: int | None = None
        headers: list[Field] = []
        size = 0
        for place in range(len(fields)):
            field = fields[place]
            code = codes[place]
            size += code
            kind = code & _KIND
            if not kind or kind in (COOKIE, HOST, EXPECT):
                headers.append(field)
            elif kind == STATUS:
                if place:
                    raise Malformed("repeated or late :status")
                status = int(field[1])
            elif kind == LENGTH:
                if length is not None:
                    raise Malformed("repeated content-length")
                length = int(field[1])
                headers.append(field)
            elif kind == REFUSED:
                _classify(field[0], field[1])
            elif kind != DROPPED:
                raise Malformed("request pseudo-header field in a response")
        if not status:
            raise Malformed("no :status")
        if len(fields) > self._count or size > self._size:
            raise TooLarge("header fields")
        if status < 200:
            if end_stream or status == 101 or length is not None:
                raise Malformed("not an informational response")
            return InformationalReceived(stream.id, status, headers)
        if length is not None and (status == 204 or (stream.method == b"CONNECT" and status < 300)):
            if length and status == 204:
                raise Malformed("content-length in a 204")
            headers = [field for field in headers if field[0] != b"content-length"]
            length = None
        if stream.method == b"HEAD" or status == 304 or status == 204:
            stream.length = 0
        elif length is not None:
            if end_stream and length:
                raise Malformed("content-length without a body")
            stream.length = length
        return ResponseReceived(stream.id, status, headers, end_stream, 20, length)

    def trailers(self, fields: list[Field], codes: list[int]) -> Fields:
        """The trailer fields that may be passed on (RFC 9113 §8.1, RFC 9110 §6.5.1).

        Raises:
            Malformed: pseudo-header fields, framing or connection-specific fields.
            TooLarge: beyond ``header_list_size`` or ``header_count``.
        """
        kept: list[Field] = []
        size = 0
        refused = False
        for place in range(len(fields)):
            field = fields[place]
            code = codes[place]
            kind = code & _KIND
            if kind >= METHOD:
                raise Malformed("pseudo-header field in trailers")
            if kind == REFUSED:
                _classify(field[0], field[1])
            size += code
            if code & _NO_TRAILER:
                refused = True
            elif not code & _LEFT_OUT:
                kept.append(field)
        if len(fields) > self._count or size > self._size:
            raise TooLarge("trailer fields")
        if refused:
            try:
                check_trailers(fields)
            except RemoteProtocolError as error:
                raise Malformed(str(error)) from None
        return kept

    def check_outgoing(self, fields: Fields) -> int:
        """Validates the regular fields of a message to be sent; its content-length, or -1.

        Raises:
            LocalProtocolError: a name or value not valid, a connection-specific field, a repeated or
                wrong content-length.
        """
        length = -1
        sendable = self._sendable
        regular: list[Field] = fields
        for field in regular:
            if field not in sendable:
                if field[0] == b"content-length":
                    number = parse_content_length(field[1])
                    if number is None or length >= 0:
                        raise LocalProtocolError("content-length not valid")
                    length = number
                else:
                    check_sendable(field, sendable)
        return length


def check_sendable(field: Field, known: set[Field]) -> None:
    """Validates a regular field, other than content-length, to be sent; *known*: where those are remembered that are.

    Raises:
        LocalProtocolError: it is not one, or one of a connection.
    """
    name: bytes = field[0]
    value: bytes = field[1]
    if not is_field_name(name) or not is_field_value(value):
        raise LocalProtocolError(f"field not valid: {name!r}")
    if name in CONNECTION_FIELDS or (name == b"te" and value.lower() != b"trailers"):
        raise LocalProtocolError(f"connection-specific field: {name!r}")
    if len(name) + len(value) <= _KNOWN_SIZE:
        if len(known) >= _KNOWN_FIELDS:
            known.clear()
        known.add(field)


def _classify(name: bytes, value: bytes) -> int:
    """What a field is.

    Raises:
        Malformed: nothing that may be in a message.
    """
    if name[:1] == b":":
        kind = _PSEUDO.get(name, 0)
        if not _pseudo_is_valid(kind, value):
            raise Malformed("pseudo-header field not valid")
        return kind
    if not is_field_name(name) or not is_field_value(value):
        raise Malformed("field not valid")
    if name in _FORBIDDEN:
        raise Malformed("connection-specific field")
    kind = _SPECIAL.get(name, PLAIN)
    if kind == PLAIN:
        if name == b"te" and value.lower() != b"trailers":
            raise Malformed("te may only say trailers")
    elif kind == LENGTH:
        if parse_content_length(value) is None:
            raise Malformed("content-length not valid")
    elif kind == HOST:
        if not is_authority(value):
            raise Malformed("host not valid")
    elif kind == EXPECT and value.lower() != b"100-continue":
        kind = PLAIN
    return kind


def is_scheme(scheme: bytes) -> bool:
    """Whether *scheme* has the form of one (RFC 3986 §3.1), of at most 32 bytes."""
    return _match_scheme(scheme) is not None


def _pseudo_is_valid(kind: int, value: bytes) -> bool:
    if kind == METHOD:
        return is_method(value)
    if kind == PATH:
        return is_path(value) or value == b"*"
    if kind == AUTHORITY:
        return is_authority(value)
    if kind == SCHEME:
        return is_scheme(value)
    if kind == STATUS:
        return _match_status(value) is not None
    return kind == PROTOCOL and is_protocol(value)


def _with_cookie(headers: list[Field], cookies: list[bytes], fields: list[Field]) -> list[Field]:
    """The fields with their one ``cookie`` replaced by all crumbs (RFC 9113 §8.2.3), which may not be put into a table
    if one of them may not (RFC 7541 §6.2.3)."""
    joined: Field = (b"cookie", b"; ".join(cookies))
    for field in fields:
        if field[0] == b"cookie" and type(field) is not tuple and not field.indexable:
            joined = _never_indexed(*joined)
            break
    return [joined if field[0] == b"cookie" else field for field in headers]
