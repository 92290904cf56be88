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
    return _split(HttpRequestParser, head)


def split_response(head: bytes) -> Split:
    return _split(HttpResponseParser, head)


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
