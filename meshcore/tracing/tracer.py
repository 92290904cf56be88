"""Who decides which requests are traced, and begins their spans."""

from __future__ import annotations

import random
from binascii import hexlify
from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import VOUCHED
from meshcore.http.headers import Headers
from meshcore.http.trace_ids import DIGITS, limit_of
from meshcore.tracing.propagation import DEBUG, FIELDS, FORMATS, UNRECORDED, W3C, Link, read, trace_state
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.events import Field, Fields
    from meshcore.http.message import Request
    from meshcore.tracing.span import Recorder

__all__ = ["Tracer"]

_HALF: Final = 16
"""Digits of half a trace's id, or of a span's."""
_AT_ONCE: Final = 256
"""Traces whose ids are made at once."""
_BITS: Final = 4 * _HALF * (_AT_ONCE + 1)
_FIRST: Final = _HALF - DIGITS
"""Where in the lower half of an id the digits begin that decide."""
_TRACE: Final = 3
"""Where a trace's id stands in a ``traceparent``."""
_B: Final = ord("b")
_G: Final = ord("g")
_T: Final = ord("t")
_X: Final = ord("x")
_TRACEPARENT: Final = b"traceparent"


class Tracer:
    """Decides about requests, once each, and begins spans; one for all pipelines of a process.

    Attributes:
        tracing: which requests are traced; may be replaced at any time (:meth:`use`).
        recorder: takes the spans; None: nothing is recorded, so that no request is sampled.
        always: whether pipelines trace without a ``[tracing]`` in their configuration, too.
        current: where a request that is made in this process stands, if it does not say so itself; None: nowhere.
    """

    __slots__ = (
        "_bits",
        "_by_ratio",
        "_digits",
        "_first",
        "_head",
        "_limit",
        "_limit_first",
        "_order",
        "_place",
        "_some",
        "always",
        "current",
        "recorder",
        "tracing",
    )

    def __init__(
        self,
        recorder: Recorder | None = None,
        tracing: Tracing | None = None,
        *,
        rng: random.Random | None = None,
        always: bool = False,
        current: Callable[[], Link | None] | None = None,
    ) -> None:
        """*rng* makes the ids; a new generator by default."""
        self.recorder = recorder
        self.always = always
        self.current = current
        rng = random.Random() if rng is None else rng
        self._bits = rng.getrandbits
        # Of traces that begin here: what their fields begin with, and the lower halves of their ids.
        self._head = self._digits = b""
        self._place = 0
        self.use(Tracing() if tracing is None else tracing)

    def __repr__(self) -> str:
        return f"<Tracer {self.tracing}>"

    def use(self, tracing: Tracing) -> None:
        """From the next request on."""
        self.tracing = tracing
        self._order = tracing.propagation
        self._first = FORMATS[tracing.propagation[0]]
        # Whether any trace begins here by ratio.
        self._some = tracing.sample > 0
        self._limit = limit_of(tracing.sample)
        self._limit_first: int = self._limit[0]
        self._by_ratio = tracing.continued == "ratio"

    def decide(self, request: Request) -> Link | None:
        """Where a request stands in which trace, ``sampled`` decided; None: in none.

        What was decided here about a request that is not sampled is written into its fields, so that whoever is next
        does not decide again; all other fields stay as they are.
        """
        raw = request.headers.raw
        for name, _ in raw:
            # They all begin with one of these letters; most fields do not.
            first = name[0] if name else 0
            if first in (_B, _G, _T, _X) and name in FIELDS:
                break
        else:
            # Most requests say nothing of a trace.
            if self.current is None or request.connection is not None:
                return self._begin_plainly(raw) if self._some and self.recorder is not None else None
        link = read(raw, self._order)
        if link is None and self.current is not None and request.connection is None:
            link = self.current()
            if link is not None:
                link.write(request.headers)
                if link.state:
                    request.headers.set(b"tracestate", link.state.encode("ascii", "replace"))
        if link is not None and link.trace:
            if link.sampled is not None and not self._by_ratio:
                return link if self.recorder is not None or not link.sampled else self._untold(link)
            if link.sampled is None and not self._some:
                # Left open by who sent it, and by a proxy that never begins a trace.
                return self._untold(link)
            sampled = self._chosen(link.trace) and self.recorder is not None
            if sampled != link.sampled and not sampled:
                link.sampled = False
                link.marks &= ~DEBUG
                link.write(request.headers)
            link.sampled = sampled
            return link
        wanted = None if link is None else link.sampled
        if self._by_ratio:
            wanted = None
        if wanted is False or (wanted is None and not self._some) or self.recorder is None:
            return None
        return self._begin(request, link, wanted)

    def _begin_plainly(self, raw: Fields) -> Link:
        """A trace that begins here with a request that says nothing of one, recorded or not."""
        place = self._next()
        end = place + _HALF
        digits = self._digits
        # The first of the digits says it for most.
        first = place + _FIRST
        if digits[first] <= self._limit_first and digits[first:end] < self._limit:
            return Link(self._head[_TRACE:] + digits[place:end], b"", True, self._first)
        half = digits[place:end]
        if self._first != W3C:
            link = Link(self._head[_TRACE:] + half, half, False, self._first)
            link.write(Headers(raw))
            return link
        kept: list[Field] = raw
        value = b"%b%b-%b-00" % (self._head, half, half)
        field: Field = (_TRACEPARENT, value)
        kept.append(field)
        VOUCHED.vouch(field, value)
        return UNRECORDED

    def _next(self) -> int:
        """Where the digits of the next id are: the span's, or the lower half of a trace's that begins here.  Its upper
        half, which is as random, is one for many; the lower one is the span's as well where nobody records that, as
        with B3."""
        place = self._place
        if place == 0:
            # For many at once is less work.
            digits = b"0" * _HALF
            while b"0" * _HALF in digits:
                digits = hexlify(self._bits(_BITS).to_bytes(_BITS // 8, "big"))
            self._digits = digits
            place = _AT_ONCE * _HALF
            self._head = b"00-" + digits[place:]
        place -= _HALF
        self._place = place
        return place

    def _begin(self, request: Request, told: Link | None, wanted: bool | None) -> Link:
        """The same with one that says something that is no trace, or only that one is wanted."""
        trace = b"%032x" % (self._bits(128) | 1)
        sampled = bool(wanted) or self._chosen(trace)
        if told is not None:
            link = Link(trace, b"", sampled, told.formats, told.marks if sampled else told.marks & ~DEBUG)
        else:
            link = Link(trace, b"", sampled, self._first)
        headers = request.headers
        if link.formats & W3C:
            # Of a trace that could not be read.
            headers.remove(b"tracestate")
        if not sampled:
            link.span = self._span_id()
            link.write(headers)
        return link

    def _untold(self, link: Link) -> Link:
        """Not recorded here, and nothing of it changed for those who come after."""
        link.sampled = False
        return link

    def _chosen(self, trace: bytes) -> bool:
        return trace[-DIGITS:] < self._limit

    def _span_id(self) -> bytes:
        place = self._next()
        return self._digits[place : place + _HALF]

    def span(self, above: Link, kind: int, name: str, started: float, request: Request) -> Span:
        """A span below *above*, which is sampled, begins; it is in the request's fields from here on.

        The span says ``sampled = False`` if its recorder does not want it.
        """
        # What is below a span has its state, and what begins here has none.
        state = above.state if above.own or not above.span else above.state or trace_state(request.headers.raw)
        span = Span(above, self._span_id(), kind, name, started, state=state)
        recorder = self.recorder
        if recorder is None:
            span.sampled = False
        else:
            recorder.began(span, above)
        span.write(request.headers)
        return span

    def end(self, span: Span, now: float) -> None:
        """A span is over."""
        span.ended = now
        recorder = self.recorder
        if recorder is not None and span.sampled:
            recorder.ended(span)
