"""Where a request stands in a trace, read from its fields and written into them: W3C, gRPC's binary field, B3.

What is malformed is as good as absent: a trace is never a reason to refuse a request.  Sources: W3C Trace Context,
level 1; OpenCensus' ``grpc-trace-bin``; the B3 propagation specification; M-17 for the order in which they are read.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.codec.events import Fields
    from meshcore.http.headers import Headers

__all__ = [
    "B3",
    "B3_SINGLE",
    "DEBUG",
    "FIELDS",
    "FORMATS",
    "GRPC",
    "ORDER",
    "RANDOM",
    "SHORT",
    "UNRECORDED",
    "W3C",
    "Joint",
    "Link",
    "read",
    "trace_state",
]

W3C: Final = 1
GRPC: Final = 2
B3: Final = 4
"""The fields ``x-b3-…``."""
B3_SINGLE: Final = 8
"""The one field ``b3``."""

RANDOM: Final = 1
"""The ``traceparent`` says that the trace's id is random."""
DEBUG: Final = 2
"""B3 says that the trace is to be recorded in any case."""
SHORT: Final = 4
"""B3's trace id had 16 digits."""

FORMATS: Final = {"w3c": W3C, "grpc": GRPC, "b3": B3}
"""By the word of the configuration: what a trace that begins here is written in.  ``b3`` reads both kinds."""
ORDER: Final = ("w3c", "grpc", "b3")
"""In which they are read (M-17): the first that is whole counts."""

_RANDOM: Final = 2
_ENDS: Final = (b"-00", b"-01", b"-02", b"-03")
"""By the flags that are written."""
_NONE: Final = b""
_LONGEST_STATE: Final = 512

_TRACEPARENT: Final = b"traceparent"
_TRACESTATE: Final = b"tracestate"
_GRPC: Final = b"grpc-trace-bin"
_SINGLE: Final = b"b3"
_TRACE_ID: Final = b"x-b3-traceid"
_SPAN_ID: Final = b"x-b3-spanid"
_PARENT_ID: Final = b"x-b3-parentspanid"
_SAMPLED: Final = b"x-b3-sampled"
_FLAGS: Final = b"x-b3-flags"
_NAMES: Final = frozenset((_TRACEPARENT, _GRPC, _SINGLE, _TRACE_ID, _SPAN_ID, _SAMPLED, _FLAGS))
FIELDS: Final = _NAMES | {_TRACESTATE}
"""All that a request may say of a trace."""

_parent: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch
_single: Final = re.compile(
    rb"([0-9a-fA-F]{32}|[0-9a-fA-F]{16})-([0-9a-fA-F]{16})(?:-([01d])(?:-[0-9a-fA-F]{16})?)?"
).fullmatch
_trace: Final = re.compile(rb"[0-9a-fA-F]{32}|[0-9a-fA-F]{16}").fullmatch
_span: Final = re.compile(rb"[0-9a-fA-F]{16}").fullmatch
_ZERO_TRACE: Final = b"0" * 32
_ZERO_SPAN: Final = b"0" * 16
_YES: Final = {b"1": True, b"true": True, b"0": False, b"false": False}


class Link:
    """A request's place in a trace.

    Attributes:
        trace: the trace, 32 hex digits in lower case; ``b""``: only a decision came, and no trace.
        span: the span, 16 of them; ``b""``: a trace that begins here.
        sampled: whether its spans are recorded; None: whoever sent it leaves that open.
        formats: what it came in, and goes on in: a sum of ``W3C``, ``GRPC``, ``B3``, ``B3_SINGLE``.
        marks: what else is said: a sum of ``RANDOM``, ``DEBUG``, ``SHORT``.
        own: it is of this process.
        state: ``tracestate``, where it is known.
        backend: the name of the backend that the request was sent to last; set by ``Balance``.
    """

    __slots__ = ("backend", "formats", "marks", "sampled", "span", "trace")

    # Of those that are more than a link: most are made for a request that nobody records.
    own: bool = False
    state: str = ""

    def __init__(self, trace: bytes, span: bytes, sampled: bool | None, formats: int, marks: int = 0) -> None:
        self.trace = trace
        self.span = span
        self.sampled = sampled
        self.formats = formats
        self.marks = marks
        self.backend = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.trace_id}/{self.span_id} sampled={self.sampled}>"

    @property
    def trace_id(self) -> str:
        """The trace, 32 hex digits in lower case."""
        return self.trace.decode("ascii")

    @property
    def span_id(self) -> str:
        """The span, 16 hex digits in lower case."""
        return self.span.decode("ascii")

    def write(self, headers: Headers, parent: bytes = _NONE) -> None:
        """Puts it into a request's fields, in every format that it came in; ``tracestate`` stays as it is.

        Args:
            headers: the fields.
            parent: the span above it, which B3 tells as well; ``b""``: that is not known.
        """
        formats = self.formats
        if formats != W3C:
            self._write_others(headers, formats, parent)
        if formats & W3C:
            flags = (self.marks & RANDOM) * _RANDOM + bool(self.sampled)
            # Last, where codecs expect what is never the same again.
            headers.remove(_TRACEPARENT)
            headers.add(_TRACEPARENT, b"00-%b-%b%b" % (self.trace, self.span, _ENDS[flags]))

    def _write_others(self, headers: Headers, formats: int, parent: bytes) -> None:
        if formats & GRPC:
            data = bytes.fromhex(f"0000{self.trace_id}01{self.span_id}02{int(bool(self.sampled)):02x}")
            headers.set(_GRPC, binascii.b2a_base64(data, newline=False).rstrip(b"="))
        trace = self.trace[16:] if self.marks & SHORT else self.trace
        if formats & B3_SINGLE:
            parts = [trace, self.span]
            if self.sampled is not None:
                parts.append(b"d" if self.marks & DEBUG else b"1" if self.sampled else b"0")
                if parent:
                    parts.append(parent)
            headers.set(_SINGLE, b"-".join(parts))
        if formats & B3:
            headers.set(_TRACE_ID, trace)
            headers.set(_SPAN_ID, self.span)
            if parent:
                headers.set(_PARENT_ID, parent)
            if self.marks & DEBUG:
                headers.set(_FLAGS, b"1")
            elif self.sampled is not None:
                # The one would overrule the other.
                headers.remove(_FLAGS)
                headers.set(_SAMPLED, b"1" if self.sampled else b"0")


UNRECORDED: Final = Link(b"", b"", False, W3C)
"""The place of every request whose trace begins here and is not recorded: it stands in the request's fields, where
``Request.trace`` reads it if somebody wants to know."""


class Joint(Link):
    """A place that is not from a request's fields, but from whoever else traces in this process.

    Attributes:
        token: what that one knows it by.
    """

    __slots__ = ("own", "state", "token")

    def __init__(
        self, trace: bytes, span: bytes, sampled: bool, marks: int, *, own: bool, state: str, token: object
    ) -> None:
        super().__init__(trace, span, sampled, W3C, marks)
        self.own = own
        self.state = state
        self.token = token


def read(fields: Fields, order: Sequence[str] = ORDER) -> Link | None:
    """What the fields of a request say; None where they say nothing, or nothing that is whole.

    A field that is there twice is not believed.  Of several formats the first in *order* that is whole tells; the
    others that are whole go on with it.

    Args:
        fields: the request's.
        order: the formats that are read, of :data:`FORMATS`.
    """
    found: dict[bytes, bytes] | None = None
    for name, value in fields:
        if name in _NAMES:
            if found is None:
                found = {name: value}
            else:
                found[name] = _NONE if name in found else value
    if found is None:
        return None
    chosen: Link | None = None
    for word in order:
        link = _READERS[word](found)
        if link is None:
            continue
        if chosen is None:
            chosen = link
            if len(found) == 1:
                return link
        elif link.trace or not chosen.trace:
            chosen.formats |= link.formats
            if not chosen.trace and link.trace:
                # A trace tells more than a decision alone.
                link.formats = chosen.formats
                chosen = link
    return chosen


def trace_state(fields: Fields) -> str:
    """The ``tracestate`` of a request, of several fields one; ``""`` without, or if it is longer than it may be."""
    values = [value for name, value in fields if name == _TRACESTATE]
    if not values or sum(map(len, values)) > _LONGEST_STATE:
        return ""
    return b",".join(values).decode("ascii", "replace")


def _w3c(found: dict[bytes, bytes]) -> Link | None:
    value = found.get(_TRACEPARENT)
    if value is None:
        return None
    match = _parent(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    # Versions to come may say more behind a hyphen; this one may not, and ff is none.
    if (more is not None and version == b"00") or version == b"ff" or trace == _ZERO_TRACE or span == _ZERO_SPAN:
        return None
    bits = int(flags, 16)
    return Link(trace, span, bool(bits & 1), W3C, RANDOM if bits & _RANDOM else 0)


def _grpc(found: dict[bytes, bytes]) -> Link | None:
    value = found.get(_GRPC)
    # 29 bytes; one of a version to come may have more fields, behind these.
    if not value or len(value) > 128:
        return None
    try:
        data = binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error:
        return None
    if len(data) < 27 or data[0] or data[1] != 0 or data[18] != 1:
        return None
    flags = 0
    if len(data) > 27:
        if len(data) != 29 or data[27] != 2:
            return None
        flags = data[28]
    trace, span = data[2:18].hex().encode(), data[19:27].hex().encode()
    if trace == _ZERO_TRACE or span == _ZERO_SPAN:
        return None
    return Link(trace, span, bool(flags & 1), GRPC)


def _b3(found: dict[bytes, bytes]) -> Link | None:
    one, many = _one_b3(found.get(_SINGLE)), _many_b3(found)
    if one is None or many is None:
        return many if one is None else one
    if not one.trace and many.trace:
        one, many = many, one
    one.formats |= many.formats if many.trace or not one.trace else 0
    return one


def _one_b3(value: bytes | None) -> Link | None:
    if value is None:
        return None
    if value in (b"0", b"1", b"d"):
        return Link(_NONE, _NONE, value != b"0", B3_SINGLE, DEBUG if value == b"d" else 0)
    match = _single(value)
    if match is None:
        return None
    sampled: bytes | None = match[3]
    debug = DEBUG if sampled == b"d" else 0
    return _b3_link(match[1], match[2], None if sampled is None else sampled != b"0", debug, B3_SINGLE)


def _many_b3(found: dict[bytes, bytes]) -> Link | None:
    trace, span = found.get(_TRACE_ID), found.get(_SPAN_ID)
    debug = DEBUG if found.get(_FLAGS) == b"1" else 0
    sampled = True if debug else _YES.get(found.get(_SAMPLED, _NONE))
    if trace is None and span is None:
        return None if sampled is None else Link(_NONE, _NONE, sampled, B3, debug)
    if trace is None or span is None or not _trace(trace) or not _span(span):
        return None
    return _b3_link(trace, span, sampled, debug, B3)


def _b3_link(trace: bytes, span: bytes, sampled: bool | None, marks: int, form: int) -> Link | None:
    if len(trace) == 16:
        marks |= SHORT
    whole = trace.lower().rjust(32, b"0")
    span = span.lower()
    if whole == _ZERO_TRACE or span == _ZERO_SPAN:
        return None
    return Link(whole, span, sampled, form, marks)


_READERS: Final[dict[str, Callable[[dict[bytes, bytes]], Link | None]]] = {"w3c": _w3c, "grpc": _grpc, "b3": _b3}
