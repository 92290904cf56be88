"""One stream on the connecting side: the response's body, and what its request still has to send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore._wakeup import Wakeup
from meshcore.errors import CANCEL, MeshError, RequestBodyError, StreamReset, StreamTimeout
from meshcore.transport.flow_body import FlowBody
from meshcore.transport.http2 import send_body

if TYPE_CHECKING:
    from meshcore.client._http2_connection import Http2Connection
    from meshcore.client.limits import ExchangeLimits
    from meshcore.codec.events import Fields, InformationalReceived, ResponseReceived
    from meshcore.http.body import Body
    from meshcore.http.message import Request

__all__ = ["ClientStream"]

_NOBODY: Final = Wakeup()
"""Whom a stream wakes whose request has been sent."""


class ClientStream(FlowBody):
    """An exchange with an upstream; it is the response's body at the same time.

    Attributes:
        head: the response's head once it has come.
        over: the stream was reset, or its connection is gone.
        credit: woken when the stream's window may have grown.
        limits: what the sweeper compares it with, None for nothing.
        mark: the connection's count of flushes when the request was queued: unchanged, nothing of it has left.
    """

    __slots__ = ("_connection", "_request", "_sent", "_upload", "credit", "head", "limits", "mark", "over")

    def __init__(self, connection: Http2Connection, request: Request, stream_id: int) -> None:
        super().__init__(connection.link, stream_id, None)
        self._connection = connection
        self._request = request
        self._upload: trio.CancelScope | None = None
        self._sent = False
        self.head: ResponseReceived | None = None
        self.credit = _NOBODY
        self.mark = connection.link.flushes
        self.over = False
        self.limits: ExchangeLimits | None = None

    # ----- what the reader says -----

    def answered(self, event: ResponseReceived) -> None:
        """The response's head."""
        self.head = event
        if self.limits is not None:
            self.limits.response_started()
        self.size_hint = event.content_length
        if event.end_stream:
            self.push_end()
        else:
            self._wake()

    def informed(self, event: InformationalReceived) -> None:
        """A 1xx response."""
        inform = self._request.informational
        if inform is not None:
            inform(event.status, event.headers)

    def push_end(self, trailers: Fields | None = None) -> None:
        """The response is complete."""
        FlowBody.push_end(self, trailers)
        if self._sent:
            self._forget()
        else:
            self._request.body.unwanted()

    def fail(self, error: MeshError) -> None:
        """The stream is over without having ended; a response that was complete before stays so."""
        self.over = True
        if self._last is None:
            self.push_error(error)
        self._stop_upload()
        self._forget()

    # ----- the upload -----

    def sent(self) -> None:
        """The request has been sent to its end."""
        self._sent = True
        if self._last is not None or self.over:
            self._forget()

    async def upload(self, body: Body, data: bytes) -> None:
        """The pump: sends what comes of a request body that had not ended; a task of the connection's."""
        if self.over:
            return
        self.credit = Wakeup()
        self._upload = trio.CancelScope()
        with self._upload:
            try:
                await send_body(self.link, self, body, data)
            except Exception as error:
                self.upload_broke(error)
                return
            self.sent()
            self.link.flush_turn()

    def upload_broke(self, error: Exception) -> None:
        """The request's body cannot be finished: the upstream is told, and so is whoever waits for the answer."""
        self._upload = None
        code = error.h2_code if isinstance(error, StreamReset) and error.h2_code else CANCEL
        self._reset(code)
        if self._last is None and self.end is None:
            broken = RequestBodyError(f"request body broke: {error}")
            broken.__cause__ = error
            self.push_error(broken)

    def _stop_upload(self) -> None:
        self.credit.wake()
        if self._upload is not None:
            self._upload.cancel(reason="stream is over")
            self._request.body.unwanted()

    # ----- limits -----

    def moved(self) -> int:
        """A number that changes with every chunk."""
        return self.activity

    def expire(self, error: StreamTimeout) -> None:
        """A limit is exceeded: whoever waits for the head, or for more of the body, gets the error."""
        self._reset(error.h2_hint)
        self.fail(error)

    # ----- release -----

    def _release(self, error: BaseException | None) -> None:
        if not self.over and not (self._sent and self._last is not None):
            self._reset(error.h2_code if isinstance(error, StreamReset) and error.h2_code else CANCEL)
        super()._release(error)

    def _reset(self, code: int) -> None:
        """RST_STREAM, where the stream is not over."""
        if not self.over:
            self.over = True
            self.link.codec.reset_stream(self.stream_id, code)
            self.link.flush_soon()
            self._stop_upload()
            self._forget()

    def _forget(self) -> None:
        if self.limits is not None:
            self.limits.stop()
            self.limits = None
        if self.link.streams.pop(self.stream_id, None) is not None:
            self._connection.ended()
