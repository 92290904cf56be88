"""``/events``: what happens and how it goes, as server-sent events, for any number of viewers at the price of one."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
import trio.lowlevel

from meshcore._wakeup import Wakeup
from meshcore.admin.page import from_elsewhere, method_not_allowed, text_page
from meshcore.errors import BodyAbandoned
from meshcore.http.body import Body, Empty, EndOfStream
from meshcore.http.headers import Headers
from meshcore.http.message import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.http.message import Request
    from meshcore.metrics.feed import Feed, Happening

__all__ = ["Events", "EventsStatistics"]

log = logging.getLogger(__name__)

MOST: Final = 32
"""Viewers at a time."""

WINDOW: Final = 5
"""Seconds that the rates of a sample are over."""

_HEARTBEAT: Final = 15
"""Seconds between two comments that only say that the stream is alive."""

_STUCK: Final = 30
"""Samples that a viewer may leave unread before its place is for somebody else."""

ROWS: Final = 100
"""Rows of each list of a sample at the most: the busiest."""

_TOGETHER: Final = 20
"""Happenings in one piece."""

_BEGIN: Final = b"retry: 2000\n\n"
_ALIVE: Final = b": alive\n\n"
_END: Final = b"event: end\ndata: {}\n\n"


@attrs.frozen
class EventsStatistics:
    """What is known of the viewers.

    Attributes:
        viewers: that look on.
        samples: taken in all.
        refused: viewers that were one too many.
        dropped: viewers that did not read what they had asked for.
    """

    viewers: int
    samples: int
    refused: int
    dropped: int


class Events:
    """An HTTP service that answers ``GET`` with a stream of events.

    ``event: sample`` once a second with what *stats* says, ``event: happening`` with each entry of the feed
    (``id`` is its number, and ``Last-Event-ID`` goes on behind it), a comment every 15 s, ``event: end`` when the
    admin server stops.  The sample is taken and encoded once for all viewers, and only while there is one; a
    viewer holds no queue, but what it has read last: who is slow skips samples, and happenings that the feed has
    forgotten; who reads nothing for 30 s is dropped.  At most 32 viewers (503).  Of each list of a sample there are
    the 100 busiest rows: all of them would be 100 KB a list for each viewer, and a pause for everybody's requests.

    Args:
        stats: the value of ``/stats`` over a window of so many seconds.
        feed: what happens.
        about: more of the proxy than ``stats`` knows, put into its ``"proxy"``; asked for each sample.
    """

    def __init__(
        self,
        stats: Callable[[int], Awaitable[dict[str, Any]]],
        feed: Feed,
        *,
        about: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._stats = stats
        self._feed = feed
        self._about = about
        self._viewers: set[_Viewer] = set()
        self._somebody = trio.Event()
        self._running = trio.CancelScope()
        self._sample: bytes | None = None
        self._encoded: dict[int, bytes] = {}
        self._ended = False
        self._failing = False
        self._samples = self._refused = self._dropped = 0

    def __repr__(self) -> str:
        return f"<Events for {len(self._viewers)} viewers>"

    def statistics(self) -> EventsStatistics:
        """What is known now."""
        return EventsStatistics(len(self._viewers), self._samples, self._refused, self._dropped)

    async def __call__(self, request: Request, /) -> Response:
        """A stream that ends with the admin server."""
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        if from_elsewhere(request):
            return text_page(403, "events are not for web pages from elsewhere\n")
        if self._ended or len(self._viewers) >= MOST:
            self._refused += 1
            response = text_page(503, "the proxy has stopped\n" if self._ended else "too many look on already\n")
            response.headers.add(b"retry-after", b"5")
            return response
        headers = Headers(
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                # Some proxies would keep it until it is whole.
                (b"x-accel-buffering", b"no"),
            ]
        )
        if request.method == b"HEAD":
            return Response(200, headers, Empty())
        viewer = _Viewer(self, self._after(request.headers.get(b"last-event-id") or b""))
        viewer.sample = self._sample
        self._viewers.add(viewer)
        self._somebody.set()
        return Response(200, headers, viewer)

    def _after(self, given: bytes) -> int:
        """The number that a viewer goes on behind; another process's is no number of ours."""
        number = int(given) if given.isdigit() and len(given) < 19 else 0
        return number if number <= self._feed.number else 0

    async def run(self) -> None:
        """Takes the samples while somebody looks on, until the end."""
        try:
            with self._running:
                while True:
                    await self._somebody.wait()
                    stop = self._feed.listen(self._happened)
                    try:
                        await self._watched()
                    finally:
                        stop()
                    self._somebody = trio.Event()
                    self._sample = None
                    self._encoded.clear()
        finally:
            self.end()

    def end(self) -> None:
        """Says goodbye to all viewers; nobody is let in any more."""
        self._ended = True
        self._running.cancel(reason="the end")
        for viewer in list(self._viewers):
            viewer.say_goodbye()

    async def _watched(self) -> None:
        due, seconds = trio.current_time(), 0
        while self._viewers:
            await self._take()
            seconds += 1
            for viewer in list(self._viewers):
                if seconds % _HEARTBEAT == 0:
                    viewer.beat = True
                viewer.offer(self._sample)
                if viewer.unread > _STUCK:
                    self._dropped += 1
                    viewer.drop()
            # By the clock, so that no second is longer for what is done in it; but none is made up for.
            due = max(due + 1.0, trio.current_time())
            await trio.sleep_until(due)

    async def _take(self) -> None:
        """The next sample; what is wrong with it is logged once."""
        try:
            value = await self._stats(WINDOW)
            value["proxy"] = {**value.get("proxy", {}), **self._about()}
            parts = []
            for name, part in _busiest(value).items():
                parts.append(b'"%b":%b' % (name.encode(), _json(part)))
                # Requests are not to wait for all of it.
                await trio.lowlevel.checkpoint()
            self._sample = b"event: sample\ndata: {%b}\n\n" % b",".join(parts)
        except Exception as error:
            self._sample = None
            if not self._failing:
                log.error("crash in a sample: %s: %s", type(error).__name__, error, exc_info=error)
            self._failing = True
        else:
            self._samples += 1
            self._failing = False

    # ----- what happens -----

    def _happened(self, happening: Happening) -> None:
        for viewer in self._viewers:
            viewer.wake()

    def since(self, number: int) -> tuple[list[bytes], int]:
        """Some of what has happened after *number*, encoded once for all viewers, and the number of the last."""
        found = self._feed.since(number)[:_TOGETHER]
        if not found:
            return [], number
        if len(self._encoded) > 1_000:
            self._encoded.clear()
        return [self._one(happening) for happening in found], found[-1].number

    def is_behind(self, number: int) -> bool:
        """Whether more has happened than *number* things."""
        return self._feed.number > number

    def _one(self, happening: Happening) -> bytes:
        found = self._encoded.get(happening.number)
        if found is None:
            event = b"id: %d\nevent: happening\ndata: %b\n\n" % (happening.number, _json(attrs.asdict(happening)))
            found = self._encoded[happening.number] = event
        return found

    def forget(self, viewer: _Viewer) -> None:
        """One looks on no more."""
        self._viewers.discard(viewer)


def _json(value: object) -> bytes:
    # ASCII without a line break in it, whatever a peer has put into a value.
    return json.dumps(value, separators=(",", ":")).encode()


def _busiest(value: dict[str, Any]) -> dict[str, Any]:
    """The value with no more rows than are looked at; ``"more"`` counts those that are left out as well."""
    found, more = dict(value), dict(value.get("more", {}))
    for name, rows in value.items():
        if isinstance(rows, list) and len(rows) > ROWS:
            found[name] = sorted(rows, key=lambda row: -row["rps"])[:ROWS]
            more[name] = more.get(name, 0) + len(rows) - ROWS
            found["more"] = more
    return found


class _Viewer(Body):
    """What one viewer is sent: made when it is asked for, so that nothing waits here but the latest sample.

    Attributes:
        sample: one that it has not read; None: there is none.
        unread: samples since it has read anything.
        beat: whether a comment is due.
    """

    __slots__ = ("_began", "_events", "_goodbye", "_last", "_wakeup", "beat", "sample", "unread")

    def __init__(self, events: Events, last: int) -> None:
        super().__init__()
        self._events = events
        self._last = last
        self._wakeup = Wakeup()
        self._began = False
        self._goodbye = False
        self.sample: bytes | None = None
        self.unread = 0
        self.beat = False

    def wake(self) -> None:
        """There is something to send."""
        self._wakeup.wake()

    def offer(self, sample: bytes | None) -> None:
        """The sample of this second, in place of one that was not read."""
        self.sample = sample
        self.unread += 1
        self._wakeup.wake()

    def say_goodbye(self) -> None:
        """It ends once it has been told so."""
        self._goodbye = True
        self._events.forget(self)
        self._wakeup.wake()

    def drop(self) -> None:
        """It does not read: whoever holds its connection is told at the next turn."""
        self.abort(BodyAbandoned())

    def receive_nowait(self) -> bytes:
        """All that there is to send."""
        self.unread = 0
        if self.end is not None:
            return self._over()
        parts: list[bytes] = []
        if not self._began:
            self._began = True
            parts.append(_BEGIN)
            self._data_taken()
        told, self._last = self._events.since(self._last)
        parts += told
        if self.sample is not None:
            parts.append(self.sample)
            self.sample = None
        if self.beat:
            self.beat = False
            parts.append(_ALIVE)
        if self._events.is_behind(self._last):
            # The rest of them at the next turn.
            self._wakeup.wake()
        elif self._goodbye:
            parts.append(_END)
            self._finish(EndOfStream())
        if not parts:
            raise trio.WouldBlock
        return b"".join(parts)

    def _over(self) -> bytes:
        assert self.end is not None
        if self.end.error is not None:
            raise self.end.error
        return b""

    async def receive_some(self) -> bytes:
        """What there is to send, waiting for it."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._wakeup.wait()

    def _release(self, error: BaseException | None) -> None:
        self._events.forget(self)
        self._wakeup.wake()
