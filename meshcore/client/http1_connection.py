"""One HTTP/1 connection to an upstream: carries one exchange at a time."""

from __future__ import annotations

import random
import select
from typing import TYPE_CHECKING, Final

import trio

from meshcore.client.limits import ExchangeLimits
from meshcore.client.response_body import ResponseBody, TunnelResponseBody
from meshcore.client.upload import Upload
from meshcore.codec.events import (
    NEED_DATA,
    DataReceived,
    Event,
    Fields,
    InformationalReceived,
    ResponseReceived,
    Sentinel,
)
from meshcore.codec.h1 import client_codec
from meshcore.errors import (
    ConnectionLost,
    LocalProtocolError,
    MeshError,
    RemoteProtocolError,
    RequestBodyError,
    StreamTimeout,
    TlsError,
    TlsRefused,
    UpstreamProtocolError,
    caused,
)
from meshcore.http.body import Body, Empty, Full
from meshcore.http.forward import accept_websocket, connect_to_upgrade
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response

if TYPE_CHECKING:
    from meshcore.client.http1 import Http1Client
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["Http1Connection"]

IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may be sent again although the first try may have been acted upon (RFC 9110 §9.2.2)."""

_EMPTY: Final = Empty()


class Http1Connection:
    """One connection and its codec; carries one exchange at a time.

    Attributes:
        failure: why it was closed from outside, for whoever waits on it.
        at_eof: the upstream has ended its side.
        written: whether a byte of the current request may have reached the upstream.
        untouched: whether the current request's body is still whole.
    """

    __slots__ = (
        "_body",
        "_busy",
        "_client",
        "_continue",
        "_first",
        "_key",
        "_limits",
        "_poll",
        "_response_over",
        "_tunnel",
        "_upload",
        "answered",
        "at_eof",
        "closed",
        "codec",
        "connection",
        "failure",
        "hung_up",
        "idle_since",
        "untouched",
        "written",
    )

    def __init__(self, client: Http1Client, connection: Connection) -> None:
        self._client = client
        self.connection = connection
        self.codec = client_codec(client.options.http1, client.options.engine)
        self.failure: Exception | None = None
        self.at_eof = False
        self.closed = False
        self.hung_up = False
        self.idle_since = 0.0
        self.answered = False
        self.written = False
        self.untouched = True
        self._busy = False
        self._key: bytes | None = None
        self._body: Body = _EMPTY
        self._first = b""
        self._limits: ExchangeLimits | None = None
        self._upload: Upload | None = None
        self._continue: trio.Event | None = None
        self._tunnel = False
        self._response_over = False
        self._poll: select.poll | None = None
        fd = connection.fileno()
        if fd >= 0:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            client.sweeper.watch_hangup(fd, self._peer_closed)
        client.connections.add(self)

    def __repr__(self) -> str:
        return f"<Http1Connection to {self._client.endpoint}{' closed' if self.closed else ''}>"

    @property
    def endpoint(self) -> Endpoint:
        """Who is at the other end."""
        return self._client.endpoint

    # ----- between exchanges -----

    def usable(self) -> bool:
        """See :class:`~meshcore.client.pool.Idle`: an answer before there is a question, or an end,
        spoils it (trap 11)."""
        if self.closed or self.hung_up:
            return False
        if self._poll is not None and not self._poll.poll(0):
            return True
        try:
            # What is readable below TLS may be its own business.
            self.connection.receive_nowait(1)
        except trio.WouldBlock:
            return True
        except (ConnectionLost, trio.ClosedResourceError):
            pass
        return False

    def _peer_closed(self) -> None:
        self.hung_up = True
        if not self._busy:
            self.close()

    def close(self) -> None:
        """Closes at once, whatever goes on.  Synchronous, idempotent."""
        if self.closed:
            return
        self.closed = True
        client = self._client
        client.connections.discard(self)
        client.sweeper.unwatch_hangup(self.connection.fileno())
        self.connection.close()
        if self._upload is not None:
            self._upload.stop()
        if self._limits is not None:
            self._limits.stop()

    def may_try_again(self, request: Request) -> bool:
        """Whether a request that this connection, a kept one, has just failed may go out once more:
        nothing was answered, its body is at hand, and it was not written or does no harm twice."""
        return (
            not self.answered
            and self.failure is None
            and self._upload is None
            and request.protocol is None
            and (not self.written or request.method in IDEMPOTENT)
        )

    # ----- the exchange -----

    async def exchange(self, request: Request, key: bytes | None, stale: Http1Connection | None = None) -> Response:
        """Sends *request* and waits for the response's head; the response's body gives the connection
        back under *key*, or closes it.  *stale* is the connection that failed to send it before."""
        self._busy = True
        self._key = key
        self.answered = self.written = False
        try:
            rest = self._send_request(request, stale)
            if rest:
                await self.connection.send_all(rest)
            if request.timeouts is not None:
                self._limits = ExchangeLimits(self._client.sweeper, request, self._activity, self._expire)
            event = await self._receive_head(request)
            return self._respond(request, event)
        except (ConnectionLost, trio.ClosedResourceError) as error:
            self.close()
            if self.failure is not None:
                raise caused(self.failure, error) from error
            if isinstance(error, TlsRefused):
                # Whatever was written: the peer has not looked at it.
                refused = TlsError(f"endpoint {self.endpoint}: {error}", reason=error.reason)
                raise caused(refused, error) from error
            text = f"endpoint {self.endpoint}: connection lost before the response"
            raise caused(ConnectionLost(text, retryable=not self.written), error) from error
        except RemoteProtocolError as error:
            self.close()
            raise caused(UpstreamProtocolError(f"endpoint {self.endpoint}: {error}"), error) from error
        except BaseException:
            # Cancelled, or a body that broke: what has been sent cannot be taken back.
            self.close()
            raise

    def _send_request(self, request: Request, stale: Http1Connection | None) -> bytes:
        """Sends the head and what there is of the body; what is still to be sent before waiting for the
        response.  Starts the upload of a body that has not ended."""
        codec, body = self.codec, request.body
        tunnel = request.protocol is not None or request.method == b"CONNECT"
        expects = request.expect_continue
        self._body = body
        first = b""
        if stale is not None:
            first, self.untouched = stale._first, stale.untouched
        else:
            self.untouched = True
            if body.end is None and not tunnel and not expects:
                try:
                    first = body.receive_nowait()
                    self.untouched = False
                except trio.WouldBlock:
                    pass
        self._first = first
        end = body.end
        if end is not None and end.error is not None:
            raise _body_error(end.error)
        ended = end is not None or tunnel
        data = self._head(request, ended and not first and (end is None or not end.trailers))
        if end is not None and (first or end.trailers) and not tunnel:
            if end.trailers:
                data += codec.send_data(first) + codec.send_trailers(end.trailers)
            else:
                data += codec.send_data(first, end_stream=True)
        elif first:
            data += codec.send_data(first)
        connection = self.connection
        sent = connection.send_nowait(data)
        self.written = True
        rest = b"" if sent == len(data) else data[sent:]
        if not ended or (sent and rest and not tunnel):
            # The rest of it waits in the upload: an upstream that answers instead of reading is heard.
            self._start_upload(rest if sent else b"", expects and not ended)
            return b"" if sent else rest
        return rest

    def _head(self, request: Request, end_stream: bool) -> bytes:
        authority, fields, protocol = request.authority, request.headers.raw, request.protocol
        target = request.path
        if request.method == b"CONNECT":
            target = authority
        elif request.absolute_form:
            target = b"%b://%b%b" % (request.scheme, authority, b"" if target == b"*" else target)
        if not authority and request.version == 20:
            authority = str(self._client.endpoint).encode()
        if protocol == b"websocket" and b"sec-websocket-key" not in request.headers:
            fields = connect_to_upgrade(fields, random.randbytes(16))
            request.headers.set(b"sec-websocket-key", fields[-1][1])
        return self.codec.send_request(
            request.method,
            target,
            authority,
            fields,
            end_stream=end_stream,
            upgrade=protocol,
            expect_continue=request.expect_continue,
            version=10 if request.version == 10 else 11,
        )

    def _start_upload(self, rest: bytes, expects: bool) -> None:
        self._upload = upload = Upload(self._body, self)
        self._continue = trio.Event() if expects else None
        self._client.nursery.start_soon(upload.run, rest, self._continue, self._client.options.continue_timeout)

    async def _receive_head(self, request: Request) -> ResponseReceived:
        codec, connection = self.codec, self.connection
        while True:
            data = await connection.receive_some()
            if data:
                self.answered = True
            else:
                self.at_eof = True
                if not self.answered:
                    raise ConnectionLost("closed by the upstream")
            codec.receive_data(data)
            event = codec.next_event()
            while type(event) is InformationalReceived:
                self._informational(request, event)
                event = codec.next_event()
            if type(event) is ResponseReceived:
                return event
            if event is not NEED_DATA:
                raise ConnectionLost("closed by the upstream")

    def _informational(self, request: Request, event: InformationalReceived) -> None:
        if event.status == 100 and self._continue is not None:
            self._continue.set()
            self._continue = None
        if request.informational is not None:
            request.informational(event.status, event.headers)

    def _respond(self, request: Request, event: ResponseReceived) -> Response:
        status = event.status
        body: Body
        if self._limits is not None:
            self._limits.response_started()
        if self._continue is not None and self._upload is not None and not self._continue.is_set():
            # An answer instead of a 100: nobody wants the body.
            self._upload.stop()
        if status == 101 or (request.method == b"CONNECT" and 200 <= status < 300):
            body = self._open_tunnel(request, event)
        elif event.end_stream:
            body = _EMPTY
            self.response_ended()
        else:
            more: Event | Sentinel
            try:
                more = self.codec.next_event()
            except RemoteProtocolError:
                # Told to whoever reads the body: the codec says it again.
                more = NEED_DATA
            if type(more) is DataReceived and more.end_stream:
                body = Full(more.data) if more.data else _EMPTY
                self.response_ended()
            else:
                body = ResponseBody(self, more, event.content_length)
        return Response(status, Headers(event.headers), body, event.version, event.protocol)

    def response_ended(self) -> None:
        """The response is complete: gives the connection back if the request is, too."""
        limits, upload = self._limits, self._upload
        if limits is not None:
            limits.stop()
            self._limits = None
        if upload is not None:
            if not upload.done:
                # RFC 9112 §9.3: a connection with half a request on it is of no use.
                self.close()
                return
            self._upload = None
        if self._key is None or self.hung_up or not self.codec.start_next_cycle():
            self.close()
            return
        self._busy = False
        self._body = _EMPTY
        self._first = b""
        self._client.pool.give(self._key, self)

    # ----- tunnels -----

    def _open_tunnel(self, request: Request, event: ResponseReceived) -> Body:
        if event.protocol == b"websocket":
            key, accept = b"", b""
            for name, value in request.headers.raw:
                if name == b"sec-websocket-key":
                    key = value
            for name, value in event.headers:
                if name == b"sec-websocket-accept":
                    accept = value
            if accept != accept_websocket(key):
                raise RemoteProtocolError("sec-websocket-accept does not answer the key")
        self._tunnel = True
        if self._limits is not None:
            # What limits an exchange does not limit a tunnel.
            self._limits.stop()
            self._limits = None
        ahead = self.codec.trailing_data()
        if ahead:
            self.connection.unread(ahead)
        self._start_upload(b"", False)
        return TunnelResponseBody(self)

    def tunnel_ended(self) -> None:
        """The upstream has ended its side of a tunnel."""
        self._response_over = True
        if self._upload is None or self._upload.done:
            self.close()

    # ----- the upload's sink -----

    async def send(self, chunks: list[bytes], /) -> None:
        """See :class:`~meshcore.client.upload.Sink`."""
        if self._tunnel:
            await self.connection.send_all(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            return
        codec = self.codec
        data = [codec.send_data(chunk) for chunk in chunks]
        await self.connection.send_all(data[0] if len(data) == 1 else b"".join(data))

    async def send_raw(self, data: bytes, /) -> None:
        """See :class:`~meshcore.client.upload.Sink`."""
        await self.connection.send_all(data)

    async def finish(self, chunks: list[bytes], trailers: Fields, /) -> None:
        """See :class:`~meshcore.client.upload.Sink`."""
        connection = self.connection
        if self._tunnel:
            if chunks:
                await connection.send_all(b"".join(chunks))
            await connection.send_eof()
            if self._response_over:
                self.close()
            return
        codec = self.codec
        data = [codec.send_data(chunk) for chunk in chunks]
        data.append(codec.send_trailers(trailers) if trailers else codec.send_data(b"", end_stream=True))
        if end := b"".join(data):
            await connection.send_all(end)

    def body_broke(self, error: Exception, /) -> None:
        """See :class:`~meshcore.client.upload.Sink`: the exchange cannot be saved."""
        self._fail(_body_error(error))

    def send_broke(self, error: Exception, /) -> None:
        """See :class:`~meshcore.client.upload.Sink`: an answer may have been sent all the same."""
        if self._tunnel or not isinstance(error, (ConnectionLost, trio.ClosedResourceError)):
            self._fail(error)

    # ----- limits -----

    def _activity(self) -> int:
        return self.connection.bytes_read + self.connection.bytes_written

    def _expire(self, error: StreamTimeout) -> None:
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
        self.close()


def _body_error(error: BaseException) -> Exception:
    """What the waiting call raises for what broke the request's body."""
    if isinstance(error, (RequestBodyError, LocalProtocolError)) or not isinstance(error, MeshError):
        return error if isinstance(error, Exception) else RequestBodyError("request body was given up")
    broken = RequestBodyError(f"request body: {error}")
    broken.__cause__ = error
    return broken
