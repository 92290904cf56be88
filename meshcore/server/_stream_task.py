"""One HTTP/2 stream on the accepted side: the task that serves it, kept for the streams that follow.

A task and a cancel scope cost more than everything else done for a small request, so both are paid for once.
What makes that safe (architecture §1.15, trap 10): the stream is forgotten, synchronously, at the end of its
exchange, so that no late cancellation finds the next one; a task whose scope was cancelled serves no other; and
every exchange runs in a ``contextvars`` context of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshcore._wakeup import Task, Wakeup, current_task
from meshcore.errors import (
    INTERNAL_ERROR,
    NO_ERROR,
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
    StreamReset,
    StreamTimeout,
    UpstreamProtocolError,
)
from meshcore.http.headers import without
from meshcore.server._limits import RATE_WINDOW, StreamLimits
from meshcore.server.unexpected import unexpected
from meshcore.transport.http2 import send_body, send_ready

if TYPE_CHECKING:
    from contextvars import Context

    from meshcore.codec.events import Fields
    from meshcore.http.message import Request, Response
    from meshcore.server.http2 import Http2Server
    from meshcore.transport.flow_body import FlowBody

__all__ = ["StreamTask", "reset_code"]


class StreamTask:
    """A kept task, and the exchange that it serves now.

    Attributes:
        stream_id: the stream; 0 between two.
        request: its request.
        body: the request's body where there is one.
        over: the stream was reset, or its connection is gone.
        error: why it was given up.
        credit: woken when the stream's window may have grown.
        activity: counts chunks of the response.
        answering: the response has begun.
        limits: what the sweeper compares it with; None for nothing.
        window: since when the request's body has been waited for, and how much of it had come then.
    """

    __slots__ = (
        "_begun",
        "_response",
        "_scope",
        "_server",
        "_spent",
        "_task",
        "_wakeup",
        "activity",
        "answering",
        "body",
        "credit",
        "error",
        "limits",
        "over",
        "request",
        "stream_id",
        "window",
    )

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._task: Task | None = None
        self._wakeup = Wakeup()
        self._scope = trio.CancelScope()
        self._spent = False
        self._begun = False
        self._response: Response | None = None
        self.answering = False
        self.stream_id = 0
        self.request: Request | None = None
        self.body: FlowBody | None = None
        self.limits: StreamLimits | None = None
        self.window: tuple[float, int] | None = None
        self.error: MeshError | None = None
        self.credit = Wakeup()
        self.activity = 0
        self.over = False

    # ----- called by the reader and the sweeper -----

    def take(self, stream_id: int, request: Request, body: FlowBody | None) -> None:
        """This exchange is next."""
        self.stream_id = stream_id
        self.request = request
        self.body = body
        request.informational = self._inform

    @property
    def kept(self) -> bool:
        """Whether it has run before, and waits for this one."""
        return self._task is not None

    def resume(self, context: Context) -> None:
        """Lets a kept task begin what it was given by ``take``, in a context of its own."""
        task = self._task
        if task is not None:
            task.context = context
        self._wakeup.wake()

    def retire(self) -> None:
        """Ends a kept task that has nothing to do."""
        self._wakeup.wake()

    def reset(self, error: StreamReset) -> None:
        """The client, or the codec for it, has reset the stream."""
        self.over = True
        self.error = error
        if self.body is not None:
            self.body.push_error(error)
        if self._begun:
            self._spent = True
            self._scope.cancel(reason=str(error))

    def expire(self, error: StreamTimeout) -> None:
        """A limit is exceeded while the response is being sent: the stream is reset, and what comes from upstream
        with it."""
        self._server.link.codec.reset_stream(self.stream_id, error.h2_hint)
        self._server.link.flush_soon()
        self.over = True
        self.error = error
        self._spent = True
        self._scope.cancel(reason=str(error))

    def exceeded(self, now: float) -> str:
        """Which limit the exchange exceeds, in words; called by the sweeper."""
        options = self._server.options
        blocked = self.credit.waiting
        limits = self.limits
        if limits is None:
            if not self.answering:
                return self._too_slow(now)
            idle, write = options.body_idle_timeout, options.write_timeout
            if idle is None and (write is None or not blocked):
                return ""
            limits = self.limits = StreamLimits(None, idle, write, now, now)
        moved = self.activity + (self.body.activity if self.body is not None else 0)
        return limits.check(moved, self.activity, blocked, now)

    def _too_slow(self, now: float) -> str:
        """Whether a body with a content-length comes more slowly than it has to while somebody waits for it."""
        rate, body = self._server.options.min_body_rate, self.body
        if rate is None or body is None or body.size_hint is None or not body.awaited:
            self.window = None
        elif self.window is None:
            self.window = (now, body.size)
        else:
            begun, before = self.window
            if now - begun >= RATE_WINDOW:
                if body.size - before < rate * (now - begun):
                    return f"request body slower than {rate:g} bytes a second"
                self.window = (now, body.size)
        return ""

    # ----- the task -----

    async def run(self) -> None:
        """Serves exchanges until its scope is cancelled or the server keeps it no longer."""
        self._task = current_task()
        server = self._server
        with self._scope:
            while self.stream_id:
                await self._exchange()
                if self._spent or not server.keep(self):
                    return
                await self._wakeup.wait()

    async def _exchange(self) -> None:
        request = self.request
        assert request is not None
        try:
            if self.over:
                # Reset before it began: nothing was started, and the task can be kept.
                return
            self._begun = True
            try:
                self._response = await self._server.service(request)
            except MeshError as error:
                self._refuse(error)
                return
            except Exception as error:
                self._server.crashed(error)
                self._response = unexpected(request)
            await self._respond(request, self._response)
        finally:
            # Nothing here waits, so a cancelled exchange is released like any other.
            self._release(request)

    async def _respond(self, request: Request, response: Response) -> None:
        link = self._server.link
        body = response.body
        end = body.end
        status = response.status
        fields = response.headers.raw
        tunnel = False
        last = end is not None and end.error is None and not end.trailers
        if request.is_tunnel:
            tunnel = status == 101 if request.protocol is not None else 200 <= status < 300
            if tunnel and status == 101:
                # An extended CONNECT succeeds with 200 (RFC 8441 §5).
                status, fields = 200, without(fields, b"sec-websocket-accept")
            elif not tunnel and 200 <= status < 300:
                # The upstream ignored the upgrade, and its answer would look like a tunnel.
                status, fields, last = 502, [(b"x-meshcore-error", UpstreamProtocolError.code.encode())], True
        elif not last and (request.method == b"HEAD" or status in (204, 304)):
            last = True
        try:
            link.codec.send_response(self.stream_id, status, fields, end_stream=last)
            self.answering = True
        except StreamReset:
            return
        except LocalProtocolError as error:
            self._server.crashed(error)
            self._refuse(error)
            return
        if not last:
            try:
                rest: bytes | None = b""
                if request.timeouts is not None:
                    # What is there already is sent before anything can be late.
                    rest = send_ready(link, self, body)
                    if rest is not None:
                        self._limit(request)
                if rest is not None and not await send_body(link, self, body, rest):
                    return
            except Exception as error:
                self._broke(response, error)
                return
        link.flush_turn()
        if tunnel and self.body is not None:
            await self._upload_ended(self.body)

    def _limit(self, request: Request) -> None:
        now = trio.current_time()
        started = now if request.started is None else request.started
        options = self._server.options
        self.limits = StreamLimits(request.timeouts, options.body_idle_timeout, options.write_timeout, started, now)
        self._server.limit_changed(self.limits.smallest)

    async def _upload_ended(self, body: FlowBody) -> None:
        """A tunnel is over when both directions are."""
        ended = Wakeup()
        body.on_end(lambda _: ended.wake())
        while body.end is None and not self.over:
            await ended.wait()

    def _refuse(self, error: MeshError) -> None:
        """An error that nobody turned into a response (E-02): the reset says what can be said."""
        self.over = True
        self._server.link.codec.reset_stream(self.stream_id, reset_code(error))
        self._server.link.flush_turn()

    def _broke(self, response: Response, error: Exception) -> None:
        """The response's body broke after its head was sent."""
        link = self._server.link
        if not isinstance(error, MeshError):
            self._server.crashed(error)
        trailers: Fields | None = None
        if response.error_trailers is not None:
            trailers = response.error_trailers(error)
        try:
            if trailers is not None:
                link.codec.send_trailers(self.stream_id, trailers)
            else:
                self.over = True
                link.codec.reset_stream(self.stream_id, reset_code(error))
        except (StreamReset, LocalProtocolError):
            self.over = True
            link.codec.reset_stream(self.stream_id, INTERNAL_ERROR)
        self.error = error if isinstance(error, MeshError) else None
        link.flush_turn()

    def _inform(self, status: int, fields: Fields) -> None:
        """Passes a 1xx response on (``Request.informational``)."""
        if self.answering or self.over:
            return
        link = self._server.link
        try:
            link.codec.send_informational(self.stream_id, status, fields)
        except (StreamReset, LocalProtocolError):
            return
        link.flush_turn()

    def _release(self, request: Request) -> None:
        """Lets go of the response, and forgets the stream, so that nothing that comes late for it finds the next
        one."""
        response = self._response
        if response is not None:
            self._response = None
            if response.body.end is None:
                response.body.abort(self.error)
        server = self._server
        link = server.link
        stream_id = self.stream_id
        request.informational = None
        body = self.body
        if body is not None:
            if body.end is None:
                body.abort(self.error)
            if not body.complete and not self.over:
                # Nothing is wrong, but there is no more need of it (RFC 9113 §8.1).
                link.codec.reset_stream(stream_id, NO_ERROR)
                link.flush_turn()
            self.body = None
        del link.streams[stream_id]
        self.stream_id = 0
        self.request = None
        self.limits = self.window = None
        self.error = None
        self.over = self._begun = self.answering = False
        self.activity = 0
        self.credit.clear()
        if not link.streams:
            server.idle()


def reset_code(error: BaseException) -> int:
    """The code of the RST_STREAM that says *error*; never one that could be taken for success."""
    if isinstance(error, StreamReset | RemoteProtocolError):
        return error.h2_code or INTERNAL_ERROR
    return error.h2_hint if isinstance(error, MeshError) else INTERNAL_ERROR
