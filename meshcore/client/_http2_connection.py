"""The connecting side of one HTTP/2 connection: requests out, responses in (RFC 9113)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import trio

from meshcore._wakeup import WakeupQueue, checkpoint
from meshcore.client._http2_stream import ClientStream
from meshcore.client.limits import ExchangeLimits
from meshcore.codec import events as h2events
from meshcore.codec.h2 import client_codec
from meshcore.errors import (
    NO_ERROR,
    ConnectionLost,
    GoAway,
    MeshError,
    StreamReset,
    TlsError,
    TlsRefused,
    UpstreamProtocolError,
    again,
)
from meshcore.http.headers import Headers, without
from meshcore.http.message import Request, Response
from meshcore.transport.bulk import BulkRead
from meshcore.transport.connection import READ_SIZE
from meshcore.transport.http2 import Http2Link, send_ready
from meshcore.transport.liveness import Liveness
from meshcore.transport.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.client.options import ClientOptions
    from meshcore.codec.events import Event, Fields
    from meshcore.transport.connection import Connection
    from meshcore.transport.sweep import Sweeper
    from meshcore.transport.target import Endpoint

__all__ = ["Http2Connection"]

log = logging.getLogger(__name__)

ASSUMED_STREAMS = 100
"""Streams opened before the peer's SETTINGS have said how many it takes (RFC 9113 §6.5.2 recommends no fewer)."""

READS_IN_A_ROW = 16
BYTES_IN_A_ROW = 1 << 20


class Http2Connection:
    """One connection to an endpoint.

    Attributes:
        link: its codec, socket and streams.
        room: streams that it may have open at once; 0 where it takes none.
        reserved: streams promised to callers that have not begun yet.
        retired: it takes no new streams, and closes when the last has ended.
        settled: the peer's SETTINGS have come: it speaks HTTP/2.
    """

    __slots__ = (
        "__weakref__",
        "_changed",
        "_closing",
        "_endpoint",
        "_freed",
        "_liveness",
        "_nursery",
        "_reading",
        "_reason",
        "_settings",
        "_started",
        "_sweeper",
        "_timeout",
        "connection",
        "link",
        "reserved",
        "retired",
        "room",
        "settled",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        connection: Connection,
        options: ClientOptions,
        changed: Callable[[], None],
        freed: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.link: Http2Link[ClientStream] = Http2Link(client_codec(options.http2, options.engine), connection)
        self.reserved = 0
        self.room = ASSUMED_STREAMS
        self.retired = self.settled = False
        self._endpoint = endpoint
        self._changed = changed
        self._freed = freed
        self._settings = WakeupQueue()
        self._closing = False
        self._reason: MeshError | None = None
        self._reading = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._sweeper: Sweeper | None = None
        self._timeout = options.settings_timeout
        self._started = now = trio.current_time()
        self._liveness = Liveness(
            self.link,
            now,
            idle=options.h2_idle_timeout,
            age=options.max_age,
            stall=None,
            interval=options.keepalive_interval,
            timeout=options.keepalive_timeout,
        )

    def __repr__(self) -> str:
        return f"<Http2Connection {self._endpoint} streams={len(self.link.streams)}>"

    @property
    def usable(self) -> bool:
        """Whether who was promised a stream may open it."""
        return not self.retired and self.link.codec.can_open

    @property
    def available(self) -> bool:
        """Whether a stream may be opened now."""
        return len(self.link.streams) + self.reserved < self.room and self.link.codec.can_open

    async def settles(self) -> bool:
        """Waits for the peer's SETTINGS; False if it was over before.  Raises a refusal of our certificate."""
        while not self.settled and not self.connection.closed:
            await self._settings.wait()
        if isinstance(self._reason, TlsError):
            raise self._reason
        return self.settled

    # ----- the connection's life -----

    async def run(self, sweeper: Sweeper) -> None:
        """Reads until the connection is over; the caller's task is its reader.  Requests' limits are enforced by
        *sweeper*."""
        link = self.link
        self._sweeper = sweeper
        link.connection.poll_with(sweeper.poller)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(link.write)
            link.codec.start()
            link.flush()
            self._changed()
            try:
                with self._reading:
                    await self._read()
            finally:
                # The nursery takes a while to close, and nothing new may begin in it meanwhile.
                self.retired = True
                self.room = 0
            nursery.cancel_scope.cancel(reason="connection is over")

    def broke(self, error: BaseException) -> None:
        """Notes what ended the connection."""
        if isinstance(error, TlsRefused):
            # Said by the peer before anything else: it has looked at nothing, sent or not.
            self._reason = TlsError(f"endpoint {self._endpoint}: {error}", reason=error.reason)
        elif isinstance(error, MeshError | trio.ClosedResourceError | trio.BrokenResourceError):
            self._reason = self._reason or self._lost(str(error))
        else:
            self._crashed(error)

    async def _read(self) -> None:
        connection, codec, link = self.connection, self.link.codec, self.link
        turns = 0
        while True:
            data = await connection.receive_some()
            if not data:
                return
            began = trio.current_time()
            if self._happened(codec.receive_data(data, began)):
                return
            if codec.costly and await self._read_on(began):
                return
            self.link.flush()
            turns += 1
            if turns >= READS_IN_A_ROW:
                turns = 0
                await checkpoint()
            if len(data) == READ_SIZE and link.takers and await self._read_bulk():
                return

    async def _read_bulk(self) -> bool:
        """Reads in large pieces for as long as they come; whether the connection is over."""
        connection = self.connection
        socket = connection.plain_socket()
        if socket is not connection or socket is None:
            return False
        turns = 0
        while not socket.closed:
            await socket.wait_readable()
            began = trio.current_time()
            with BulkRead(self.link, socket) as bulk:
                events = bulk.read()
                if events is None or self._happened(events):
                    return True
                size = bulk.size
            if self.link.codec.costly and await self._read_on(began):
                return True
            turns += size
            self.link.flush()
            if size < READ_SIZE:
                return False
            if turns >= BYTES_IN_A_ROW:
                turns = 0
                await checkpoint()
        raise trio.ClosedResourceError

    async def _read_on(self, began: float) -> bool:
        """Deals with what is left of a read that costs too much for one go, of which the first piece was begun at
        *began*; whether the connection is over."""
        codec = self.link.codec
        with Turn() as turn:
            while codec.costly:
                await turn.wait(trio.current_time() - began)
                began = trio.current_time()
                if self._happened(codec.receive_data(b"", began)):
                    return True
        return False

    def _happened(self, events: list[Event]) -> bool:
        """Deals with what was read, and flushes; whether the connection is over."""
        link = self.link
        streams = link.streams
        for event in events:
            # What comes most often, without a look into a table.
            if isinstance(event, h2events.DataReceived):
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.received(event)
                else:
                    self._data(event)
            elif isinstance(event, h2events.ResponseReceived):
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.answered(event)
            elif _ACTIONS[type(event)](self, event):
                return True
        if link.relayed:
            link.flush_relayed()
        return False

    def release(self) -> None:
        """Closes, and fails every stream: retryable where not a byte of its request has left."""
        link = self.link
        if link.crash is not None:
            self._crashed(link.crash)
        self.retired = True
        self.room = 0
        if isinstance(link.error, TlsRefused):
            self._reason = TlsError(f"endpoint {self._endpoint}: {link.error}", reason=link.error.reason)
        flushes = link.flushes
        if not self.connection.closed:
            if not any(stream.mark == flushes for stream in link.streams.values()):
                # With a request still queued it would leave now, just as it is declared not to have.
                link.codec.goaway(NO_ERROR)
                link.flush()
            self.connection.close()
        for stream in list(link.streams.values()):
            reason = self._reason
            unsent = stream.mark == flushes
            if reason is None or (unsent and not isinstance(reason, TlsError)):
                reason = self._lost("closed by the peer", retryable=unsent)
            stream.fail(reason)
        link.codec.close()
        self._settings.wake_all()
        self._changed()

    def _lost(self, why: str, *, retryable: bool = False) -> ConnectionLost:
        return ConnectionLost(f"endpoint {self._endpoint}: {why}", retryable=retryable)

    def _crashed(self, error: BaseException) -> None:
        owner = self.connection.owner
        if owner is not None:
            owner.crashed(error, "http2 client")
        else:
            log.error("http2 client: %r", error, exc_info=error)

    def retire(self) -> None:
        """Takes no new streams; closes when those that are open have ended."""
        if not self.retired:
            self.retired = True
            self.room = 0
            self._changed()
        if not self.link.streams and not self.reserved:
            self._reading.cancel(reason="retired")

    def ended(self) -> None:
        """A stream has ended."""
        if self.retired and not self.link.streams and not self.reserved:
            self._reading.cancel(reason="retired")
        self._freed()

    def sweep(self, now: float) -> None:
        """Ends it when it is over a limit (see :class:`~meshcore.transport.sweep.Swept`)."""
        if not self.settled and now - self._started >= self._timeout:
            self._reason = self._lost("no SETTINGS came in time")
            self._reading.cancel(reason="settings timeout")
            return
        verdict = self._liveness.check(now)
        if verdict in ("idle", "old"):
            self.retire()
        elif verdict:
            self._reason = self._lost("a PING was not answered")
            self._reading.cancel(reason=verdict)

    @property
    def limit(self) -> float:
        """Its smallest limit, for the sweeper."""
        limit = self._liveness.limit
        return self._timeout if limit is None else min(limit, self._timeout)

    # ----- what was read; a true answer ends the connection -----

    def _data(self, event: h2events.DataReceived) -> None:
        """Of a stream that is over."""
        if event.flow and self.link.codec.acknowledge(event.stream_id, event.flow):
            self.link.flush_soon()

    def _trailers(self, event: h2events.TrailersReceived) -> None:
        stream = self.link.streams.get(event.stream_id)
        if stream is not None:
            stream.push_end(event.headers)

    def _window(self, event: h2events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self.link.streams.get(event.stream_id)
            if stream is not None:
                stream.credit.wake()
        else:
            self._wake_senders()

    def _wake_senders(self) -> None:
        """Any window may have grown (trap 8)."""
        for stream in self.link.streams.values():
            stream.credit.wake()

    def _reset(self, event: h2events.StreamReset) -> None:
        stream = self.link.streams.get(event.stream_id)
        if stream is not None:
            stream.fail(self._reset_error(event))

    def _informed(self, event: h2events.InformationalReceived) -> None:
        stream = self.link.streams.get(event.stream_id)
        if stream is not None:
            stream.informed(event)

    def _settings_came(self, event: h2events.SettingsChanged) -> None:
        self.settled = True
        if not self.retired:
            self.room = self.link.codec.peer_max_streams
        self._settings.wake_all()
        self._wake_senders()
        self._changed()

    def _pong(self, event: h2events.PingAcknowledged) -> None:
        self._liveness.answered(event.data)

    def _goaway(self, event: h2events.GoAwayReceived) -> None:
        if event.code != NO_ERROR:
            self._reason = GoAway(
                f"endpoint {self._endpoint}: connection ended with code {event.code}", retryable=False
            )
        self.retire()

    def _terminated(self, event: h2events.ConnectionTerminated) -> bool:
        self._reason = UpstreamProtocolError(f"endpoint {self._endpoint}: {event.reason}")
        return True

    def _reset_error(self, event: h2events.StreamReset) -> MeshError:
        what = f"endpoint {self._endpoint}: "
        if event.remote:
            return StreamReset(
                f"{what}stream was reset with code {event.code}", h2_code=event.code, retryable=not event.processed
            )
        if not event.processed:
            return GoAway(f"{what}request was not processed before the connection went away")
        return UpstreamProtocolError(f"{what}{event.reason or 'malformed response'}")

    # ----- requests -----

    async def exchange(self, request: Request) -> Response:
        """Sends *request* and waits for the response's head.

        Raises:
            StreamReset, GoAway, ConnectionLost: no response came; ``retryable`` says whether the request may have
                been processed.
            RequestBodyError: the request's body broke before the response came.
            UpstreamProtocolError: the response was malformed.
            LocalProtocolError: the request cannot be sent over HTTP/2.
        """
        link = self.link
        codec = link.codec
        body = request.body
        end = body.end
        complete = end is not None and end.error is None and not end.trailers
        fields = request.headers.raw
        for name, _ in fields:
            if name == b"host":
                fields = without(fields, b"host")
                break
        if request.expect_continue:
            fields = [*fields, (b"expect", b"100-continue")]
        try:
            if request.protocol is None:
                stream_id = codec.send_request(
                    request.method, request.scheme, request.authority, request.path, fields, end_stream=complete
                )
            else:
                stream_id = await self._extended_connect(request, fields)
                complete = False
        except BaseException:
            # The place that was kept for it is free again.
            self.ended()
            raise
        link.opened += 1
        stream = ClientStream(self, request, stream_id)
        link.streams[stream_id] = stream
        if request.timeouts is not None and self._sweeper is not None:
            stream.limits = ExchangeLimits(self._sweeper, request, stream.moved, stream.expire)
        try:
            if complete:
                stream.sent()
            else:
                self._upload(stream, request)
            link.flush_turn()
            while stream.head is None:
                if stream.end is not None and stream.end.error is not None:
                    raise again(stream.end.error)
                await stream._news()
        except BaseException:
            stream.abort(_reason(request))
            raise
        head = stream.head
        if request.protocol is not None and 200 <= head.status < 300:
            return Response(101, Headers(head.headers), stream, 20, request.protocol)
        return Response(head.status, Headers(head.headers), stream, 20)

    def _upload(self, stream: ClientStream, request: Request) -> None:
        """Sends what is there of the body; a task is started only for what is not."""
        try:
            rest = send_ready(self.link, stream, request.body)
        except Exception as error:
            stream.upload_broke(error)
            return
        if rest is None:
            stream.sent()
        else:
            assert self._nursery is not None
            self._nursery.start_soon(stream.upload, request.body, rest)

    async def _extended_connect(self, request: Request, fields: Fields) -> int:
        """Opens a tunnel (RFC 8441): the HTTP/1 form of an upgrade, which the stack uses, becomes a CONNECT."""
        while not self.settled and not self.retired:
            await self._settings.wait()
        if not self.usable:
            raise self._lost("connection takes no more requests", retryable=True)
        if not self.link.codec.extended_connect:
            raise UpstreamProtocolError(f"endpoint {self._endpoint}: extended CONNECT is not accepted")
        fields = without(fields, b"sec-websocket-key")
        return self.link.codec.send_request(
            b"CONNECT",
            request.scheme,
            request.authority,
            request.path,
            fields,
            end_stream=False,
            protocol=request.protocol,
        )


def _reason(request: Request) -> BaseException | None:
    """Why an exchange is given up: the code with which the client reset it goes on to the upstream (X-68)."""
    end = request.body.end
    return end.error if end is not None else None


_ACTIONS: Final[dict[type, Callable[[Http2Connection, Any], bool | None]]] = {
    h2events.TrailersReceived: Http2Connection._trailers,
    h2events.WindowUpdated: Http2Connection._window,
    h2events.StreamReset: Http2Connection._reset,
    h2events.InformationalReceived: Http2Connection._informed,
    h2events.SettingsChanged: Http2Connection._settings_came,
    h2events.PingAcknowledged: Http2Connection._pong,
    h2events.GoAwayReceived: Http2Connection._goaway,
    h2events.ConnectionTerminated: Http2Connection._terminated,
}
