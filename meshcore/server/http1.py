"""One accepted HTTP/1 connection: requests in order, each answered by a service in this very task.

No task, scope, nursery or channel is made for a request.  The connection has one cancel scope, which
the sweeper uses when the client hangs up, and the request's body is read, and the response's written,
by whoever consumes and produces them: reads and writes of one socket may come from two tasks, an
upload's and this one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from meshcore._wakeup import Wakeup, checkpoint
from meshcore.codec.events import NEED_DATA, Fields, RequestReceived
from meshcore.codec.h1 import server_codec
from meshcore.errors import ConnectionLost, LocalProtocolError, MeshError, RemoteProtocolError
from meshcore.http.body import Body, Empty, Full
from meshcore.http.forward import accept_websocket
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.server.http1_watch import ENDING, IDLE, SENDING, TUNNEL, WAITING, Watched
from meshcore.server.linger import discard, linger
from meshcore.server.request_body import RequestBody, TunnelBody
from meshcore.transport.about import About
from meshcore.transport.raw_body import WORTH_MOVING, RawBody, move

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.abc import HttpService
    from meshcore.server.options import ServerOptions
    from meshcore.transport.connection import Connection

__all__ = ["serve_http1"]

log = logging.getLogger(__name__)

TURNS: Final = 16
"""Requests, or chunks of a body, after which the task yields to others although it need not wait."""

FLUSH: Final = 65_536
"""Bytes of a response that are put together before they are written."""

_LEAVING: Final = 4
"""Turns that an upload which was stopped takes to leave, at the most."""

_EMPTY: Final = Empty()
_CODE: Final = b"x-meshcore-error"
# An answer to the client's own mistake says whose answer it is, like every other that is made here.
_REFUSED: Final = [(_CODE, RemoteProtocolError.code.encode())]


async def serve_http1(connection: Connection, service: HttpService, options: ServerOptions) -> None:
    """Serves *connection* until either side ends it; it is closed then.

    A hang-up of the client cancels the service's call (trap 9: also a half-close, unless
    ``options.half_close`` says that such clients are to be answered).  Unexpected exceptions of the
    connection itself leave this function: the caller is the boundary.
    """
    server = _Http1(connection, service, options)
    try:
        await server.run()
    finally:
        server.release()


def _taken(parts: list[bytes]) -> bytes:
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    return data


def _too_late(status: int, fields: Fields) -> None:
    """Informational responses of a connection that is over."""


class _Http1(Watched):
    __slots__ = ("_codec", "_continued", "_informational", "_pending", "_scheme", "_service", "_writing", "_written")

    def __init__(self, connection: Connection, service: HttpService, options: ServerOptions) -> None:
        super().__init__(connection, options)
        self._service = service
        self._codec = server_codec(options.http1, options.engine)
        self._scheme = b"https" if connection.secure else b"http"
        self._informational: Callable[[int, Fields], None] = self._send_informational
        self._continued = False
        self._pending = b""
        self._writing = False
        self._written = Wakeup()

    # ----- the connection -----

    async def run(self) -> None:
        """Serves until the connection is over, in order or not."""
        self.watch()
        try:
            with self._scope:
                await self._serve()
            if self._refusal:
                await self._refuse(self._refusal)
        except (ConnectionLost, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            log.debug("%r: %s", self._connection, error, extra=About(self._connection))
        except RemoteProtocolError as error:
            log.debug("%r: refused: %s", self._connection, error, extra=About(self._connection))
            await self._refuse(error.status)

    def release(self) -> None:
        """Lets go of everything, at once."""
        self._phase = ENDING
        self.unwatch()
        # It holds this object, which holds it: let go, so that nothing waits for the garbage collector.
        self._informational = _too_late
        self._connection.close()
        if self._response is not None:
            self._response.body.abort()
        if self._body is not None:
            self._body.abort()

    async def _serve(self) -> None:
        """Requests, until the connection is to be closed."""
        codec, connection = self._codec, self._connection
        turns = 0
        while True:
            event = codec.next_event()
            while event is NEED_DATA:
                if codec.buffered:
                    self._head_began()
                elif self._closing:
                    return
                codec.receive_data(await connection.receive_some())
                turns = 0
                event = codec.next_event()
            if type(event) is not RequestReceived:
                return
            if turns == TURNS:
                # A client that pipelines is answered in order, but not before everybody else.
                await checkpoint()
                turns = 0
            turns += 1
            if not await self._exchange(event):
                return
            self._phase = IDLE

    # ----- one exchange -----

    async def _exchange(self, event: RequestReceived) -> bool:
        """Answers one request; whether another may follow."""
        options = self._options
        protocol = event.protocol
        body: Body
        self._continued = False
        if event.end_stream:
            if event.method == b"CONNECT" or protocol is not None:
                body, protocol = self._offer_tunnel(event)
            else:
                body = _EMPTY
        else:
            # An upgrade may be ignored (RFC 9110 §7.8), and one with a body is.
            protocol = None
            body = self._body = RequestBody(self._connection, self._codec, event.content_length)
            if event.expect_continue:
                body.before = self._ask_to_continue
        request = Request(
            event.method,
            event.scheme or self._scheme,
            event.authority,
            event.path,
            Headers(event.headers),
            body,
            event.version,
            protocol,
            event.absolute_form,
            event.expect_continue,
            None,
            self._informational,
            self._connection,
        )
        if event.method == b"CONNECT" and not options.allow_connect:
            return await self._respond(request, Response(405, Headers([(b"allow", b"GET, HEAD, POST")]), close=True))
        if self._gone:
            return False
        key = request.headers.get(b"sec-websocket-key") if protocol is not None else None
        self._phase = WAITING
        try:
            response = await self._service(request)
        except MeshError as error:
            response = self._error_response(error)
        except Exception as error:
            self._crashed(error, "service")
            response = Response(500, Headers([(_CODE, b"internal")]), close=True)
        self._response = response
        try:
            return await self._respond(request, response, key)
        finally:
            if response.body.end is None:
                response.body.abort()
            self._response = None

    def _offer_tunnel(self, event: RequestReceived) -> tuple[Body, bytes | None]:
        """The body of a request that may become a tunnel, and the protocol that it may become."""
        if event.method != b"CONNECT" and not self._options.allow_upgrade:
            return _EMPTY, None
        body = self._body = TunnelBody(self._connection)
        return body, event.protocol

    def _error_response(self, error: MeshError) -> Response:
        """What a MeshError that nobody rescued is answered with (the connection is closed after it)."""
        status = error.status_hint
        if isinstance(self._body, RequestBody) and self._body.status:
            status = self._body.status
        return Response(status, Headers([(_CODE, error.code.encode())]), close=True)

    async def _respond(self, request: Request, response: Response, key: bytes | None = None) -> bool:
        """Sends the response; whether another request may follow."""
        codec = self._codec
        status, body = response.status, response.body
        if status == 101 or (200 <= status < 300 and request.method == b"CONNECT"):
            return await self._tunnel(response, key)
        if self._body is not None and type(self._body) is TunnelBody:
            self._body.refused()
        end = body.end
        headers, close = response.headers.raw, self._closing or response.close
        if end is None:
            complete = status == 204 or status == 304 or request.method == b"HEAD"
        elif end.error is None:
            complete = not end.trailers
        else:
            # It broke before it began, which can still be told.
            error = end.error
            response = self._error_response(error if isinstance(error, MeshError) else LocalProtocolError(str(error)))
            status, headers, close, complete = response.status, response.headers.raw, True, True
        try:
            head = codec.send_response(status, headers, end_stream=complete, close=close)
        except LocalProtocolError as error:
            # A layer or a service made a head that cannot be sent: no byte has gone out yet.
            self._crashed(error, "response head")
            head = codec.send_response(500, [(_CODE, b"local-protocol")], end_stream=True, close=True)
            complete = True
        self._phase = SENDING
        if self._pending or self._writing:
            head = await self._after_informational(head)
        if complete:
            if body.end is None:
                body.abort()
            await self._send(head)
            return await self._next_cycle()
        if request.timeouts is not None:
            if type(body) is Full:
                # All there: only a client that does not take it can make it late.
                self._later = request
            else:
                self._limit(request, request.timeouts)
        parts = [head]
        try:
            await self._send_body(parts, body)
        except (MeshError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            await self._end_early(error, parts)
            return False
        except Exception as error:
            self._crashed(error, "response body")
            await self._end_early(error, parts)
            return False
        return await self._next_cycle()

    async def _send_body(self, parts: list[bytes], body: Body) -> None:
        """Sends the head in *parts* and the body: what is there goes into one write, what is not is waited for.
        Of what it raises, *parts* is what was to be sent before."""
        codec = self._codec
        size = turns = 0
        tried = False
        while True:
            try:
                chunk = body.receive_nowait()
            except trio.WouldBlock:
                if parts:
                    await self._send(_taken(parts))
                    size = 0
                chunk = await body.receive_some()
                turns = 0
            end = body.end
            if end is not None:
                if end.error is not None:
                    raise end.error
                if end.trailers:
                    if chunk:
                        parts.append(codec.send_data(chunk))
                    parts.append(codec.send_trailers(end.trailers))
                else:
                    parts.append(codec.send_data(chunk, end_stream=True))
                await self._send(_taken(parts))
                return
            parts.append(codec.send_data(chunk))
            size += len(chunk)
            if size >= FLUSH:
                await self._send(_taken(parts))
                size = 0
                if not tried:
                    tried = True
                    if isinstance(body, RawBody):
                        await self._move(body)
            turns += 1
            if turns == TURNS:
                await checkpoint()
                turns = 0

    async def _move(self, body: RawBody) -> None:
        """Moves what is worth it of a body from socket to socket."""
        sink = self._connection.plain_socket()
        left = self._codec.left_to_send
        if sink is not None and left >= WORTH_MOVING:
            await move(body, sink, left, self._codec.sent_past)

    async def _send(self, data: bytes) -> None:
        connection = self._connection
        sent = connection.send_nowait(data)
        if sent != len(data):
            self._write_began()
            await connection.send_all(data[sent:] if sent else data)
            self._blocked = False

    async def _next_cycle(self) -> bool:
        """Makes the connection ready for another request, or ends it so that the client gets everything."""
        codec, connection, options = self._codec, self._connection, self._options
        body = self._body
        if body is not None:
            self._body = None
            if type(body) is RequestBody and not await self._done_with(body):
                self._phase = ENDING
                if not body.reading:
                    await linger(connection, options.linger_timeout)
                return False
        if not codec.start_next_cycle():
            if codec.buffered:
                self._phase = ENDING
                await linger(connection, options.linger_timeout)
            return False
        self._served += 1
        self._later = None
        if self._prompt:
            self._watch_idle()
        return True

    async def _done_with(self, body: RequestBody) -> bool:
        """Whether the request's body is over, too, and the connection of further use."""
        options = self._options
        for _ in range(_LEAVING):
            if not body.reading:
                break
            # An upload that has just been stopped leaves at its next turn.
            await checkpoint()
        if body.reading:
            # One that goes on although its answer is complete is the one reader, and ends the body itself.
            ended = trio.Event()
            body.on_end(lambda _: ended.set())
            with trio.move_on_after(options.linger_timeout):
                await ended.wait()
        # From here on nobody else reads: what an upload that still waits for its upstream would take
        # belongs to the next request.
        body.abort()
        return await discard(body, self._codec, self._connection, options.drain_body, options.linger_timeout)

    # ----- ends -----

    async def _refuse(self, status: int) -> None:
        """Answers what is no request, or came too slowly, and closes."""
        if self._phase in (SENDING, TUNNEL, ENDING):
            return
        self._phase = ENDING
        try:
            await self._send(self._codec.send_response(status, _REFUSED, end_stream=True, close=True))
        except (LocalProtocolError, ConnectionLost, trio.ClosedResourceError, trio.BrokenResourceError):
            return
        await linger(self._connection, self._options.linger_timeout)

    async def _end_early(self, error: BaseException, parts: list[bytes]) -> None:
        """Ends a response whose body broke.  Where its framing shows that something is missing the connection ends
        in order, so that the client gets what there is; where its end would be taken for the body's, by a reset."""
        if not self._codec.cut_shows or self._connection.closed:
            self._cut(error)
            return
        log.debug("%r: response ended early: %s", self._connection, error, extra=About(self._connection))
        try:
            if parts:
                await self._send(_taken(parts))
        except (ConnectionLost, trio.ClosedResourceError, trio.BrokenResourceError) as broken:
            self._cut(broken)
            return
        self._phase = ENDING
        body = self._body
        if body is not None and not body.reading and (body.end is None or self._codec.buffered):
            # Closed with bytes of the client's unread, the system would say by a reset.
            await linger(self._connection, self._options.linger_timeout)

    def _cut(self, error: BaseException) -> None:
        """Ends a response in its middle so that it cannot be taken for complete."""
        log.debug("%r: response cut: %s", self._connection, error, extra=About(self._connection))
        self._phase = ENDING
        self._connection.reset()

    def _crashed(self, error: BaseException, where: str) -> None:
        owner = self._connection.owner
        if owner is not None:
            owner.crashed(error, where)
        else:
            log.error("%s failed", where, exc_info=error, extra=About(self._connection))

    # ----- tunnels -----

    async def _tunnel(self, response: Response, key: bytes | None) -> bool:
        """Sends the head, then raw bytes both ways until both sides have ended (D-30); always the last
        exchange of the connection.  A drain leaves it alone: the server's grace period bounds it."""
        codec, connection = self._codec, self._connection
        inbound = self._body
        headers = response.headers.raw
        if key is not None and response.protocol == b"websocket" and b"sec-websocket-accept" not in response.headers:
            # The upstream spoke HTTP/2, which knows neither key nor answer (RFC 8441 §5).
            headers = [*headers, (b"sec-websocket-accept", accept_websocket(key))]
        try:
            if type(inbound) is not TunnelBody:
                raise LocalProtocolError("a tunnel that nobody asked for")
            head = codec.send_response(response.status, headers, end_stream=False, upgrade=response.protocol)
        except LocalProtocolError as error:
            self._crashed(error, "response")
            await self._send(codec.send_response(502, [(_CODE, b"local-protocol")], end_stream=True, close=True))
            return False
        if self._pending or self._writing:
            head = await self._after_informational(head)
        if ahead := codec.trailing_data():
            connection.unread(ahead)
        self._phase = TUNNEL
        ended = Wakeup()
        inbound.on_end(lambda _: ended.wake())
        inbound.opened()
        body = response.body
        try:
            await self._send(head)
            while chunk := await body.receive_some():
                await self._send(chunk)
            await connection.send_eof()
            while inbound.end is None:
                await ended.wait()
        except (MeshError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            self._cut(error)
        return False

    # ----- informational responses -----

    def _send_informational(self, status: int, fields: Fields) -> None:
        """``request.informational``: writes a 1xx at once as far as the connection takes it."""
        if self._phase != WAITING or (status == 100 and self._continued):
            # Towards HTTP/2 the body is asked for at once: an upstream's 100 would be the second one.
            return
        try:
            data = self._codec.send_informational(status, fields)
            if status == 100:
                self._continued = True
            if data and not self._pending and not self._writing:
                data = data[self._connection.send_nowait(data) :]
        except (LocalProtocolError, ConnectionLost) as error:
            log.debug("%r: informational response dropped: %s", self._connection, error, extra=About(self._connection))
            return
        self._pending += data

    async def _ask_to_continue(self) -> None:
        """Lets the client send the body that it holds back; called when somebody wants to read it."""
        if not self._continued:
            self._send_informational(100, [])
        if self._pending and not self._writing:
            self._writing = True
            try:
                pending, self._pending = self._pending, b""
                await self._send(pending)
            finally:
                self._writing = False
                self._written.wake()

    async def _after_informational(self, head: bytes) -> bytes:
        """*head* behind what could not be written before; waits for another task's write to end."""
        self._written.clear()
        while self._writing:
            await self._written.wait()
        pending, self._pending = self._pending, b""
        return pending + head
