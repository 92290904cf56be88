"""``/logs.json``: what the proxy logs, streamed as it happens to whoever asks, a JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_plus

import trio

from meshcore._wakeup import Wakeup
from meshcore.admin.page import from_elsewhere, from_loopback, method_not_allowed, text_page
from meshcore.admin.question import body_text
from meshcore.errors import ConfigError, MeshError
from meshcore.http.body import Body, EndOfStream
from meshcore.http.headers import Headers
from meshcore.http.message import Response
from meshcore.log_filter import LogFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Request
    from meshcore.log_levels import LogLevels
    from meshcore.metrics.registry import Counter, Registry

__all__ = ["LogStream"]

_MOST_READERS = 4
_KEPT = 1_000
"""Messages that wait for a reader."""
_LONGEST_LINE = 16_384


class LogStream:
    """Answers ``GET /logs.json?FILTER`` (or ``?filter=FILTER``), and ``QUERY`` with the filter as its body, by a stream
    of messages (X-55): those that the filter lets through, whatever the process logs otherwise.

    It costs nothing while nobody listens.  A slow reader misses messages: how many is told in a line of their own and
    in ``log_stream_dropped_total``.  There are four readers at the most (429), and they are loopback clients (403).

    Args:
        levels: the loggers'.
        formatter: makes a line of JSON of a message.
        registry: where it counts.
        allowed: whether a client may ask; by default: from loopback.
    """

    def __init__(
        self,
        levels: LogLevels,
        formatter: logging.Formatter,
        registry: Registry,
        *,
        allowed: Callable[[Request], bool] = from_loopback,
    ) -> None:
        self._levels = levels
        self._formatter = formatter
        self._allowed = allowed
        self._open: set[_Lines] = set()
        self._ended = False
        self._readers = registry.gauge("log_stream_readers", "Readers of the log's stream.").labels()
        self._dropped = registry.counter(
            "log_stream_dropped_total", "Total count of messages that readers of the log's stream were too slow for."
        ).labels()

    async def __call__(self, request: Request) -> Response:
        """The answer."""
        if request.method not in (b"GET", b"QUERY"):
            return method_not_allowed(b"GET, QUERY")
        if not self._allowed(request):
            return text_page(403, "the log is for loopback clients only\n")
        if from_elsewhere(request):
            return text_page(403, "the log is not for web pages from elsewhere\n")
        try:
            if request.method == b"GET":
                text = _queried(request.path.partition(b"?")[2].decode())
            else:
                text = await body_text(request)
            filter = LogFilter.parse(text) if text.strip() else self._levels.filter
        except ConfigError as error:
            return text_page(400, "".join(f"{problem}\n" for problem in error.problems))
        except (ValueError, MeshError) as error:
            return text_page(400, f"{error}\n")
        if self._ended:
            return text_page(503, "the proxy has stopped\n")
        if len(self._open) >= _MOST_READERS:
            return text_page(429, f"{_MOST_READERS} read the log already\n")
        lines = _Lines(self._formatter, self._dropped)
        end = self._levels.listen(filter, lines.handler)
        self._open.add(lines)
        self._readers.value = len(self._open)

        def ended(_: object) -> None:
            end()
            self._open.discard(lines)
            self._readers.value = len(self._open)

        lines.on_end(ended)
        headers = [
            (b"content-type", b"application/x-ndjson"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        return Response(200, Headers(headers), lines)

    def end(self) -> None:
        """Readers get what waits for them, and no more; nobody is let in any more."""
        self._ended = True
        for lines in list(self._open):
            lines.say_goodbye()


def _queried(query: str) -> str:
    """The filter in a query: all of it, or what ``filter`` says."""
    if query.startswith("filter=") or "&filter=" in query:
        return ",".join(parse_qs(query).get("filter", []))
    return unquote_plus(query)


class _Lines(Body):
    """The messages that one reader has not got yet; ends when the reader goes."""

    __slots__ = ("_dropped", "_formatter", "_goodbye", "_lost", "_token", "_waiting", "_wakeup", "handler")

    def __init__(self, formatter: logging.Formatter, dropped: Counter) -> None:
        super().__init__()
        self._formatter = formatter
        self._dropped = dropped
        self._waiting: deque[str] = deque()
        self._wakeup = Wakeup()
        self._token = trio.lowlevel.current_trio_token()
        self._lost = 0
        self._goodbye = False
        self.handler: logging.Handler = _Handler(self)

    def add(self, record: logging.LogRecord) -> None:
        """Another message; may be called in any thread."""
        if len(self._waiting) >= _KEPT:
            self._lost += 1
            self._dropped.value += 1
            return
        line = self._formatter.format(record)
        if len(line) > _LONGEST_LINE:
            # Half of it would not be JSON any more.
            line = json.dumps({"level": record.levelname.lower(), "logger": record.name, "cut": True})
        self._waiting.append(line)
        if len(self._waiting) == 1:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wakeup.wake, idempotent=True)

    def say_goodbye(self) -> None:
        """It ends once what waits is read."""
        self._goodbye = True
        self._wakeup.wake()

    def receive_nowait(self) -> bytes:
        """See ``Body``."""
        if self.end is not None:
            if isinstance(self.end.error, MeshError):
                raise self.end.error
            return b""
        if not self._waiting and not self._lost:
            if not self._goodbye:
                raise trio.WouldBlock
            self._finish(EndOfStream())
            return b""
        lines: list[str] = []
        while self._waiting and len(lines) < _KEPT:
            lines.append(self._waiting.popleft())
        if self._lost:
            lines.append(json.dumps({"dropped": self._lost}))
            self._lost = 0
        self._data_taken()
        return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")

    async def receive_some(self) -> bytes:
        """See ``Body``."""
        while not (self._waiting or self._lost or self._goodbye or self.end is not None):
            await self._wakeup.wait()
        return self.receive_nowait()

    def _release(self, error: BaseException | None) -> None:
        self._wakeup.wake()


class _Handler(logging.Handler):
    """Gives a reader's messages to it."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a message that cannot be formatted is one that cannot be read."""
        try:
            self._lines.add(record)
        except Exception:
            self.handleError(record)
