"""How a line is made of an exchange: whatever a peer sent, it stays one line, and JSON stays JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final

from meshcore.http.log_template import JSON_FORMATS, TEXT_FORMATS, Field, Template, templates
from meshcore.http.trace_ids import noted
from meshcore.layers.access_log.exchange import LONGEST, told
from meshcore.layers.access_log.fields import (
    COMMON,
    CONSTANT,
    GETTERS,
    PLAIN,
    RAW,
    SECONDS,
    error_of,
    grpc_status,
    time_stamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from meshcore.layers.access_log.exchange import Exchange, Logged

__all__ = ["Format"]

# Where a value stands.
_VALUE: Final = 0
"""A value of JSON."""
_INSIDE: Final = 1
"""Between quotes."""
_WORD: Final = 2
"""A word of a line of text."""

_ABSENT: Final = ("null", "-", "-")
_MASK: Final = b"***"
_PLAIN_WORD: Final = bytes(set(range(0x21, 0x7F)) - set(b'"=\\'))
_SHORTER: Final = (256, 32)
"""Bytes of each value in a line that is too long otherwise."""
_DIGITS: Final = [f"{number:03d}" for number in range(1000)]
_MOST_SHAPES: Final = 1_024
_LARGEST_SHAPE: Final = 4_096
_LARGEST: Final = 512
"""Bytes that may tell one shape from another."""


class Piece:
    """A field in its place.

    Attributes:
        name: the field's.
        slot: its place among the parts of a line; -1: it is part of a shape.
    """

    __slots__ = ("_index", "_masked", "_said", "get", "kind", "name", "place", "slot")

    def __init__(self, field: Field, place: int, index: int) -> None:
        get, kind = GETTERS.get(field.name, (time_stamp, RAW))
        self.name: str = field.name
        self.get: Callable[[Exchange], Any] = get
        self.kind: int = kind
        self.place: int = place
        self.slot: int = -1
        # Of a header field: its number among those of its message.
        self._index: int = index
        self._said: bool = field.name == "response"
        self._masked: bool = field.masked
        if index >= 0:
            self.get = self._header

    def _header(self, x: Exchange) -> bytes | None:
        values = x.lines.format.said if self._said else x.told
        value = None if values is None else values[self._index]
        return _MASK if value is not None and self._masked else value

    def render(self, x: Exchange, limit: int) -> str:
        """The field of an exchange."""
        value = self.get(x)
        if value is None:
            return _ABSENT[self.place]
        if self.kind <= PLAIN:
            plain: str = value
            return plain
        if self.kind == SECONDS:
            return _seconds(value)
        return _escaped(value, self.place, limit)


def _seconds(value: float) -> str:
    """With six decimals; three times as fast as by the standard library."""
    microseconds = int(value * 1e6 + 0.5)
    milliseconds = microseconds // 1000
    seconds = milliseconds // 1000
    whole = str(seconds) if seconds else "0"
    return whole + "." + _DIGITS[milliseconds - seconds * 1000] + _DIGITS[microseconds - milliseconds * 1000]


def _escaped(value: Any, place: int, limit: int) -> str:
    if isinstance(value, bytes):
        text = (value if len(value) <= limit else value[:limit]).decode("utf-8", "backslashreplace")
    else:
        text = value if len(value) <= limit else value[:limit]
    if place == _WORD:
        if not text:
            return "-"
        if not text.encode("ascii", "replace").translate(None, _PLAIN_WORD) and text.isascii():
            return text
    # Everything outside printable ASCII is escaped, line ends among it.
    escaped: str = encode_basestring_ascii(text)
    if "\x7f" in escaped:
        escaped = escaped.replace("\x7f", "\\u007f")
    return escaped[1:-1] if place == _INSIDE else escaped


class Format:
    """How lines look.

    What many requests have in common (method, status, route …) is made once for all that look alike: such a shape is a
    line with gaps for the rest.

    Args:
        name: one of ``FORMATS``, where nothing of one's own is given.
        template: a line of text.
        fields: the keys of a line of JSON and what each says.
        reveal: header fields that look like secrets and are told all the same.
        max_line: characters of a line at the most, its end left out.

    Attributes:
        offset: what the epoch is ahead of Trio's clock, in seconds; None: the wall clock is not known.
        headers, answer_headers: numbers of the header fields that lines name, by name.
        names: the fields that lines name.
        user_agent, trace_id, span_id, said: of the line that is made at the moment.

    Raises:
        ConfigError: a template is wrong.
    """

    def __init__(
        self,
        name: str = "text",
        *,
        template: str = "",
        fields: Mapping[str, str] | None = None,
        reveal: Iterable[str] = (),
        max_line: int = 8_192,
    ) -> None:
        reveal = tuple(reveal)
        self.headers: dict[bytes, int] = {}
        self.answer_headers: dict[bytes, int] = {}
        self.names: set[str] = set()
        self.offset: float | None = None
        self.user_agent: bytes | None = None
        self.trace_id = b""
        self.span_id = b""
        self.said: list[bytes | None] | None = None
        # Of endpoints, as text.
        self.addresses: dict[tuple[str, int], str] = {}
        self._parts: list[Any] = []
        self._max = max_line
        self._second = -1
        self._millisecond = -1
        self._day = ""
        self._stamp = ""
        self._shapes: dict[Any, list[str]] = {}
        keys = fields or (JSON_FORMATS.get(name) if not template else None)
        self.json: bool = keys is not None
        if keys is not None:
            self._json(templates(keys, reveal=reveal))
        else:
            for part in Template.parse(template or TEXT_FORMATS[name], reveal=reveal).parts:
                self._add(part, _INSIDE if isinstance(part, Field) and part.quoted else _WORD)
        pieces = [part for part in self._parts if isinstance(part, Piece) and part.name not in COMMON]
        for number, piece in enumerate(pieces):
            piece.slot = 2 * number + 1
        self._constant: list[Piece] = [piece for piece in pieces if piece.name in CONSTANT]
        self._variable: list[Piece] = [piece for piece in pieces if piece.name not in CONSTANT]
        self._looks = not self.names.isdisjoint({"user_agent", "trace_id", "span_id"})
        self._grpc = "grpc_status" in self.names
        self._errors = "error" in self.names

    def __repr__(self) -> str:
        return f"<Format {'json' if self.json else 'text'} of {len(self.names)} fields>"

    def _json(self, found: Mapping[str, Template]) -> None:
        before = "{"
        for key, template in found.items():
            self._parts.append(f"{before}{json.dumps(key)}: ")
            before = ", "
            parts = template.parts
            if len(parts) == 1 and isinstance(parts[0], Field) and GETTERS.get(parts[0].name, ("", RAW))[1] != PLAIN:
                # A value of its own: a number stays one, and what is absent is null.
                self._add(parts[0], _VALUE)
                continue
            self._parts.append('"')
            for part in parts:
                self._add(json.dumps(part)[1:-1] if isinstance(part, str) else part, _INSIDE)
            self._parts.append('"')
        self._parts.append("}" if found else "{}")

    def _add(self, part: str | Field, place: int) -> None:
        if isinstance(part, str):
            self._parts.append(part)
            return
        index = -1
        if part.header:
            numbers = self.answer_headers if part.name == "response" else self.headers
            index = numbers.setdefault(part.header, len(numbers))
        else:
            self.names.add(part.name)
        self._parts.append(Piece(part, place, index))

    def line(self, x: Exchange) -> str:
        """The line of an exchange, without its end."""
        request, response, logged = x.request, x.response, x.logged
        if logged.known is not request.connection:
            self._connection(logged, x)
        if self._looks:
            self.user_agent, self.trace_id, self.span_id = noted(request.headers.raw)
        status = 0
        if response is not None:
            status = response.status
            if self.answer_headers:
                self.said = told(response.headers.raw, self.answer_headers)
        else:
            self.said = None
        shape = (
            x.method,
            x.authority,
            request.version,
            status,
            request.route,
            request.backend,
            len(request.avoid),
            self.user_agent,
            error_of(x) if self._errors else None,
            grpc_status(x) if self._grpc else None,
        )
        pattern = self._shapes.get(shape)
        if pattern is None:
            pattern = self._shape(shape, x)
        parts = pattern.copy()
        values = logged.values
        for index in range(len(values)):
            parts[self._constant[index].slot] = values[index]
        for piece in self._variable:
            parts[piece.slot] = piece.render(x, LONGEST)
        # Several times as fast as a pattern with %s in it.
        line = "".join(parts)
        return line if len(line) <= self._max else self._cut(x)

    def _connection(self, logged: Logged, x: Exchange) -> None:
        """Makes what all requests of a connection have in common."""
        logged.values = [piece.render(x, LONGEST) for piece in self._constant]
        logged.known = x.request.connection

    def _shape(self, shape: tuple[Any, ...], x: Exchange) -> list[str]:
        """Makes the shape of an exchange: text and gaps in turns.  Keeps it, unless somebody makes it large."""
        pattern = [""]
        for part in self._parts:
            if isinstance(part, Piece) and part.slot >= 0:
                pattern += ("", "")
            else:
                pattern[-1] += part if isinstance(part, str) else part.render(x, LONGEST)
        size = len(x.method) + len(x.authority) + len(self.user_agent or b"") + len(shape[8] or b"")
        if size < _LARGEST and sum(map(len, pattern)) <= _LARGEST_SHAPE:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = pattern
        return pattern

    def _cut(self, x: Exchange) -> str:
        for limit in _SHORTER:
            line = "".join(part if isinstance(part, str) else part.render(x, limit) for part in self._parts)
            if len(line) <= self._max:
                return line
        if self.json:
            # Half of it would not be JSON any more.
            return f'{{"time": "{self.stamp(x.ended_at)}", "cut": true}}'
        return line[: self._max - 3] + "..."

    def lost(self, count: int) -> str:
        """The line that says how many others there are not."""
        return f'{{"dropped": {count}}}' if self.json else f"dropped={count}"

    def stamp(self, at: float) -> str:
        """A time of Trio's clock, for people."""
        if self.offset is None:
            return f"{at:.3f}s"
        offset: float = self.offset
        milliseconds = int((at + offset) * 1000.0)
        if milliseconds != self._millisecond:
            # Many requests end within the same one.
            self._millisecond = milliseconds
            second = milliseconds // 1000
            if second != self._second:
                self._second = second
                self._day = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._stamp = self._day + _DIGITS[milliseconds - second * 1000] + "Z"
        return self._stamp
