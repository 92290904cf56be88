"""One line for each request, once it is over."""

from __future__ import annotations

import json
import logging
import sys
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import attrs
import trio

from meshcore._wakeup import Wakeup
from meshcore.abc import HttpService, NewHttp, link
from meshcore.http.classify import error_label
from meshcore.http.counted import CountedBody

if TYPE_CHECKING:
    from meshcore.http.body import Body, EndOfStream
    from meshcore.http.message import Request, Response

__all__ = ["AccessLog"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_now = trio.current_time
_LONGEST = 2_048
_BATCH = 256
# How long the end of a proxy waits for whoever reads standard output, in seconds.
_LAST_WORDS = 1.0
_VERSIONS = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}
_IDS = (b"traceparent", b"x-b3-traceid", b"x-request-id", b"x-amzn-trace-id")


@attrs.frozen
class AccessLog:
    """Writes one line when the last byte of a response has gone, or its request was given up.

    A line has the client's address and identity, method, authority, path, version, status, bytes of both
    bodies, seconds to the first byte and to the end, the endpoint, how often it was tried again, the error,
    a trace or request id, and the user agent.  What a peer sent is escaped and cut at 2 KiB a field.

    Lines are queued and written by one task, many at a time; what the queue cannot hold is dropped and
    counted in a line of its own.

    Attributes:
        write: takes one or more whole lines; a function that does not block for long, or an async one.
            None: standard output, in a thread, since a pipe that nobody reads blocks; what is left when the
            nursery is cancelled has one second.
        format: ``"text"`` (``key=value`` after the common part) or ``"json"``.
        clock: seconds since the epoch, for the time stamp; None: Trio's clock, whose zero means nothing.
        capacity: lines that may wait.
    """

    write: Callable[[str], Awaitable[object] | object] | None = attrs.field(default=None, repr=False)
    format: Literal["text", "json"] = attrs.field(default="text", validator=attrs.validators.in_(("text", "json")))
    clock: Callable[[], float] | None = attrs.field(default=None, repr=False)
    capacity: int = attrs.field(default=10_000, validator=attrs.validators.ge(1))

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Logs what the services that *inner* makes answer; one writer for each nursery."""
        return _NewLogged(self, inner)


class _NewLogged(Generic[T]):
    """Makes logged services."""

    __slots__ = ("_inner", "_layer", "_writers")

    def __init__(self, layer: AccessLog, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        self._writers: weakref.WeakKeyDictionary[trio.Nursery, _Writer] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The logged service for *target*."""
        inner = self._inner.new_service(target, nursery)
        writer = self._writers.get(nursery)
        if writer is None:
            writer = self._writers[nursery] = _Writer(self._layer)
            nursery.start_soon(writer.run, name="access log")
        return link(_Logged(inner, writer), inner, self._layer)


class _Writer:
    """The queue of finished exchanges and the task that writes them."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_dropped",
        "_format",
        "_queue",
        "_stdout",
        "_wakeup",
        "_write",
        "capacity",
        "dropped",
    )

    def __init__(self, layer: AccessLog) -> None:
        self._stdout: _Stdout | None = None
        write = layer.write
        if write is None:
            write = self._stdout = _Stdout()
        self._write = write
        self._format = _json if layer.format == "json" else _text
        self._clock = layer.clock
        self.capacity = layer.capacity
        self._queue: deque[_Entry] = deque()
        self._wakeup = Wakeup()
        self._dropped = 0
        self.dropped = 0

    def put(self, entry: _Entry) -> None:
        """Queues a line, or drops it."""
        if len(self._queue) >= self.capacity:
            self._dropped += 1
            self.dropped += 1
            return
        self._queue.append(entry)
        if len(self._queue) == 1:
            self._wakeup.wake()

    async def run(self) -> None:
        """Writes until it is cancelled, and then what is left, as far as that takes no waiting."""
        queue = self._queue
        try:
            while True:
                if not queue:
                    await self._wakeup.wait()
                    continue
                await self._put_out(self._lines())
        except trio.Cancelled:
            stdout = self._stdout
            while queue:
                if stdout is not None:
                    stdout.pending.append(self._lines())
                    continue
                written = self._write(self._lines())
                if isinstance(written, Awaitable):
                    _close(written)
                    break
            if stdout is not None:
                await stdout.finish()
            raise

    async def _put_out(self, lines: str) -> None:
        try:
            written = self._write(lines)
            if isinstance(written, Awaitable):
                await written
        except OSError as error:
            # A full disk or a closed pipe ends the lines, not the proxy.
            log.warning("access log: %s", error)
            await trio.sleep(1.0)

    def _lines(self) -> str:
        queue = self._queue
        clock = self._clock
        # Entries know Trio's time: what it is on the wall is a matter of an offset.
        offset = None if clock is None else clock() - _now()
        lines = [self._format(queue.popleft(), offset) for _ in range(min(len(queue), _BATCH))]
        if self._dropped:
            lines.append(f'{{"dropped": {self._dropped}}}' if self._format is _json else f"dropped={self._dropped}")
            self._dropped = 0
        lines.append("")
        return "\n".join(lines)


class _Logged:
    """A logged service."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_inner", "writer")

    def __init__(self, inner: HttpService, writer: _Writer) -> None:
        self._inner = inner
        self.writer = writer

    async def __call__(self, request: Request, /) -> Response:
        entry = _Entry(request, self.writer)
        try:
            response = await self._inner(request)
        except BaseException as error:
            entry.failed(error)
            raise
        entry.answered(response)
        return response


class _Entry:
    """What is to be said of one exchange."""

    __slots__ = (
        "authority",
        "ended_at",
        "error",
        "first_at",
        "method",
        "path",
        "received",
        "request",
        "response",
        "sent",
        "started_at",
        "writer",
    )

    def __init__(self, request: Request, writer: _Writer) -> None:
        self.request = request
        self.writer = writer
        # What a layer below may rewrite.
        self.method = request.method
        self.authority = request.authority
        self.path = request.path
        self.response: Response | None = None
        self.error = ""
        self.started_at = _now()
        self.first_at: float | None = None
        self.ended_at = 0.0
        self.received: Body = request.body
        if request.body.end is None and request.body.size_hint is None:
            request.body = self.received = CountedBody(request.body)
        self.sent: Body | None = None

    def failed(self, error: BaseException) -> None:
        """No response."""
        self.error = error_label(error)
        self.ended_at = _now()
        self.writer.put(self)

    def answered(self, response: Response) -> None:
        """Response headers; the line is written at the end of the body."""
        self.response = response
        if response.body.end is None and response.body.size_hint is None:
            response.body = CountedBody(response.body)
        body = self.sent = response.body
        body.observe(self.first_data, self.ended)

    def first_data(self) -> None:
        """The first byte has gone."""
        self.first_at = _now()

    def ended(self, end: EndOfStream) -> None:
        """The last byte has gone."""
        self.ended_at = _now()
        if end.error is not None:
            self.error = error_label(end.error)
        self.writer.put(self)

    def fields(self, offset: float | None) -> dict[str, Any]:
        """The line's content."""
        request, response = self.request, self.response
        connection = request.connection
        headers = request.headers
        error = self.error
        if not error and response is not None:
            error = _str(response.headers.get(b"x-meshcore-error") or b"")
        return {
            "time": _stamp(self.ended_at, offset),
            "client": _address(connection.peer) if connection is not None else None,
            "client_id": connection.identity if connection is not None else None,
            "server": _address(connection.local) if connection is not None else None,
            "method": _str(self.method),
            "authority": _str(self.authority),
            "path": _str(self.path),
            "version": _VERSIONS.get(request.version, str(request.version)),
            "status": response.status if response is not None else None,
            "request_bytes": _size(self.received),
            "response_bytes": _size(self.sent) if self.sent is not None else 0,
            "first_byte_s": round(self.first_at - self.started_at, 6) if self.first_at is not None else None,
            "total_s": round(self.ended_at - self.started_at, 6),
            "endpoint": str(request.endpoint) if request.endpoint is not None else None,
            "retries": len(request.avoid),
            "error": error or None,
            "trace_id": next((_str(value) for name in _IDS if (value := headers.get(name)) is not None), None),
            "user_agent": _str(value) if (value := headers.get(b"user-agent")) is not None else None,
        }


def _stamp(at: float, offset: float | None) -> str:
    if offset is None:
        return f"{at:.3f}s"
    return datetime.fromtimestamp(at + offset, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _str(value: bytes) -> str:
    return value[:_LONGEST].decode("utf-8", "backslashreplace")


def _size(body: Body) -> int | None:
    """The bytes of a body: counted, or as declared if all of them came."""
    if isinstance(body, CountedBody):
        return body.counted
    if body.end is not None and body.end.error is None:
        return body.size_hint
    return None


def _json(entry: _Entry, offset: float | None) -> str:
    # Everything outside printable ASCII is escaped, line ends among it.
    return json.dumps(entry.fields(offset), separators=(", ", ": "))


def _text(entry: _Entry, offset: float | None) -> str:
    fields = entry.fields(offset)
    head = " ".join((fields.pop("time"), fields.pop("client") or "-", str(fields.pop("client_id") or "-")))
    request = " ".join((fields.pop("method"), fields["authority"] + fields.pop("path"), fields.pop("version")))
    del fields["authority"]
    status = fields.pop("status")
    rest = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
    return f"{head} {_quoted(request, always=True)} {status or '-'} {rest}"


def _quoted(value: Any, always: bool = False) -> str:
    """One word: what could be mistaken for more than one value, or for a line, is quoted and escaped."""
    if value is None or value == "":
        return "-"
    text = str(value)
    if not always and text.isascii() and text.isprintable() and not any(char in ' "=\\' for char in text):
        return text
    escaped = json.dumps(text)
    return escaped.replace("\x7f", "\\u007f")


class _Stdout:
    """Standard output, written by one thread at a time; no line is lost because the wait for it was cancelled."""

    __slots__ = ("_one", "pending")

    def __init__(self) -> None:
        self.pending: deque[str] = deque()
        # Held by the thread, not by who waits for it.
        self._one = trio.CapacityLimiter(1)

    async def __call__(self, lines: str) -> None:
        self.pending.append(lines)
        await trio.to_thread.run_sync(self._flush, abandon_on_cancel=True, limiter=self._one)

    async def finish(self) -> None:
        """Writes what a cancelled writer has left: a proxy that has drained has just answered its last request.

        The one wait that goes on in spite of a cancellation, and not for long.
        """
        if not self.pending and not self._one.borrowed_tokens:
            return
        with trio.move_on_after(_LAST_WORDS, shield=True):
            try:
                await trio.to_thread.run_sync(self._flush, abandon_on_cancel=True, limiter=self._one)
            except OSError as error:
                log.warning("access log: %s", error)

    def _flush(self) -> None:
        while self.pending:
            sys.stdout.write(self.pending.popleft())
        sys.stdout.flush()


def _close(awaitable: Awaitable[object]) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
