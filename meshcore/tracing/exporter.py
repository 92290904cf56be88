"""Sends spans to a collector, off the way of requests: a queue that is bounded, and one task that empties it."""

from __future__ import annotations

import gzip
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from meshcore._wakeup import Wakeup
from meshcore.abc import HttpService
from meshcore.errors import MeshError
from meshcore.http.body import Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request
from meshcore.http.retry_after import LONGEST, retry_after
from meshcore.metrics.tracing import SpanCounts
from meshcore.tracing.otlp import encode_span, refused, request_of, resource_of
from meshcore.transport.backoff import Backoff

if TYPE_CHECKING:
    from meshcore.http.message import Response
    from meshcore.metrics.registry import Registry
    from meshcore.tracing.propagation import Link
    from meshcore.tracing.span import Span

__all__ = ["Collector", "Exporter"]

log = logging.getLogger(__name__)

LAST_WORDS = 1.5
"""Seconds that the last spans may take once the proxy has drained."""
PATIENCE = 60.0
"""Seconds that a batch is tried for."""
_LONGEST_ANSWER: Final = 65_536
_LATER: Final = frozenset((429, 502, 503, 504))
"""Answers that say that the same may be taken later (the protocol's "Failures")."""
_FRESH: Final = 16
"""Spans that are written at once."""
_STEP: Final = 0.05
"""Seconds by which the wall clock may be off before spans follow it: within, they stay in their order."""


@attrs.frozen(kw_only=True, eq=False)
class Collector:
    """Where spans go, and how.

    Attributes:
        url: for messages.
        authority: for the request.
        path: the same.
        scheme: ``b"http"`` or ``b"https"``.
        connect: makes the service for its requests; what that starts lives in the nursery that it is given.
        headers: further fields, such as a token.
        resource: what is told of the process.
        version: of who makes the spans.
        compressed: by gzip.
        timeout: seconds for each request.
        batch: spans a request.
        interval: seconds that a span waits at the most before it is sent.
        queue: spans that may wait.
    """

    url: str
    authority: bytes
    path: bytes = b"/v1/traces"
    scheme: bytes = b"http"
    connect: Callable[[trio.Nursery], HttpService] = attrs.field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)
    resource: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    version: str = attrs.field(default="", repr=False)
    compressed: bool = False
    timeout: float = 10.0
    batch: int = 512
    interval: float = 5.0
    queue: int = 2_048


class Exporter:
    """A recorder whose spans go to a collector.

    Spans that have ended are written as they go to the collector soon, and some at once: where one request in a hundred
    is recorded, what writes one of them has left the processor's caches since the last.  What waits for long is a few
    hundred bytes, not some thirty objects for the garbage collector to look through.  A full queue drops what comes and
    counts it.  What cannot be sent is tried again for a minute, with pauses, and meanwhile the queue fills.

    Attributes:
        collector: where they go from now on; None: nowhere any more.
    """

    def __init__(
        self,
        collector: Collector | None,
        registry: Registry,
        clock: Callable[[], float] | None = None,
        *,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """
        Args:
            collector: the first one.
            registry: where spans are counted.
            clock: seconds since the epoch; by default Trio's, whose zero means nothing.
            backoff: the pause after a request that failed.
            rng: its jitter.
        """
        self.collector = collector
        self._counts = SpanCounts(registry)
        self._clock = clock
        self._backoff = Backoff(1.0, 30.0, 0.5) if backoff is None else backoff
        self._rng = random.Random() if rng is None else rng
        self._queue: deque[bytes] = deque()
        self._fresh: list[Span] = []
        self._wakeup = Wakeup()
        self._ending = trio.Event()
        self._scope = trio.CancelScope()
        self._epoch: int | None = None
        self._failing = False
        self._puzzled = False

    def __repr__(self) -> str:
        return f"<Exporter {self.collector} waiting={self._waiting}>"

    def began(self, span: Span, above: Link, /) -> None:
        """See :class:`~meshcore.tracing.span.Recorder`."""

    def ended(self, span: Span, /) -> None:
        """Queues a span, or drops it."""
        collector, fresh = self.collector, self._fresh
        waiting = len(self._queue) + len(fresh)
        if collector is None or waiting >= collector.queue:
            self._counts.dropped("queue_full" if collector is not None else "shutdown")
            return
        if not waiting or self._epoch is None:
            self._now_epoch()
        fresh.append(span)
        if len(fresh) == _FRESH:
            self._write()
        if not waiting or waiting + 1 == collector.batch:
            self._wakeup.wake()

    @property
    def _waiting(self) -> int:
        return len(self._queue) + len(self._fresh)

    def _write(self) -> None:
        """Writes those that have ended since the last time."""
        fresh, epoch = self._fresh, self._epoch
        if not fresh:
            return
        assert epoch is not None
        self._fresh = []
        for span in fresh:
            try:
                self._queue.append(encode_span(span, epoch))
            except Exception as error:
                # What somebody's layer has noted in a span must not end a request.
                self._unwritten(error)

    def _unwritten(self, error: Exception) -> None:
        self._counts.dropped("invalid")
        if not self._puzzled:
            self._puzzled = True
            log.error("a span cannot be written", exc_info=error)

    def end(self) -> None:
        """The last spans have come: they are sent, as far as that does not take long, and then :meth:`run` ends."""
        self._ending.set()
        self._wakeup.wake()
        self._scope.deadline = trio.current_time() + LAST_WORDS

    async def run(self) -> None:
        """Sends until it is told to end, or cancelled.  It does not raise for what a collector does."""
        try:
            with self._scope:
                while not self._ending.is_set() or self._waiting:
                    await self._run()
        finally:
            self._drop("shutdown")

    async def _run(self) -> None:
        """With one collector, until there is another."""
        collector = self.collector
        if collector is None:
            self._drop("shutdown")
            await self._wakeup.wait()
            return
        try:
            async with trio.open_nursery() as nursery:
                service = collector.connect(nursery)
                await self._send_to(collector, service)
                nursery.cancel_scope.cancel(reason="another collector")
        except* Exception as group:
            # Whatever it is, requests are served on.
            log.warning("crash while sending spans: %s", group.exceptions[0], exc_info=group)
            await self._pause(collector, self._backoff.maximum)

    async def _send_to(self, collector: Collector, service: HttpService) -> None:
        queue = self._queue
        resource = resource_of(collector.resource)
        # Without a new one, the old one gets what there is.
        while self.collector is collector or (self.collector is None and self._waiting):
            if not self._waiting:
                if self._ending.is_set():
                    return
                await self._wakeup.wait()
                continue
            with trio.move_on_after(collector.interval):
                while self._waiting < collector.batch and not self._ending.is_set() and self.collector is collector:
                    await self._wakeup.wait()
            self._write()
            spans = [queue.popleft() for _ in range(min(len(queue), collector.batch))]
            if not spans:
                # None of them could be written.
                continue
            # The wall clock may have been set while there was never nothing to send.
            self._now_epoch()
            try:
                data = await _encoded(collector, resource, spans)
                if not await self._deliver(collector, service, data, len(spans)):
                    queue.extendleft(reversed(spans))
            except BaseException as error:
                self._counts.dropped("unavailable" if isinstance(error, Exception) else "shutdown", len(spans))
                raise

    def _now_epoch(self) -> int:
        """What Trio's zero is on the wall, in ns; a new value only where the wall clock was set."""
        now = 0 if self._clock is None else round((self._clock() - trio.current_time()) * 1e9)
        if self._epoch is None or abs(now - self._epoch) > _STEP * 1e9:
            self._epoch = now
        return self._epoch

    async def _deliver(self, collector: Collector, service: HttpService, data: bytes, count: int) -> bool:
        """Sends one batch, again and again if need be; not for ever.  False: it is for another collector to take."""
        began = trio.current_time()
        failures = 0
        while True:
            last = self._ending.is_set()
            problem, asked = await self._post(collector, service, data, count)
            if problem is None:
                return True
            self._complain(collector, problem)
            failures += 1
            if asked < 0:
                self._counts.dropped("refused", count)
                return True
            if last:
                self._counts.dropped("shutdown", count)
                return True
            pause = max(asked, self._backoff.delay(failures, self._rng))
            late = self.collector is None or trio.current_time() + pause - began > PATIENCE
            # What the collector has asked for counts for the next batch, too, where this one is given up.
            await self._pause(collector, asked if late else pause)
            if late:
                self._counts.dropped("unavailable", count)
                return True
            if self.collector is not collector and self.collector is not None:
                return False

    async def _pause(self, collector: Collector, seconds: float) -> None:
        """Leaves a collector alone, unless there is another one, or everything ends."""
        with trio.move_on_after(seconds):
            while self.collector is collector and not self._ending.is_set():
                await self._wakeup.wait()

    async def _post(
        self, collector: Collector, service: HttpService, data: bytes, count: int
    ) -> tuple[str | None, float]:
        """One request: what was wrong, and how long the collector wants to be left alone (below 0: for ever)."""
        fields = [
            (b"content-type", b"application/x-protobuf"),
            (b"content-length", b"%d" % len(data)),
            (b"user-agent", b"meshcore/" + collector.version.encode()),
        ]
        if collector.compressed:
            fields.append((b"content-encoding", b"gzip"))
        fields += collector.headers
        request = Request(b"POST", collector.scheme, collector.authority, collector.path, Headers(fields), Full(data))
        self._counts.asked()
        try:
            with trio.fail_after(collector.timeout):
                response = await service(request)
                answer = await read_all(response.body, _LONGEST_ANSWER)
        except trio.TooSlowError:
            return f"timed out after {collector.timeout:g} s", 0.0
        except (MeshError, OSError, ValueError) as error:
            return str(error), 0.0
        if 200 <= response.status < 300:
            self._taken(collector, answer, count)
            return None, 0.0
        return f"answered {response.status}", _again(response)

    def _taken(self, collector: Collector, answer: bytes, count: int) -> None:
        try:
            lost, why = refused(answer)
        except ValueError:
            # Who answers so has taken them, whatever else it says.
            lost, why = 0, ""
        lost = min(max(lost, 0), count)
        if lost:
            self._counts.dropped("refused", lost)
            self._complain(collector, f"{lost} spans refused: {why[:256]}")
        elif self._failing:
            self._failing = False
            log.info("collector %s takes spans again; %d were dropped until now", collector.url, self._lost())
        self._counts.exported(count - lost)

    def _lost(self) -> int:
        return self._counts.all_dropped()

    def _complain(self, collector: Collector, problem: str) -> None:
        """Once, until it is well again."""
        if not self._failing:
            self._failing = True
            log.warning("collector %s: %s; spans wait, and are dropped if that lasts", collector.url, problem)

    def _drop(self, reason: str) -> None:
        count = self._waiting
        if count:
            self._queue.clear()
            self._fresh.clear()
            self._counts.dropped(reason, count)

    def use(self, collector: Collector | None) -> None:
        """Another collector, from the next batch on."""
        self.collector = collector
        self._wakeup.wake()


async def _encoded(collector: Collector, resource: bytes, spans: list[bytes]) -> bytes:
    """A request's body."""
    data = request_of(resource, "meshcore", collector.version, spans)
    if not collector.compressed:
        return data
    return await trio.to_thread.run_sync(gzip.compress, data, 1, abandon_on_cancel=True)


def _again(response: Response) -> float:
    if response.status not in _LATER:
        return -1.0
    return min(retry_after(response.headers.raw), LONGEST)
