"""What a line of an access log may say, and templates of such lines: ``%{method} %{path} %{header.x-tenant}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from meshcore.addresses import suggest
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ALIASES",
    "FIELDS",
    "FORMATS",
    "JSON_FORMATS",
    "TEXT_FORMATS",
    "Field",
    "Template",
    "is_secret",
    "templates",
]

FIELDS: dict[str, str] = {
    "time": "when the exchange ended, as 2026-11-23T12:00:00.000Z",
    "direction": "inbound, outbound or gateway",
    "listener": "the listener's name",
    "client": "the client's address and port",
    "client_id": "the client's verified identity",
    "server": "the address and port that it came to",
    "tls": "whether it came over TLS",
    "method": "the method",
    "scheme": "http or https",
    "authority": "host and port that it was for",
    "path": "path and query",
    "pathname": "the path alone",
    "uri": "scheme, authority and path in one",
    "version": "HTTP/1.0, HTTP/1.1 or HTTP/2.0",
    "status": "the answer's HTTP status",
    "grpc_status": "its gRPC status, a number",
    "request_bytes": "bytes of the request's body",
    "response_bytes": "bytes of the answer's body",
    "first_byte_s": "seconds to the first byte of the answer's body",
    "total_s": "seconds to the end",
    "processing_ns": "nanoseconds to the first byte",
    "total_ns": "nanoseconds to the end",
    "endpoint": "the address that it was sent to last",
    "server_id": "the identity that this endpoint had to have",
    "backend": "the name of what that endpoint is one of",
    "route": "the route that took it",
    "retries": "how often it was tried again",
    "error": "the error's code, where something broke or the proxy itself answered",
    "trace_id": "the trace's id, or the request's: of traceparent, x-b3-traceid, b3, x-request-id or x-amzn-trace-id",
    "span_id": "the span's id beside it",
    "user_agent": "the field user-agent",
}
"""Every field by its name, with what it is.  Further ones: ``header.NAME`` and ``response.NAME``."""

ALIASES: dict[str, str] = {
    "timestamp": "time",
    "client.addr": "client",
    "client.id": "client_id",
    "host": "authority",
}
"""linkerd's names (M-12) for fields that have others here."""

TEXT_FORMATS: dict[str, str] = {
    "text": '%{time} %{client} %{client_id} "%{method} %{authority}%{path} %{version}" %{status} '
    "direction=%{direction} server=%{server} request_bytes=%{request_bytes} response_bytes=%{response_bytes} "
    "first_byte_s=%{first_byte_s} total_s=%{total_s} route=%{route} backend=%{backend} endpoint=%{endpoint} "
    "retries=%{retries} error=%{error} grpc_status=%{grpc_status} trace_id=%{trace_id} user_agent=%{user_agent}",
    # M-11
    "apache": '%{client} %{client_id} - [%{time}] "%{method} %{uri} %{version}" %{status}',
}
"""Lines of text that have a name."""

JSON_FORMATS: dict[str, dict[str, str]] = {
    "json": {
        name: f"%{{{name}}}"
        for name in (
            *("time", "direction", "client", "client_id", "server", "method", "authority", "path", "version", "status"),
            *("grpc_status", "request_bytes", "response_bytes", "first_byte_s", "total_s", "route", "backend"),
            *("endpoint", "retries", "error", "trace_id", "user_agent"),
        )
    },
    # M-12
    "linkerd-json": {
        name: f"%{{{name}}}"
        for name in (
            *("client.addr", "client.id", "timestamp", "method", "uri", "version", "trace_id", "request_bytes"),
            *("status", "response_bytes", "total_ns", "processing_ns", "user_agent", "host"),
        )
    },
}
"""Lines of JSON that have a name: what each key says."""

FORMATS = (*TEXT_FORMATS, *JSON_FORMATS)

_SECRET = re.compile(
    r"authoriz|authentication|auth(?:-|$)|cookie|credential|passw|pwd|secret|token|session|signature|csrf|xsrf|jwt"
    r"|assertion|client-cert|api-?key|(?:access|private|auth|master|shared|subscription|functions)-?key|^x-key$"
)
_PIECE = re.compile(r"%%|%\{([^{}%]*)\}|%")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")
_PRINTABLE = re.compile(r"[ -~]*")
_MOST_FIELDS = 64
_LONGEST = 4_096


@attrs.frozen
class Field:
    """One thing that a line says.

    Attributes:
        name: of ``FIELDS``; ``"header"`` or ``"response"`` for a field of the request or the answer.
        header: the name of that field; ``b""`` without.
        masked: its value is not told, only whether there is one.
        quoted: it stands between quotes.
    """

    name: str
    header: bytes = b""
    masked: bool = False
    quoted: bool = False


@attrs.frozen
class Template:
    """Text with fields in it.

    Attributes:
        parts: text as it is, and fields, in turns as they come.
    """

    parts: tuple[str | Field, ...]

    @classmethod
    def parse(cls, text: str, *, reveal: Iterable[str] = ()) -> Template:
        """The template of a text: ``%{NAME}`` is a field, ``%%`` a per cent sign.

        Args:
            text: it.
            reveal: header fields that look like secrets and are told all the same.

        Raises:
            ConfigError: it is none: what is wrong, and what may have been meant.
        """
        problems: list[str] = []
        if not _PRINTABLE.fullmatch(text):
            problems.append("a template is one line of printable ASCII")
        if len(text) > _LONGEST:
            problems.append(f"is longer than {_LONGEST} characters")
        parts: list[str | Field] = []
        plain = ""
        end = 0
        quoted = False
        revealed = {name.lower() for name in reveal}
        for found in _PIECE.finditer(text):
            before = text[end : found.start()]
            plain += before
            quoted ^= before.count('"') % 2 == 1
            end = found.end()
            if found[0] == "%%":
                plain += "%"
            elif found[1] is None:
                where = text[found.start() : found.start() + 12]
                problems.append(f"{where!r}: a field is %{{NAME}}; a per cent sign is %%")
            else:
                field = _field(found[1], quoted, revealed, problems)
                if plain:
                    parts.append(plain)
                    plain = ""
                if field is not None:
                    parts.append(field)
        plain += text[end:]
        if plain:
            parts.append(plain)
        if sum(isinstance(part, Field) for part in parts) > _MOST_FIELDS:
            problems.append(f"has more than {_MOST_FIELDS} fields")
        if problems:
            raise ConfigError(problems)
        return cls(tuple(parts))

    @property
    def fields(self) -> list[Field]:
        """The fields in it."""
        return [part for part in self.parts if isinstance(part, Field)]


def _field(word: str, quoted: bool, revealed: set[str], problems: list[str]) -> Field | None:
    for prefix, name in (("header.", "header"), ("response.", "response")):
        if word.startswith(prefix):
            header = word.removeprefix(prefix).lower()
            if not _FIELD_NAME.fullmatch(header):
                problems.append(f"'%{{{word}}}': {header!r} is not the name of a header field")
                return None
            return Field(name, header.encode(), is_secret(header) and header not in revealed, quoted)
    known = ALIASES.get(word, word)
    if known not in FIELDS:
        near = suggest(word, [*FIELDS, *ALIASES, "header.", "response."])
        hint = near or f" (known: {', '.join(FIELDS)}, header.NAME, response.NAME)"
        problems.append(f"'%{{{word}}}': there is no field {word!r}{hint}")
        return None
    return Field(known, quoted=quoted)


def is_secret(name: str) -> bool:
    """Whether the name of a header field sounds like one whose value nobody should read, in a log or in a tap."""
    return _SECRET.search(name.lower()) is not None


def templates(fields: Mapping[str, str], *, reveal: Iterable[str] = ()) -> dict[str, Template]:
    """The templates of the keys of a line of JSON.

    Raises:
        ConfigError: with what is wrong with each.
    """
    problems: list[str] = []
    found = {}
    if len(fields) > _MOST_FIELDS:
        problems.append(f"has more than {_MOST_FIELDS} keys")
    for key, text in fields.items():
        try:
            found[key] = Template.parse(text, reveal=reveal)
        except ConfigError as error:
            problems += [f"{key}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return found
