"""The lines of one nursery's services: made as exchanges end, and written by a task."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

import trio

from meshcore._wakeup import Wakeup, clock, give_way
from meshcore.codec.validate import VOUCHED
from meshcore.http.trace_ids import DECIDED, DECIDES, DIGITS, ids_of, limit_of, place_of
from meshcore.layers.access_log.fields import grpc_status
from meshcore.layers.access_log.output import Output
from meshcore.tracing.propagation import UNRECORDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.events import Field
    from meshcore.http.log_choice import LogChoice
    from meshcore.http.message import Request
    from meshcore.layers.access_log.exchange import Exchange
    from meshcore.layers.access_log.format import Format
    from meshcore.metrics.registry import Counter

__all__ = ["Lines"]

log = logging.getLogger(__name__)

_BATCH = 256
"""Lines that are written at once."""
_LINGER = 0.2
"""Seconds that a line waits for others, so that they are written at once."""
_ENOUGH = 512
"""Lines after which it is not."""
_FRESH: Final = 16
"""Lines that are made at once."""
_PAUSE = 1.0
"""Seconds until a place that takes nothing is tried again."""


class Lines:
    """The lines of finished exchanges, and the task that writes them.

    Lines are made soon after their exchanges have ended, some at once: where one request in a hundred is told of, what
    makes a line has left the processor's caches since the last.  What waits for long is a text, and not a request and
    its response.  A thread that makes lines would hold the interpreter, and every request, for as long as it is given
    turns (5 ms).  Writing them is another matter (``Output``).

    Args:
        format: how they look.
        choice: which exchanges are told.
        write: where they go.
        direction: of the field of that name.
        wall: seconds since the epoch; None: not known.
        capacity: lines that may wait.
        rng: randomness, for exchanges without an id.
        counters: of lines written, and of those that were dropped.
    """

    def __init__(
        self,
        format: Format,
        choice: LogChoice,
        write: Output | Callable[[str], Awaitable[object] | object],
        *,
        direction: str = "",
        wall: Callable[[], float] | None = None,
        capacity: int = 10_000,
        rng: random.Random | None = None,
        counters: tuple[Counter, Counter] | None = None,
    ) -> None:
        self.format = format
        self.direction = direction
        self.capacity = capacity
        self.now: Callable[[], float] = clock()
        self.headers: dict[bytes, int] | None = format.headers or None
        self.counts_requests = "request_bytes" in format.names
        self.counts_responses = "response_bytes" in format.names
        self.dropped = 0
        # Whether there is anything to choose; whether some are wanted whatever comes, and whether only those are.
        self.chooses = not choice.everything
        self.samples = choice.sample > 0
        self.early = choice.early
        self._limit = limit_of(choice.sample)
        self._limit_first: int = self._limit[0]
        # Whether the head of a response says whether its line is wanted.
        plain = not choice.errors and not choice.grpc and choice.slower_than is None
        self.by_head = self.chooses and not choice.early and plain
        # The same, and nothing of the request has to be noted before it is sent.
        self.by_head_alone = self.by_head and not format.headers
        self._slow = -1.0 if choice.slower_than is None else choice.slower_than
        self._errors = choice.errors
        self.statuses = choice.statuses
        self._grpc = choice.grpc
        self._sample = choice.sample
        self._draw = (rng or random.Random()).random
        self._output = write if isinstance(write, Output) else None
        self._write: Any = write
        self._wall = wall
        self._written: Counter | None = None
        self._lost: Counter | None = None
        if counters is not None:
            self._written, self._lost = counters
        self._lines: deque[str] = deque()
        self._fresh: list[Exchange] = []
        # What a thread has not taken yet.
        self._out: deque[str] = deque()
        self._more = Wakeup()
        self._enough = Wakeup()
        # Lines that are being written.
        self._underway = 0
        self._untold = 0
        self._well = True
        self._puzzled = False

    def start(self, nursery: trio.Nursery) -> None:
        """Starts the task."""
        nursery.start_soon(self._run, name="access log")

    def chosen(self, request: Request) -> bool:
        """Whether an exchange is in the sample: the same answer for the same trace, in every proxy (``place_of``)."""
        trace = request.trace_mark
        raw: list[Field] = request.headers.raw
        last: Field = raw[-1] if raw else None
        if trace is UNRECORDED and VOUCHED.has(last):
            # Just begun: the first of the digits that decide says it for most.
            value = VOUCHED.value
            return value[DECIDES] <= self._limit_first and value[DECIDES:DECIDED] < self._limit
        if trace is not None and trace.trace:
            # Read by its rules, or made here.
            return bool(trace.trace[-DIGITS:] < self._limit)
        trace_id = ids_of(raw)[0]
        if trace_id:
            return place_of(trace_id) < self._limit
        return bool(self._draw() < self._sample)

    def put(self, exchange: Exchange) -> None:
        """Has a line made of an exchange that is over, if it is one to tell of; or drops it."""
        if not exchange.wanted and not self._worth(exchange):
            return
        fresh = self._fresh
        waiting = len(self._lines) + len(fresh)
        if waiting >= self.capacity:
            self._drop(1)
            return
        if not waiting:
            self._look_at_the_wall()
        fresh.append(exchange)
        if len(fresh) == _FRESH:
            self._make()
        if not waiting:
            self._more.wake()
        elif waiting == _ENOUGH:
            self._enough.wake()

    def _make(self) -> None:
        """Makes the lines of what has ended since the last time."""
        fresh, lines = self._fresh, self._lines
        self._fresh = []
        for exchange in fresh:
            try:
                lines.append(self.format.line(exchange))
            except Exception as error:
                # What somebody's layer has made of a request must not end it.
                self._unmade(error)

    def _worth(self, exchange: Exchange) -> bool:
        if self._slow >= 0 and exchange.ended_at - exchange.started_at > self._slow:
            return True
        response = exchange.response
        if self._errors and (response is None or exchange.error):
            return True
        if response is not None and response.status in self.statuses:
            return True
        return bool(self._grpc) and grpc_status(exchange) in self._grpc

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count
        if self._lost is not None:
            self._lost.value += count

    def _look_at_the_wall(self) -> None:
        """Exchanges know Trio's time: what it is on the wall is a matter of an offset."""
        self.format.offset = None if self._wall is None else self._wall() - self.now()

    def _unmade(self, error: Exception) -> None:
        self._drop(1)
        if not self._puzzled:
            self._puzzled = True
            log.error("access log: a line cannot be made", exc_info=error)

    async def _run(self) -> None:
        """Writes lines until it is cancelled, and then what is left, as far as that takes no long wait."""
        try:
            while True:
                if not self._lines and not self._fresh:
                    await self._more.wait()
                    continue
                if self._output is not None and len(self._lines) <= _ENOUGH:
                    self._enough.clear()
                    with trio.move_on_after(_LINGER):
                        await self._enough.wait()
                self._make()
                # The clock may have been set while there was never nothing to write.
                self._look_at_the_wall()
                # Those that come meanwhile are too few for a turn of the thread.
                for _ in range(0, len(self._lines), _BATCH):
                    await self._put_out()
        except trio.Cancelled:
            # What the same cancellation ends is told, too.
            await give_way()
            self._make()
            output = self._output
            if output is None:
                self._put_out_at_once()
            else:
                await self._finish(output)
            raise

    async def _put_out(self) -> None:
        text, count = self._take()
        self._underway = count
        try:
            if self._output is not None:
                self._out.append(text)
                await self._output.write(self._out)
            else:
                written = self._write(text)
                if isinstance(written, Awaitable):
                    await written
        except Exception as error:
            # A full disk or a closed pipe, whatever that looks like, ends the lines, not the proxy.
            self._underway = 0
            self._failed(error, count)
            await trio.sleep(_PAUSE)
        else:
            self._underway = 0
            self._count(count)
            self._well = True

    async def _finish(self, output: Output) -> None:
        """The last words, in a thread; what one has not taken yet is among them."""
        count = self._underway
        while self._lines:
            text, lines = self._take()
            self._out.append(text)
            count += lines
        try:
            finished = await output.finish(self._out)
        except Exception as error:
            self._failed(error, count)
        else:
            if finished:
                self._count(count)
            else:
                self._drop(count)

    def _put_out_at_once(self) -> None:
        """The last words, where there is no more waiting."""
        self._drop(self._underway)
        while self._lines:
            text, count = self._take()
            try:
                written = self._write(text)
            except Exception as error:
                self._failed(error, count)
                break
            if isinstance(written, Awaitable):
                close = getattr(written, "close", None)
                if close is not None:
                    close()
                self._drop(count)
                break
            self._count(count)
        self._drop(len(self._lines))

    def _take(self) -> tuple[str, int]:
        """Some lines as one text, and how many they are."""
        lines = self._lines
        count = min(len(lines), _BATCH)
        taken = [lines.popleft() for _ in range(count)]
        if self._untold:
            taken.append(self.format.lost(self._untold))
            self._untold = 0
        taken.append("")
        return "\n".join(taken), count

    def _failed(self, error: Exception, count: int) -> None:
        self._drop(count)
        if self._well:
            # Once, not each second for as long as it lasts.
            self._well = False
            log.warning("access log: %s", (isinstance(error, OSError) and error.strerror) or error)

    def _count(self, count: int) -> None:
        if self._written is not None:
            self._written.value += count
