"""What an access log notes of one exchange while it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meshcore.http.classify import error_label
from meshcore.http.counted import CountedBody
from meshcore.http.pass_through import HeadListener

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.body import Body, EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.layers.access_log.lines import Lines

__all__ = ["LONGEST", "Exchange", "Logged", "told"]

LONGEST: Final = 2_048
"""Bytes of a value that are told."""


class Logged(HeadListener):
    """A logged service.  What is told in any case has a frame, and one small object a request; where the status of a
    response decides, nothing is noted before that is there, and whoever has a frame directly above
    (:class:`~meshcore.layers.Metrics`) hands it on by :meth:`answered`.

    Attributes:
        lines: where its lines go.
        target: what it was made for.
        known: the connection that *values* are of.
        values: the fields of its lines, as far as all its requests have them in common.
    """

    __slots__ = ("__layer__", "__wrapped__", "known", "lines", "target", "values")

    def __init__(self, inner: HttpService, lines: Lines, target: object) -> None:
        super().__init__(inner)
        self.__layer__: object = None
        self.__wrapped__: object = inner
        self.lines = lines
        self.listens = lines.by_head_alone
        self.lowest = min(lines.statuses, default=1_000)
        self.target = target
        self.known: object = self
        self.values: list[str] = []

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """The exchange, if it has to be watched from here on."""
        asked: Request = request
        lines = self.lines
        wanted = not lines.chooses or (lines.samples and lines.chosen(asked))
        if not wanted and (lines.early or (asked.listener is self and self._late(asked))):
            return None
        asked.listener = None
        return self._logged(asked, wanted)

    def _late(self, request: Request) -> bool:
        """Whether a line can be made of what is known when the response is there."""
        body = request.body
        return body.end is not None or body.size_hint is not None or not self.lines.counts_requests

    async def _logged(self, request: Request, wanted: bool) -> Response:
        body = request.body
        if body.end is None and body.size_hint is None and self.lines.counts_requests:
            request.body = body = CountedBody(body)
        exchange = Exchange(self, request, body)
        exchange.wanted = wanted
        try:
            response: Response = await self._inner(request)
        except BaseException as error:
            exchange.failed(error)
            raise
        if not wanted and self.lines.by_head:
            # Most are let go with the head.
            if response.status not in self.lines.statuses:
                return response
            exchange.wanted = True
        exchange.answered(response)
        return response

    def answered(
        self,
        request: Request,
        response: Response,
        method: bytes,
        authority: bytes,
        path: bytes,
        body: Body,
        started: float,
    ) -> None:
        """It is told if its status says so."""
        if response.status in self.lines.statuses:
            exchange = Exchange(self, request, body)
            exchange.wanted = True
            exchange.method, exchange.authority, exchange.path = method, authority, path
            exchange.started_at = started
            exchange.answered(response)


class Exchange:
    """One exchange.

    Attributes:
        wanted: its line is, whatever comes.
    """

    __slots__ = (
        "authority",
        "end",
        "ended_at",
        "error",
        "first_at",
        "lines",
        "logged",
        "method",
        "path",
        "received",
        "request",
        "response",
        "sent",
        "started_at",
        "told",
        "wanted",
    )

    def __init__(self, logged: Logged, request: Request, body: Body) -> None:
        lines = logged.lines
        self.logged = logged
        self.lines = lines
        self.request = request
        # What a layer below may rewrite.
        self.method = request.method
        self.authority = request.authority
        self.path = request.path
        # The fields that the format names, as they came.
        self.told: list[bytes | None] | None = None
        wanted = lines.headers
        if wanted:
            self.told = told(request.headers.raw, wanted)
        self.wanted = False
        self.response: Response | None = None
        self.end: EndOfStream | None = None
        self.error = ""
        self.first_at = -1.0
        self.ended_at = 0.0
        self.received = body
        self.sent: Body | None = None
        self.started_at: float = lines.now()

    def failed(self, error: BaseException) -> None:
        """No response."""
        self.error = error_label(error)
        self.ended_at = self.lines.now()
        self.lines.put(self)

    def answered(self, response: Response) -> None:
        """Response headers; the line is written at the end of the body."""
        self.response = response
        body = response.body
        if body.end is None and body.size_hint is None and self.lines.counts_responses:
            response.body = body = CountedBody(body)
        self.sent = body
        body.observe(self.first_data, self.ended)

    def first_data(self) -> None:
        """The first byte has gone."""
        self.first_at = self.lines.now()

    def ended(self, end: EndOfStream) -> None:
        """The last byte has gone."""
        self.end = end
        if end.error is not None:
            self.error = error_label(end.error)
        # A body in one piece begins and ends at the same moment, nearly always.
        self.ended_at = self.lines.now()
        self.lines.put(self)


def told(raw: list[tuple[bytes, bytes]], wanted: dict[bytes, int]) -> list[bytes | None]:
    """The value of each field that is wanted, by its number; repeats joined, as far as anybody would read."""
    found: list[bytes | None] = [None] * len(wanted)
    for name, value in raw:
        index = wanted.get(name)
        if index is not None:
            before = found[index]
            if before is None:
                found[index] = value
            elif len(before) < LONGEST:
                found[index] = before + b", " + value
    return found
