"""The body of a response on an HTTP/1 connection: read from the socket in its consumer's task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore.codec.events import NEED_DATA, DataReceived, Event, Sentinel, TrailersReceived
from meshcore.errors import ConnectionLost, RemoteProtocolError, UpstreamProtocolError
from meshcore.http.body import Body, EndOfStream
from meshcore.transport.raw_body import RawBody

if TYPE_CHECKING:
    from meshcore.client.http1_connection import Http1Connection
    from meshcore.transport.socket import SocketConnection

__all__ = ["ResponseBody", "TunnelResponseBody"]

_COMPLETE: Final = EndOfStream()


class ResponseBody(RawBody):
    """A framed body, or one that ends with the connection; nothing reads ahead of its consumer.

    At its end the connection goes back to where it came from; given up before, it is closed.  An end
    of the connection before the end of the body is an error, never an end (RFC 9112 §8).
    """

    __slots__ = ("_ready", "_upstream")

    def __init__(self, upstream: Http1Connection, ready: Event | Sentinel, size_hint: int | None) -> None:
        super().__init__(size_hint)
        self._upstream = upstream
        # An event that came with the head.
        self._ready: Event | Sentinel = ready

    def receive_nowait(self) -> bytes:
        """See :class:`Body`; tries a read that does not wait."""
        if self.end is not None:
            return _ended(self.end)
        event, self._ready = self._ready, NEED_DATA
        if event is NEED_DATA:
            upstream = self._upstream
            codec = upstream.codec
            try:
                event = codec.next_event()
                while event is NEED_DATA:
                    data = upstream.connection.receive_nowait()
                    if not data:
                        upstream.at_eof = True
                    codec.receive_data(data)
                    event = codec.next_event()
            except (RemoteProtocolError, ConnectionLost, trio.ClosedResourceError) as error:
                raise self._broken(error) from error
        return self._take(event)

    async def receive_some(self) -> bytes:
        """See :class:`Body`."""
        if self.end is not None:
            return _ended(self.end)
        event, self._ready = self._ready, NEED_DATA
        if event is NEED_DATA:
            upstream = self._upstream
            codec = upstream.codec
            try:
                event = codec.next_event()
                while event is NEED_DATA:
                    data = await upstream.connection.receive_some()
                    if not data:
                        upstream.at_eof = True
                    codec.receive_data(data)
                    event = codec.next_event()
            except (RemoteProtocolError, ConnectionLost, trio.ClosedResourceError) as error:
                raise self._broken(error) from error
        return self._take(event)

    def raw(self) -> tuple[SocketConnection, int] | None:
        """See :class:`~meshcore.transport.raw_body.RawBody`."""
        if self.end is not None or self._ready is not NEED_DATA:
            return None
        upstream = self._upstream
        left = upstream.codec.left_to_read
        socket = upstream.connection.plain_socket() if left else None
        return None if socket is None else (socket, left)

    def passed(self, count: int) -> None:
        """See :class:`~meshcore.transport.raw_body.RawBody`."""
        if self.end is None:
            self._upstream.codec.read_past(count)

    def _take(self, event: Event | Sentinel) -> bytes:
        if type(event) is DataReceived:
            if self._on_first_data is not None:
                self._data_taken()
            if event.end_stream:
                self._upstream.response_ended()
                self._finish(_COMPLETE)
            return event.data
        self._upstream.response_ended()
        self._finish(EndOfStream(event.headers) if type(event) is TrailersReceived else _COMPLETE)
        return b""

    def _broken(self, error: Exception) -> BaseException:
        if self.end is not None and self.end.error is not None:
            # It was aborted while this waited: by a limit, or by whoever gave it up.
            return self.end.error
        upstream = self._upstream
        broken: Exception
        if upstream.failure is not None:
            broken = upstream.failure
        elif isinstance(error, RemoteProtocolError) and not upstream.at_eof:
            broken = UpstreamProtocolError(f"endpoint {upstream.endpoint}: {error}")
        else:
            broken = ConnectionLost(f"endpoint {upstream.endpoint}: connection lost in the response's body")
        if broken is not error and broken.__cause__ is None:
            broken.__cause__ = error
        upstream.close()
        self._finish(EndOfStream([], broken))
        return broken

    def _release(self, error: BaseException | None) -> None:
        self._upstream.close()


class TunnelResponseBody(Body):
    """The bytes from upstream to client of a tunnel; the connection is not used for anything else again."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: Http1Connection) -> None:
        super().__init__()
        self._upstream = upstream

    def receive_nowait(self) -> bytes:
        """See :class:`Body`."""
        if self.end is not None:
            return _ended(self.end)
        try:
            data = self._upstream.connection.receive_nowait()
        except (ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error
        return self._take(data)

    async def receive_some(self) -> bytes:
        """See :class:`Body`."""
        if self.end is not None:
            return _ended(self.end)
        try:
            data = await self._upstream.connection.receive_some()
        except (ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        if data:
            self._data_taken()
        else:
            self._finish(_COMPLETE)
            self._upstream.tunnel_ended()
        return data

    def _broken(self, error: Exception) -> BaseException:
        if self.end is not None and self.end.error is not None:
            return self.end.error
        broken = self._upstream.failure or ConnectionLost(f"endpoint {self._upstream.endpoint}: tunnel lost")
        broken.__cause__ = error
        self._upstream.close()
        self._finish(EndOfStream([], broken))
        return broken

    def _release(self, error: BaseException | None) -> None:
        self._upstream.close()


def _ended(end: EndOfStream) -> bytes:
    if end.error is not None:
        raise end.error
    return b""
