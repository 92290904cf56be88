"""Who decides which requests are traced, and begins their spans."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from meshcore.codec.validate import VOUCHED
from meshcore.http.headers import Headers
from meshcore.tracing.propagation import DEBUG, FIELDS, FORMATS, UNRECORDED, W3C, Link, read, trace_state
from meshcore.tracing.sampling import Tracing
from meshcore.tracing.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.events import Field, Fields
    from meshcore.http.message import Request
    from meshcore.tracing.span import Recorder

__all__ = ["Tracer"]

_ID_BITS: Final = 56
"""Of a trace's id, which are random in every format, and decide by ratio: all proxies with one ratio decide alike."""
_HALF: Final = 16
"""Digits of half a trace's id, or of a span's."""
_POOL: Final = 16 * 64
"""Digits that are made at once: 64 of these."""
_NOT_ZERO: Final = sum(1 << 64 * place for place in range(64))
_DECIDES: Final = 2
"""The first digit in the lower half of an id that decides by ratio."""
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
        "_bound",
        "_bound_digits",
        "_bound_first",
        "_by_ratio",
        "_digits",
        "_first",
        "_order",
        "_place",
        "_upper",
        "_value_head",
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
        self._bits = (random.Random() if rng is None else rng).getrandbits
        self._digits = self._upper = self._value_head = b""
        self._place = _POOL
        self.use(Tracing() if tracing is None else tracing)

    def __repr__(self) -> str:
        return f"<Tracer {self.tracing}>"

    def use(self, tracing: Tracing) -> None:
        """From the next request on."""
        self.tracing = tracing
        self._order = tracing.propagation
        self._first = FORMATS[tracing.propagation[0]]
        self._bound = int(tracing.sample * (1 << _ID_BITS))
        # Beyond all digits where that is all of them.
        self._bound_digits = b"g" if self._bound >> _ID_BITS else b"%014x" % self._bound
        self._bound_first: int = self._bound_digits[0]
        self._by_ratio = tracing.continued == "ratio"

    def decide(self, request: Request) -> Link | None:
        """Where a request stands in which trace, ``sampled`` decided; None: in none.

        What was decided here about a request that is not sampled is written into its fields, so that whoever is next
        does not decide again; all other fields stay as they are.
        """
        raw = request.headers.raw
        for name, _ in raw:
            if name in FIELDS:
                break
        else:
            # Most requests say nothing of a trace.
            if self.current is None or request.connection is not None:
                return self._begin_plainly(raw) if self._bound and self.recorder is not None else None
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
            if link.sampled is None and not self._bound:
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
        if wanted is False or (wanted is None and not self._bound) or self.recorder is None:
            return None
        return self._begin(request, link, wanted)

    def _begin_plainly(self, raw: Fields) -> Link:
        """A trace that begins here with a request that says nothing of one, recorded or not."""
        place = self._place
        if place == _POOL:
            self._make()
            place = 0
        self._place = place + _HALF
        lower = self._digits[place : place + _HALF]
        # Digits of one width stand in the order of their numbers; the first of them says it for most.
        sampled = self._digits[place + _DECIDES] <= self._bound_first and lower[_DECIDES:] < self._bound_digits
        if sampled:
            return Link(self._upper + lower, b"", True, self._first)
        if self._first != W3C:
            link = Link(self._upper + lower, lower, False, self._first)
            link.write(Headers(raw))
            return link
        # The span is one that nobody records: its id only has to be another one in each trace.
        value = b"%b%b-%b-00" % (self._value_head, lower, lower)
        field: Field = (_TRACEPARENT, value)
        kept: list[Field] = raw
        kept.append(field)
        VOUCHED.field = field
        return UNRECORDED

    def _make(self) -> None:
        """Makes the lower halves of ids of traces that begin here: many at a time is less work.  The upper half, which
        is as random, is one for all of them."""
        self._upper = self._span_id()
        self._value_head = b"00-" + self._upper
        self._digits = b"%0*x" % (_POOL, self._bits(_POOL * 4) | _NOT_ZERO)

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
        return int(trace[-_ID_BITS // 4 :], 16) < self._bound

    def _span_id(self) -> bytes:
        return b"%016x" % (self._bits(64) or 1)

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
