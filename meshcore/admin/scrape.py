"""``/metrics``: the page that scrapers ask for."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from meshcore.admin.page import accepts_gzip, method_not_allowed
from meshcore.errors import LoadShedError
from meshcore.http.body import Chunks, Empty
from meshcore.http.headers import Headers
from meshcore.http.message import Response
from meshcore.metrics.negotiation import wants_openmetrics
from meshcore.metrics.prometheus import CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request

__all__ = ["Scrape"]

_CHUNK = 65_536
"""Bytes that are handed to a connection at once."""

_MOST = 8
"""Answers that are being read at the same time."""


class Scrape:
    """Answers ``/metrics`` in the format and coding that are asked for (X-53).

    A scraper that does not take its answer is not waited for: once more than a few have begun, the oldest is ended.

    Args:
        metrics: makes the text; its arguments say whether OpenMetrics, and whether gzip was asked for.
    """

    def __init__(self, metrics: Callable[[bool, bool], Awaitable[bytes]]) -> None:
        self._metrics = metrics
        self._unread: deque[Chunks] = deque()

    async def __call__(self, request: Request) -> Response:
        """The answer."""
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        openmetrics = wants_openmetrics(request.headers.get_all(b"accept"))
        compressed = accepts_gzip(request.headers)
        data = await self._metrics(openmetrics, compressed)
        headers = Headers(
            [
                (b"content-type", OPENMETRICS_CONTENT_TYPE if openmetrics else CONTENT_TYPE),
                (b"content-length", b"%d" % len(data)),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"vary", b"accept, accept-encoding"),
            ]
        )
        if compressed:
            headers.add(b"content-encoding", b"gzip")
        return Response(200, headers, Empty() if request.method == b"HEAD" else self._body(data))

    def _body(self, data: bytes) -> Chunks:
        body = Chunks(len(data))
        for start in range(0, len(data), _CHUNK):
            body.push(data[start : start + _CHUNK])
        body.push_end()
        self._unread.append(body)
        body.on_end(lambda end: self._ended(body, end))
        if len(self._unread) > _MOST:
            self._unread[0].push_error(LoadShedError("other scrapes have begun, and this one was not read"))
        return body

    def _ended(self, body: Chunks, end: EndOfStream) -> None:
        self._unread.remove(body)
