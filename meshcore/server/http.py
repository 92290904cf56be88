"""The server end of a pipeline: turns an accepted connection into requests for a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from meshcore.codec.detect import Detection, detect
from meshcore.errors import ConnectionLost
from meshcore.server.http1 import serve_http1
from meshcore.server.http2 import serve_http2
from meshcore.server.linger import linger
from meshcore.server.options import ServerOptions

if TYPE_CHECKING:
    from meshcore.abc import HttpService, NewAccept, NewHttp, Service
    from meshcore.transport.connection import Connection

__all__ = ["ServeHttp"]

T = TypeVar("T")

_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"x-meshcore-error: bad-request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
_OPTIONS = ServerOptions()


@attrs.frozen
class ServeHttp:
    """Serves HTTP/1 and HTTP/2 on accepted connections; what is neither is answered 400 and closed.

    The version is what ``connection.protocol`` says, else what TLS negotiated (ALPN), else what the
    first bytes say.
    """

    options: ServerOptions = _OPTIONS

    def layer(self, inner: NewHttp[T], /) -> NewAccept[T]:
        """What serves a connection with the services that *inner* makes."""
        return _NewServer(inner, self.options)


class _NewServer(Generic[T]):
    __slots__ = ("_inner", "_options")

    def __init__(self, inner: NewHttp[T], options: ServerOptions) -> None:
        self._inner = inner
        self._options = options

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves connections of *target*."""
        return _Server(self._inner.new_service(target, nursery), self._options)


class _Server:
    """Serves one connection a call, and has closed it when the call is over."""

    def __init__(self, service: HttpService, options: ServerOptions) -> None:
        # How a live stack is walked.
        self.__wrapped__ = service
        self._options = options

    async def __call__(self, connection: Connection, /) -> None:
        try:
            protocol = connection.protocol
            if protocol is None:
                protocol = connection.protocol = await self._version(connection)
            if protocol == "h2":
                await serve_http2(connection, self.__wrapped__, self._options)
            elif protocol == "http/1":
                await serve_http1(connection, self.__wrapped__, self._options)
            elif protocol == "opaque":
                await connection.send_all(_BAD_REQUEST)
                await linger(connection, self._options.linger_timeout)
        except (ConnectionLost, trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        finally:
            connection.close()

    async def _version(self, connection: Connection) -> str:
        if connection.alpn is not None:
            return "h2" if connection.alpn == "h2" else "http/1"
        deadline = _Deadline(connection, self._options.header_timeout)
        try:
            return await _sniff(connection)
        finally:
            deadline.stop()


async def _sniff(connection: Connection) -> str:
    """Reads until the first bytes decide, and puts them back (D-09); ``""`` for an end without a byte."""
    prefix = b""
    while True:
        data = await connection.receive_some()
        prefix += data
        found = detect(prefix)
        if found is Detection.UNDECIDED and data:
            continue
        connection.unread(prefix)
        if found is Detection.HTTP2:
            return "h2"
        if found is Detection.HTTP1 or (found is Detection.UNDECIDED and prefix):
            # An undecided prefix that ends is a broken request, which is the HTTP/1 side's to answer.
            return "http/1"
        return "opaque" if prefix else ""


class _Deadline:
    """Closes a connection whose first bytes do not come in time, by the sweeper's clock."""

    __slots__ = ("_at", "_connection")

    def __init__(self, connection: Connection, limit: float | None) -> None:
        self._connection = connection
        self._at = 0.0
        if limit is not None and connection.sweeper is not None:
            self._at = trio.current_time() + limit
            connection.sweeper.add(self, min(limit, 2.0))

    def sweep(self, now: float, /) -> None:
        if now >= self._at:
            self._connection.close()

    def stop(self) -> None:
        if self._connection.sweeper is not None:
            self._connection.sweeper.discard(self)
