"""The strict rules for fields and messages that every engine of both protocols stands behind.

Everything here is a pure function of bytes.  A predicate answers a question, a ``check_`` function
raises :class:`~meshcore.errors.RemoteProtocolError` (what a peer sent) or whatever error class the
caller passes (what this side is about to send).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from meshcore.errors import MeshError, RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = [
    "CONNECTION_FIELDS",
    "END_TO_END_FIELDS",
    "FRAMING_FIELDS",
    "REFUSED_TRAILERS",
    "UNTRUSTED_TRAILERS",
    "VOLATILE",
    "VOUCHED",
    "Vouched",
    "authority_host",
    "check_fields",
    "check_trailers",
    "fields_are_valid",
    "is_authority",
    "is_authority_with_port",
    "is_field_name",
    "is_field_value",
    "is_method",
    "is_path",
    "is_protocol",
    "is_reserved",
    "is_volatile_value",
    "join_cookies",
    "join_fields",
    "parse_content_length",
    "tokens",
]

CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
"""Fields of one connection: stripped on HTTP/1, malformed on HTTP/2 (RFC 9113 §8.2.2; D-29).

``http2-settings`` is not one for RFC 9113, and is never sent on by either protocol."""

FRAMING_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))
"""Fields that decide where a message ends or goes; a ``connection`` option may not name them."""

VOLATILE: Final = b"traceparent"
"""The field that no two requests have in common: what is remembered of it would only take the place of others."""


class Vouched:
    """The last field of that name that was made in this process, and is valid therefore: who sends it need not look.

    It is sent at once, mostly, and is found by what it is; another one is looked at as all are.

    Attributes:
        field: the field.
        value: its value.
    """

    __slots__ = ("field", "value")

    def __init__(self) -> None:
        self.field: object = None
        self.value = b""

    def vouch(self, field: object, value: bytes) -> None:
        """For *field*, which says *value*."""
        self.field = field
        self.value = value

    def has(self, field: object) -> bool:
        """Whether it is this one."""
        return field is self.field


VOUCHED: Final = Vouched()

REFUSED_TRAILERS: Final = CONNECTION_FIELDS | FRAMING_FIELDS | {b"te", b"trailer", b"expect"}
"""A trailer section with one of these is an attack or broken: the message is refused (RFC 9110 §6.5.1)."""

UNTRUSTED_TRAILERS: Final = frozenset(
    (
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expires",
        b"forwarded",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    )
)
"""Fields that mean nothing in a trailer section and would be merged by the naive: dropped."""

END_TO_END_FIELDS: Final = UNTRUSTED_TRAILERS | {b"x-real-ip", b"x-request-id", b"traceparent", b"tracestate"}
"""Fields that a ``connection`` option cannot strip: they are for whoever receives the content (RFC 9110 §7.6.1)."""

RESERVED_PREFIXES: Final = (b"l5d-", b"l5d_", b"x-meshcore-", b"x_meshcore_", b"x-meshcore_", b"x_meshcore-")
"""Names that proxies say to each other and to the application; a peer's trailers may not forge them.

With an underscore they are the same to an application behind CGI or WSGI, which reads both as ``HTTP_L5D_…``.
"""

_TCHAR: Final = rb"!#$%&'*+.^_`|~0-9A-Za-z-"
_LOWER: Final = rb"!#$%&'*+.^_`|~0-9a-z-"
_TEXT: Final = rb"\t\x20-\x7e\x80-\xff"

_match_name: Final = re.compile(rb"[%b]+" % _LOWER).fullmatch
_match_value: Final = re.compile(rb"(?![\t ])[%b]*+(?<![\t ])" % _TEXT).fullmatch
_match_block: Final = re.compile(rb"(?:[%b]++\0(?![\t ])[%b]*+(?<![\t ])\n)*+" % (_LOWER, _TEXT)).fullmatch
_match_method: Final = re.compile(rb"[%b]{1,64}" % _TCHAR).fullmatch
_match_path: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*+").fullmatch
_match_authority: Final = re.compile(
    rb"(?:[0-9A-Za-z._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})++(?::[0-9]{0,5})?|\[[0-9A-Fa-f:.]{2,45}(?:%[0-9A-Za-z._~%-]{1,32})?\](?::[0-9]{0,5})?"
).fullmatch
_match_port: Final = re.compile(rb".*[^:]:[0-9]{1,5}").fullmatch
_match_protocol: Final = re.compile(rb"[%b]{1,64}(?:/[%b]{1,64})?" % (_TCHAR, _TCHAR)).fullmatch

_join_nul: Final = b"\0".join

_LENGTH_END: Final = 1 << 63


def is_field_name(name: bytes) -> bool:
    """Whether *name* is a lower-case token (RFC 9110 §5.1, RFC 9113 §8.2.1)."""
    return _match_name(name) is not None


def is_field_value(value: bytes) -> bool:
    """Whether *value* has no control character but tab and no outer white space (RFC 9110 §5.5)."""
    return _match_value(value) is not None


def is_volatile_value(value: bytes) -> bool:
    """The same of a value of :data:`VOLATILE`, in less time for what it mostly is."""
    return value.replace(b"-", b"").isalnum() or _match_value(value) is not None


def fields_are_valid(fields: Fields) -> bool:
    """Whether every name and value is valid; pseudo-header fields are not (take them out first).

    One match for all of them.
    """
    return join_fields(fields) is not None


def join_fields(fields: Fields) -> bytes | None:
    """``name NUL value LF`` for each field, or None where one is not valid.

    Neither a name nor a value may contain what divides them, so that one match judges all.
    """
    if not fields:
        return b""
    block = b"\n".join(map(_join_nul, fields)) + b"\n"
    return block if _match_block(block) is not None and block.count(b"\n") == len(fields) else None


def check_fields(fields: Fields, error: type[MeshError] = RemoteProtocolError) -> None:
    """Raises *error*, naming the field, unless :func:`fields_are_valid`."""
    if fields_are_valid(fields):
        return
    name = next(name for name, value in fields if _match_name(name) is None or _match_value(value) is None)
    if _match_name(name) is None:
        raise error(f"field name not valid: {_shown(name)}")
    raise error(f"value of {_shown(name)} not valid")


def is_method(method: bytes) -> bool:
    """Whether *method* is a token of at most 64 bytes."""
    return _match_method(method) is not None


def is_path(path: bytes) -> bool:
    """Whether *path* begins with a slash and has neither white space, fragment nor a byte above 0x7e."""
    return _match_path(path) is not None


def is_authority(authority: bytes) -> bool:
    """Whether *authority* is ``host[:port]``: no user information, no list, no space, not empty.

    A port may be empty (RFC 3986 §3.2.3) and may not exceed 65535.
    """
    if _match_authority(authority) is None:
        return False
    _, colon, port = authority.rpartition(b":")
    return not colon or not port.isdigit() or int(port) <= 65_535


def is_authority_with_port(authority: bytes) -> bool:
    """Whether *authority* is ``host:port`` as CONNECT needs it (RFC 9110 §9.3.6)."""
    return is_authority(authority) and _match_port(authority) is not None


def authority_host(authority: bytes) -> bytes:
    """The host of a valid *authority* in lower case, without port, brackets kept."""
    host, colon, port = authority.rpartition(b":")
    return (host if colon and port[-1:] != b"]" else authority).lower()


def is_protocol(protocol: bytes) -> bool:
    """Whether *protocol* is a name or ``name/version`` for ``upgrade`` (RFC 9110 §7.8)."""
    return _match_protocol(protocol) is not None


def is_reserved(name: bytes) -> bool:
    """Whether *name* is one of linkerd's or our own control fields: ``l5d-*``, ``x-meshcore-*``, in any spelling."""
    return name.startswith(RESERVED_PREFIXES)


def parse_content_length(value: bytes) -> int | None:
    """The number, or None where *value* is not digits alone, or 2⁶³ or more (RFC 9110 §8.6)."""
    if not value.isdigit() or len(value) > 19:
        return None
    length = int(value)
    return length if length < _LENGTH_END else None


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case, empty ones left out (RFC 9110 §5.6.1)."""
    return [stripped for part in value.lower().split(b",") if (stripped := part.strip(b" \t"))]


def check_trailers(fields: Fields, error: type[MeshError] = RemoteProtocolError) -> Fields:
    """The trailers that may be passed on.

    Fields that would smuggle framing, routing or connection options are refused; those that mean
    nothing after the content, and reserved names, are left out (RFC 9110 §6.5.1).

    Raises:
        RemoteProtocolError: (or *error*) a field of :data:`REFUSED_TRAILERS`.
    """
    kept: Fields = []
    for field in fields:
        name = field[0]
        if name in REFUSED_TRAILERS:
            raise error(f"trailer field not allowed: {_shown(name)}")
        if name not in UNTRUSTED_TRAILERS and not name.startswith(RESERVED_PREFIXES):
            kept.append(field)
    return kept


def join_cookies(fields: Fields) -> Fields:
    """The fields with all ``cookie`` crumbs joined by ``"; "`` where the first was (RFC 9113 §8.2.3)."""
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    joined: Fields = []
    for field in fields:
        if field[0] != b"cookie":
            joined.append(field)
        elif crumbs:
            joined.append((b"cookie", b"; ".join(crumbs)))
            crumbs = []
    return joined


def _shown(name: bytes) -> str:
    return repr(name[:64])[1:]
