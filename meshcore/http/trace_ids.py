"""The ids by which several proxies know one request: read from its fields, for logs alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from meshcore.codec.events import Fields

__all__ = ["DECIDED", "DECIDES", "DIGITS", "ids_of", "limit_of", "noted", "place_of"]

_B3: Final = re.compile(rb"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-.*)?")
_AMAZON: Final = re.compile(rb"(?:.*;\s*)?Root=([0-9a-f-]{1,64})(?:;.*)?", re.IGNORECASE)

_NAMES: Final = frozenset(
    {b"user-agent", b"traceparent", b"x-b3-traceid", b"x-b3-spanid", b"b3", b"x-request-id", b"x-amzn-trace-id"}
)
_LONGEST: Final = 512

DIGITS: Final = 14
"""Of a trace's id, its last, which are random in every format (56 bits): they decide by ratio, so that all proxies with
one ratio decide alike, for traces and for lines of logs."""
DECIDED: Final = 35
DECIDES: Final = DECIDED - DIGITS
"""Where these digits stand in a ``traceparent``: from here to there."""
_ALL: Final = 1 << 4 * DIGITS
_is_trace: Final = re.compile(rb"[0-9a-f]{32}|[0-9a-f]{16}").fullmatch


def ids_of(raw: Fields) -> tuple[bytes, bytes]:
    """The trace's id and the span's of a request's fields (M-12); ``b""`` where there is none.

    From ``traceparent`` (W3C), ``x-b3-traceid`` with ``x-b3-spanid``, ``b3``, ``x-request-id`` and
    ``x-amzn-trace-id`` (its ``Root``), the first that is there.  What does not look as it should is taken as it is.
    """
    found = noted(raw)
    return found[1], found[2]


def noted(raw: Fields) -> tuple[bytes | None, bytes, bytes]:
    """The value of ``user-agent``, and :func:`ids_of`: what every line of a log has, in one look."""
    agent: bytes | None = None
    parent = trace = span = b3 = request = amazon = b""
    names = _NAMES
    for name, value in raw:
        if name not in names:
            continue
        if name == b"user-agent":
            if agent is None:
                agent = value
        elif name == b"traceparent":
            parent = value
        elif name == b"x-b3-traceid":
            trace = value
        elif name == b"x-b3-spanid":
            span = value
        elif name == b"b3":
            b3 = value
        elif name == b"x-request-id":
            request = value
        else:
            amazon = value
    if parent:
        # VERSION-TRACE-SPAN-FLAGS, of fixed widths; later versions may have more after that.
        if len(parent) >= 55 and parent[2:3] == b"-" and parent[35:36] == b"-" and parent[52:53] == b"-":
            return agent, parent[3:35], parent[36:52]
        return agent, parent[:_LONGEST], b""
    if trace:
        return agent, trace[:_LONGEST], span[:_LONGEST]
    if b3:
        match = _B3.fullmatch(b3)
        return (agent, b3[:_LONGEST], b"") if match is None else (agent, match[1], match[2])
    if request:
        return agent, request[:_LONGEST], b""
    if amazon:
        amazon = amazon[:_LONGEST]
        match = _AMAZON.fullmatch(amazon)
        return agent, (amazon if match is None else match[1]), b""
    return agent, b"", b""


def limit_of(share: float) -> bytes:
    """What :func:`place_of` is below for that share of all ids: digits of one width stand in the order of their
    numbers."""
    limit = int(share * _ALL)
    # Beyond all digits where that is all of them.
    return b"%0*x" % (DIGITS, limit) if limit < _ALL else b"g"


def place_of(trace_id: bytes) -> bytes:
    """Where an id stands among all, as :data:`DIGITS` digits; one that is no trace's (``x-request-id``) as random as
    others."""
    digits = trace_id.lower()
    if _is_trace(digits):
        return digits[-DIGITS:]
    return b"%0*x" % (DIGITS, crc32(trace_id) << 24)
