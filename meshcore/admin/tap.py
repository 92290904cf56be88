"""``/tap``: requests as they pass, streamed as lines of JSON or as server-sent events (M-19)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from meshcore.admin.page import from_elsewhere, method_not_allowed, text_page
from meshcore.errors import ConfigError, LoadShedError
from meshcore.http.body import Body, Empty, EndOfStream
from meshcore.http.headers import Headers
from meshcore.http.message import Response
from meshcore.layers.tap import Subscription, TapHub, parse_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Request
    from meshcore.layers.tap.events import Event

__all__ = ["TapPage"]

JSON_LINES = b"application/x-ndjson"
EVENT_STREAM = b"text/event-stream"

_TOGETHER = 64
"""Events in one write."""
_HEARTBEAT = 15.0
"""Seconds without an event after which a comment says that the stream is alive."""


class TapPage:
    """Streams what a query asks for, until its limit, its time, the client or the proxy ends it.  Who may ask is for
    :class:`~meshcore.admin.access.Access` to say.

    Args:
        hub: where requests are shown.
    """

    def __init__(self, hub: Callable[[], TapHub]) -> None:
        self._hub = hub

    async def __call__(self, request: Request) -> Response:
        """The stream; or what is wrong with the question."""
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        if from_elsewhere(request):
            return text_page(403, "tap is not for web pages from elsewhere\n")
        try:
            query = parse_query(request.path.partition(b"?")[2].decode("latin-1"))
        except ConfigError as error:
            return text_page(400, "".join(f"{problem}\n" for problem in error.problems))
        stream = EVENT_STREAM in (request.headers.get(b"accept") or b"")
        headers = Headers(
            [
                (b"content-type", EVENT_STREAM if stream else JSON_LINES),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"vary", b"accept"),
            ]
        )
        if request.method == b"HEAD":
            return Response(200, headers, Empty())
        try:
            subscription = self._hub().subscribe(query)
        except LoadShedError as error:
            response = text_page(503, f"{error}\n")
            response.headers.add(b"retry-after", b"5")
            return response
        return Response(200, headers, TapBody(subscription, stream=stream, seconds=query.seconds))


class TapBody(Body):
    """A subscription as the body of a response.

    Args:
        subscription: closed with the body.
        stream: whether as server-sent events; else as lines of JSON.
        seconds: for how long; None: for as long as it likes.
    """

    __slots__ = ("_beat_at", "_ends_at", "_stream", "_subscription")

    def __init__(self, subscription: Subscription, *, stream: bool, seconds: float | None) -> None:
        super().__init__(None)
        now = trio.current_time()
        self._subscription = subscription
        self._stream = stream
        self._ends_at = float("inf") if seconds is None else now + seconds
        self._beat_at = now + _HEARTBEAT if stream else float("inf")

    def receive_nowait(self) -> bytes:
        """The events that are there; see ``Body``."""
        if self.end is not None:
            if self.end.error is not None:
                raise self.end.error
            return b""
        if trio.current_time() >= self._ends_at:
            self._subscription.end()
        parts: list[bytes] = []
        last = False
        try:
            while len(parts) < _TOGETHER:
                parts.append(self._shown(self._subscription.receive_nowait()))
        except trio.WouldBlock:
            if not parts:
                if trio.current_time() < self._beat_at:
                    raise
                parts.append(b": alive\n\n")
        except trio.EndOfChannel:
            last = True
            if self._stream:
                parts.append(b"event: end\ndata: {}\n\n")
        if self._stream:
            self._beat_at = trio.current_time() + _HEARTBEAT
        if parts and self._on_first_data is not None:
            self._data_taken()
        if last:
            self._finish(EndOfStream())
        return b"".join(parts)

    async def receive_some(self) -> bytes:
        """See ``Body``."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                with trio.move_on_at(min(self._ends_at, self._beat_at)):
                    await self._subscription.wait()

    def _shown(self, event: Event) -> bytes:
        # Everything outside printable ASCII is escaped, line ends among it.
        text = json.dumps(event, separators=(",", ":"))
        if not self._stream:
            return f"{text}\n".encode()
        number = f"id: {event['id']}\n" if "id" in event else ""
        return f"{number}event: {event['event']}\ndata: {text}\n\n".encode()

    def _release(self, error: BaseException | None) -> None:
        self._subscription.close()
