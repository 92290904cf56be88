"""httptools as the engine.

A parser is made for each head and given nothing else, which keeps it away from everything that
llhttp decides differently about bodies, upgrades, HEAD and pipelining.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from meshcore.codec.h1.control import SPECIAL
from meshcore.codec.h1.engines import Engine, Split

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["ENGINE"]

# llhttp refuses methods it does not know, and RTSP's where the version is HTTP: any other token is
# parsed under a stand-in.
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_STAND_IN: Final = b"GET"


class _Sink:
    __slots__ = ("fields", "special")

    def __init__(self) -> None:
        self.fields: Fields = []
        self.special: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        field = (name.lower(), value.rstrip(b" \t"))
        self.fields.append(field)
        if field[0] in SPECIAL:
            self.special.append(field)


class _CompleteSink(_Sink):
    """Knows, too, whether the head was parsed to its end."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        super().__init__()
        self.complete = False

    def on_headers_complete(self) -> None:
        self.complete = True


def split_request(head: bytes, method: bytes) -> Split:
    if method not in _METHODS:
        head = _STAND_IN + head[len(method) :]
    return _recall(HttpRequestParser, head, _request_lines)


def split_response(head: bytes) -> Split:
    return _recall(HttpResponseParser, head, _response_lines)


# Field lines that llhttp has accepted, and what it made of them: clients and servers say the same few
# lines all day, and a look-up costs a tenth of a callback.  Lines that differ each time are parsed.
_MOST: Final = 4_096
_LONGEST: Final = 256
_request_lines: Final[dict[bytes, tuple[bytes, bytes]]] = {}
_response_lines: Final[dict[bytes, tuple[bytes, bytes]]] = {}


def _recall(parser: Any, head: bytes, known: dict[bytes, tuple[bytes, bytes]]) -> Split:
    """The fields of a scanned head, from memory where it has the line and from llhttp where not."""
    lines = head.split(b"\r\n")
    fields: Fields = []
    special: Fields = []
    strange: list[bytes] | None = None
    for line in lines[1:-2]:
        field = known.get(line)
        if field is None:
            if strange is None:
                strange = [lines[0]]
            strange.append(line)
            field = _STRANGE
        elif field[0] in SPECIAL:
            special.append(field)
        fields.append(field)
    if strange is None and fields:
        return fields, special
    if strange is None:
        return _split(parser, head)
    # The new lines under the same first line, in a head of their own.
    whole = len(strange) == len(fields) + 1
    learnt, new_special = _split(parser, head if whole else b"%b\r\n\r\n" % b"\r\n".join(strange))
    if len(learnt) != len(strange) - 1:
        return learnt, new_special
    for line, field in zip(strange[1:], learnt, strict=True):
        if len(line) <= _LONGEST:
            if len(known) >= _MOST:
                known.clear()
            known[line] = field
    if whole:
        return learnt, new_special
    news = iter(learnt)
    fields = [next(news) if field is _STRANGE else field for field in fields]
    return fields, [field for field in fields if field[0] in SPECIAL] if new_special else special


_STRANGE: Final = (b"", b"")


def _split(parser: Any, head: bytes) -> Split:
    sink = _Sink()
    try:
        parser(sink).feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        # llhttp may only dislike what would come after the head, such as a 101 without `upgrade`.
        sink = _CompleteSink()
        try:
            parser(sink).feed_data(head)
        except HttpParserError as error:
            if not sink.complete:
                raise ValueError(str(error)) from error
    return sink.fields, sink.special


ENGINE: Final = Engine("httptools", split_request, split_response)
