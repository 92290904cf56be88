"""The body of a request on an HTTP/1 connection: read from the socket in its consumer's task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore._wakeup import Wakeup
from meshcore.codec.events import NEED_DATA, DataReceived, Event, Sentinel, TrailersReceived
from meshcore.errors import ConnectionLost, RemoteProtocolError, RequestBodyError
from meshcore.http.body import Body, EndOfStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.codec.h1.interface import H1Server
    from meshcore.transport.connection import Connection

__all__ = ["RequestBody", "TunnelBody"]

_COMPLETE: Final = EndOfStream()


class RequestBody(Body):
    """A framed body; nothing reads ahead of its consumer.

    Attributes:
        reading: its consumer waits in ``receive_some`` now.
        status: how to answer what the codec found wrong with it; 0 for nothing.
        before: awaited before the first read: asks the client for a body that it holds back until
            ``100 (Continue)``.
    """

    __slots__ = ("_codec", "_connection", "before", "reading", "status")

    def __init__(self, connection: Connection, codec: H1Server, size_hint: int | None) -> None:
        super().__init__(size_hint)
        self._connection = connection
        self._codec = codec
        self.reading = False
        self.status = 0
        self.before: Callable[[], Awaitable[None]] | None = None

    def receive_nowait(self) -> bytes:
        """See :class:`Body`; tries a read that does not wait."""
        if self.end is not None:
            return _ended(self.end)
        if self.before is not None:
            raise trio.WouldBlock
        codec = self._codec
        try:
            event = codec.next_event()
            while event is NEED_DATA:
                codec.receive_data(self._connection.receive_nowait())
                event = codec.next_event()
        except (RemoteProtocolError, ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error
        return self._take(event)

    async def receive_some(self) -> bytes:
        """See :class:`Body`."""
        if self.end is not None:
            return _ended(self.end)
        codec = self._codec
        self.reading = True
        try:
            if self.before is not None:
                before, self.before = self.before, None
                await before()
            event = codec.next_event()
            while event is NEED_DATA:
                data = await self._connection.receive_some()
                codec.receive_data(data)
                if self.is_end_stream:
                    # Given up while this waited: what came belongs to whoever drains the connection.
                    return self._gone()
                event = codec.next_event()
        except (RemoteProtocolError, ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error
        finally:
            self.reading = False
        return self._take(event)

    def _take(self, event: Event | Sentinel) -> bytes:
        if type(event) is DataReceived:
            if self._on_first_data is not None:
                self._data_taken()
            if event.end_stream:
                self._finish(_COMPLETE)
            return event.data
        self._finish(EndOfStream(event.headers) if type(event) is TrailersReceived else _COMPLETE)
        return b""

    def _broken(self, error: Exception) -> Exception:
        if self.end is not None:
            return self.end.error if isinstance(self.end.error, Exception) else error
        if isinstance(error, RemoteProtocolError):
            self.status = error.status
        broken = RequestBodyError(f"request body: {str(error) or 'connection closed'}")
        broken.__cause__ = error
        self._finish(EndOfStream([], broken))
        return broken

    def _gone(self) -> bytes:
        assert self.end is not None
        return _ended(self.end)

    def _release(self, error: BaseException | None) -> None:
        # What was not read stays on the connection, whose owner drains it or closes.
        pass


class TunnelBody(Body):
    """The bytes from client to upstream of a CONNECT or an upgrade, once it has been agreed to.

    Until ``opened`` or ``refused`` nobody gets a byte of it: bytes behind a mere request to upgrade
    belong to the next message (CVE-2026-2833).
    """

    __slots__ = ("_connection", "_open", "_wakeup", "reading")

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._open = False
        self._wakeup = Wakeup()
        self.reading = False

    def opened(self) -> None:
        """The exchange became a tunnel: the connection's bytes are the body from now on."""
        self._open = True
        self._wakeup.wake()

    def refused(self) -> None:
        """It did not: the body is empty."""
        if self.end is None:
            self._finish(_COMPLETE)
            self._wakeup.wake()

    def receive_nowait(self) -> bytes:
        """See :class:`Body`."""
        if self.end is not None:
            return _ended(self.end)
        if not self._open:
            raise trio.WouldBlock
        try:
            return self._take(self._connection.receive_nowait())
        except (ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error

    async def receive_some(self) -> bytes:
        """See :class:`Body`."""
        self.reading = True
        try:
            while not self._open and self.end is None:
                await self._wakeup.wait()
            if self.end is not None:
                return _ended(self.end)
            data = await self._connection.receive_some()
        except (ConnectionLost, trio.ClosedResourceError) as error:
            raise self._broken(error) from error
        finally:
            self.reading = False
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        if self.end is not None:
            return _ended(self.end)
        if data:
            self._data_taken()
        else:
            self._finish(_COMPLETE)
        return data

    def _broken(self, error: Exception) -> Exception:
        broken = RequestBodyError(f"tunnel: {str(error) or 'connection closed'}")
        broken.__cause__ = error
        if self.end is None:
            self._finish(EndOfStream([], broken))
        return broken

    def _release(self, error: BaseException | None) -> None:
        self._wakeup.wake()


def _ended(end: EndOfStream) -> bytes:
    if end.error is not None:
        raise end.error
    return b""
