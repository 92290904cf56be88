"""The accepted side of one HTTP/2 connection: requests in, responses out (RFC 9113).

The connection's task reads; one writer task writes what cannot be written at once; each stream is served by a task
that is kept for later ones (``_stream_task``).  Everything a read brings is dispatched before anything is flushed.
"""

from __future__ import annotations

import logging
import math
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from meshcore._wakeup import checkpoint, give_way
from meshcore.codec import events as h2events
from meshcore.codec.h2 import server_codec
from meshcore.errors import (
    CANCEL,
    NO_ERROR,
    REFUSED_STREAM,
    SETTINGS_TIMEOUT,
    StreamReset,
    StreamTimeout,
)
from meshcore.http.body import Empty
from meshcore.http.headers import Headers
from meshcore.http.message import Request
from meshcore.server._limits import RATE_WINDOW
from meshcore.server._stream_task import StreamTask
from meshcore.transport.about import About
from meshcore.transport.flow_body import FlowBody
from meshcore.transport.http2 import READER_WATER, Http2Link
from meshcore.transport.liveness import Liveness
from meshcore.transport.sweep import Sweeper
from meshcore.transport.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.abc import HttpService
    from meshcore.server.options import ServerOptions
    from meshcore.transport.connection import Connection

__all__ = ["Http2Server"]

log = logging.getLogger(__name__)

DRAIN_PING = b"mesh-end"
DRAIN_NOTICE = 1.0
"""Seconds between the first and the last GOAWAY where the client does not answer the PING between them."""

REQUESTS_IN_A_ROW = 64
"""Requests of one read that are begun before others get their turn, an upload counting as ``UPLOAD`` of them."""

UPLOAD = REQUESTS_IN_A_ROW // 2
"""An upload costs tasks of its own and mostly a connection of its own to an upstream.  So no more than two that have
not come whole are begun at a time: begun together, a hundred of them would all be ready to run together too, again and
again until they end."""

READS_IN_A_ROW = 16
"""Reads after which the scheduler gets its turn, in case the transport never waits."""

_EMPTY: Final = Empty()


class Http2Server:
    """One accepted HTTP/2 connection.

    Attributes:
        link: its codec, socket and streams.
        options: its limits and times.
        service: what requests are given to.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_dispatching",
        "_drain_sent",
        "_established",
        "_failed",
        "_finishing",
        "_forget_drain",
        "_goaway_due",
        "_idle",
        "_liveness",
        "_new",
        "_nursery",
        "_reading",
        "_started",
        "_sweeper",
        "_swept_idle",
        "_swept_limit",
        "connection",
        "link",
        "options",
        "service",
    )

    def __init__(self, connection: Connection, service: HttpService, options: ServerOptions) -> None:
        self.connection = connection
        self.service = service
        self.options = options
        limits = options.http2
        if not options.allow_upgrade and limits.extended_connect:
            limits = attrs.evolve(limits, extended_connect=False)
        codec = server_codec(limits, options.engine)
        self.link: Http2Link[StreamTask] = Http2Link(codec, connection)
        self._idle: list[StreamTask] = []
        self._context = copy_context()
        self._reading = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._established = False
        self._finishing = False
        # What was begun since others had their turn, and the last upload of it while it may still come whole.
        self._new: list[StreamTask] = []
        self._dispatching = False
        self._failed = False
        self._drain_sent: float | None = None
        self._goaway_due: int | None = None
        self._forget_drain: Any = None
        self._started = now = trio.current_time()
        self._sweeper: Sweeper | None = connection.sweeper
        self._swept_limit: float | None = None
        self._swept_idle = 0
        self._liveness = Liveness(
            self.link,
            now,
            idle=options.idle_timeout,
            age=options.max_age,
            stall=_smallest(options.body_idle_timeout or options.idle_timeout, options.write_timeout),
            interval=options.keepalive_interval,
            timeout=options.keepalive_timeout,
        )

    def __repr__(self) -> str:
        return f"<Http2Server {self.connection!r} streams={len(self.link.streams)}>"

    # ----- the connection's life -----

    async def run(self) -> None:
        """Reads, and serves what was read, until the connection is over or drained."""
        link = self.link
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._sweeper is None:
                self._sweeper = Sweeper()
                nursery.start_soon(self._sweeper.run)
            self._sweep_every()
            link.codec.start()
            link.flush()
            nursery.start_soon(link.write)
            if self.connection.drain is not None:
                self._forget_drain = self.connection.drain.on_start(self.drain)
            with self._reading:
                await self._read()
            for exchange in list(link.streams.values()):
                exchange.reset(StreamReset("client closed the connection", h2_code=CANCEL))
            if self._finishing and link.error is None:
                await self._linger()
            nursery.cancel_scope.cancel(reason="connection is over")

    async def _read(self) -> None:
        link = self.link
        connection, codec = self.connection, link.codec
        turns = 0
        while True:
            data = await connection.receive_some()
            if not data:
                return
            self._dispatching = True
            began = trio.current_time()
            if self._happened(codec.receive_data(data, began)):
                return
            if codec.costly:
                if await self._read_on(began):
                    return
            elif self._new:
                await self._begin(False)
            if self._goaway_due is not None:
                self._last_goaway(self._goaway_due)
            self._dispatching = False
            if self._finishing and not link.streams:
                return
            # Answers to PING and SETTINGS; mostly nothing, as requests make no answer of the codec's own.
            if link.relayed:
                link.flush_relayed()
            link.flush()
            if link.unsent >= READER_WATER:
                await link.wait_readable()
            turns += 1
            if turns == READS_IN_A_ROW:
                turns = 0
                await checkpoint()

    async def _read_on(self, began: float) -> bool:
        """Deals with what is left of a read that costs too much for one go, of which the first piece was begun at
        *began*; whether the connection is over."""
        codec = self.link.codec
        with Turn() as turn:
            while True:
                worked = trio.current_time() - began
                if self._new:
                    await self._begin(codec.unfinished)
                if not codec.costly:
                    return False
                await turn.wait(worked)
                began = trio.current_time()
                if self._happened(codec.receive_data(b"", began)):
                    return True

    def _happened(self, events: list[h2events.Event]) -> bool:
        """Deals with what was read; whether the connection is over."""
        for event in events:
            # What comes most often, without a look into a table.
            if isinstance(event, h2events.RequestReceived):
                self._request(event)
            elif isinstance(event, h2events.DataReceived):
                self._data(event)
            elif _ACTIONS[type(event)](self, event):
                return True
        return False

    async def _begin(self, unfinished: bool) -> None:
        """Begins the requests of one read: now it is known which of them have come whole.  While the read is
        *unfinished* the others wait for what else it brings: an upload costs more than all of a small request."""
        new, self._new = self._new, []
        begun = 0
        for task in new:
            if unfinished and task.body is not None and not task.body.complete:
                self._new.append(task)
                continue
            if begun >= REQUESTS_IN_A_ROW:
                # What has been read is promised: a cancellation has to wait for the rest of it.
                begun = 0
                await give_way()
            body = task.body
            begun += 1 if body is None or body.complete else UPLOAD
            if task.kept:
                task.resume(self._context.copy())
            else:
                assert self._nursery is not None
                self._nursery.start_soon(task.run)

    async def _linger(self) -> None:
        """Sends what is left and half-closes, then waits for the client to have seen it: closing at once would make
        its kernel throw away what it has not read yet (RFC 9112 §9.6 says why)."""
        # What was promised is sent, however long that takes (the sweeper sees to it that it goes on at all).
        patience = self.options.linger_timeout if self._failed else math.inf
        with trio.move_on_after(patience) as scope:
            await self.link.wait_sent()
            scope.deadline = trio.current_time() + self.options.linger_timeout
            await self.connection.send_eof()
            left = self.options.drain_body
            while left > 0 and (data := await self.connection.receive_some()):
                left -= len(data)

    def release(self) -> None:
        """Lets go of everything; the connection's tasks are gone."""
        if self.link.crash is not None:
            self.crashed(self.link.crash)
        if self._forget_drain is not None:
            self._forget_drain()
        if self._sweeper is not None:
            self._sweeper.discard(self)
        self.connection.close()
        self.link.codec.close()

    def crashed(self, error: BaseException) -> None:
        """Something failed that should not have: it is told to whoever accepted the connection."""
        owner = self.connection.owner
        if owner is not None:
            owner.crashed(error, "http2 server")
        else:
            log.error("http2 server: %r", error, exc_info=error, extra=About(self.connection))

    # ----- what was read; a true answer ends the connection -----

    def _request(self, event: h2events.RequestReceived) -> None:
        link = self.link
        streams = link.streams
        stream_id = event.stream_id
        if len(streams) >= self.options.http2.max_concurrent_streams:
            # A reset stream keeps its slot until its upstream work has ended (CVE-2023-44487).
            link.codec.reset_stream(stream_id, REFUSED_STREAM)
            return
        self._established = True
        if event.method == b"CONNECT" and event.protocol is None and not self.options.allow_connect:
            link.codec.send_response(stream_id, 405, [(b"allow", b"GET, HEAD, POST")], end_stream=True)
            link.codec.reset_stream(stream_id, NO_ERROR)
            return
        link.opened += 1
        body: FlowBody | None = None
        if not event.end_stream:
            body = FlowBody(link, stream_id, event.content_length)
        request = Request(
            event.method if event.protocol is None else b"GET",
            event.scheme,
            event.authority,
            event.path,
            Headers(event.headers),
            _EMPTY if body is None else body,
            20,
            event.protocol,
            False,
            event.expect_continue,
            connection=self.connection,
        )
        task = self._idle.pop() if self._idle else StreamTask(self)
        task.take(stream_id, request, body)
        streams[stream_id] = task
        self._new.append(task)

    def _data(self, event: h2events.DataReceived) -> None:
        exchange = self.link.streams.get(event.stream_id)
        if exchange is None or exchange.body is None:
            if event.flow and self.link.codec.acknowledge(event.stream_id, event.flow):
                self.link.flush_soon()
        else:
            exchange.body.received(event)

    def _trailers(self, event: h2events.TrailersReceived) -> None:
        exchange = self.link.streams.get(event.stream_id)
        if exchange is not None and exchange.body is not None:
            exchange.body.push_end(event.headers)

    def _window(self, event: h2events.WindowUpdated) -> None:
        if event.stream_id:
            exchange = self.link.streams.get(event.stream_id)
            if exchange is not None:
                exchange.credit.wake()
        else:
            self._wake_senders()

    def _settings(self, event: h2events.SettingsChanged) -> None:
        self._established = True
        self._wake_senders()

    def _wake_senders(self) -> None:
        """Any window may have grown (trap 8)."""
        for exchange in self.link.streams.values():
            exchange.credit.wake()

    def _reset(self, event: h2events.StreamReset) -> None:
        exchange = self.link.streams.get(event.stream_id)
        if exchange is not None:
            who = "client reset the stream" if event.remote else "stream was reset"
            reason = f": {event.reason}" if event.reason else ""
            exchange.reset(StreamReset(f"{who} with code {event.code}{reason}", h2_code=event.code, retryable=False))

    def _pong(self, event: h2events.PingAcknowledged) -> None:
        if event.data == DRAIN_PING:
            self._last_goaway()
        else:
            self._liveness.answered(event.data)

    def _terminated(self, event: h2events.ConnectionTerminated) -> bool:
        if event.abuse and self.options.on_abuse is not None:
            self.options.on_abuse(event.abuse)
        log.debug("%r: %s", self.connection, event.reason, extra=About(self.connection))
        self._finishing = self._failed = True
        return True

    def _goaway(self, event: h2events.GoAwayReceived) -> None:
        """The client opens no more streams; it closes when it has what it wants."""

    # ----- called by stream tasks -----

    def keep(self, task: StreamTask) -> bool:
        """Whether *task* shall wait for another stream; it is noted if so."""
        if self._finishing:
            return False
        self._idle.append(task)
        return True

    def idle(self) -> None:
        """The last stream has ended."""
        if self._drain_sent is not None and self._finishing and not self._dispatching:
            self._reading.cancel(reason="drained")

    def limit_changed(self, limit: float | None) -> None:
        """An exchange is limited from now on."""
        if limit is not None and self._sweeper is not None and (self._swept_limit is None or limit < self._swept_limit):
            self._swept_limit = limit
            self._sweeper.add(self, limit)

    # ----- drain and limits -----

    def drain(self) -> None:
        """Takes no new streams, finishes those that are open, then closes (RFC 9113 §6.8: a first GOAWAY that
        refuses nothing, one round trip, then the real one)."""
        if self._drain_sent is None:
            self._drain_sent = trio.current_time()
            codec = self.link.codec
            codec.shutdown_notice()
            codec.ping(DRAIN_PING)
            self.link.flush_soon()
            self.limit_changed(DRAIN_NOTICE)

    def _last_goaway(self, code: int = NO_ERROR) -> None:
        if self.link.codec.unfinished:
            # It names the last stream that has come, and what has been read is not looked through yet.
            self._goaway_due = code
        elif not self._finishing:
            self._finishing = True
            if self._drain_sent is None:
                self._drain_sent = trio.current_time()
            self.link.codec.goaway(code)
            self.link.flush_soon()
            if not self.link.streams and not self._dispatching:
                self._reading.cancel(reason="drained")

    def _sweep_every(self) -> None:
        """Tells the sweeper the smallest limit in force."""
        limits = [limit for limit in (self._liveness.limit, self.options.body_idle_timeout) if limit is not None]
        if self.options.min_body_rate is not None:
            limits.append(RATE_WINDOW)
        if not self._established and self.options.header_timeout is not None:
            limits.append(self.options.header_timeout)
        if self._drain_sent is not None and not self._finishing:
            limits.append(DRAIN_NOTICE)
        limits.extend(
            smallest
            for exchange in self.link.streams.values()
            if exchange.limits is not None and (smallest := exchange.limits.smallest) is not None
        )
        if self._sweeper is None:
            return
        limit = min(limits, default=None)
        if limit != self._swept_limit:
            self._swept_limit = limit
            if limit is None:
                self._sweeper.discard(self)
            else:
                self._sweeper.add(self, limit)

    def sweep(self, now: float) -> None:
        """Ends what is over a limit (see :class:`~meshcore.transport.sweep.Swept`)."""
        options = self.options
        if not self._established:
            if options.header_timeout is not None and now - self._started >= options.header_timeout:
                self._last_goaway(SETTINGS_TIMEOUT)
        elif self._drain_sent is not None and not self._finishing and now - self._drain_sent >= DRAIN_NOTICE:
            self._last_goaway()
        verdict = self._liveness.check(now)
        if verdict == "idle":
            self._last_goaway()
        elif verdict == "old":
            self.drain()
        elif verdict:
            self.connection.close()
            return
        for exchange in list(self.link.streams.values()):
            if what := exchange.exceeded(now):
                exchange.expire(StreamTimeout(what))
        self._trim()
        self._sweep_every()

    def _trim(self) -> None:
        """Kept tasks that nobody has needed since the last sweep but one are given up, for their memory."""
        spare = min(len(self._idle), self._swept_idle)
        self._swept_idle = len(self._idle)
        if spare > 1 and not self.link.streams:
            for task in self._idle[1:]:
                task.retire()
            del self._idle[1:]


def _smallest(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


_ACTIONS: Final[dict[type, Callable[[Http2Server, Any], bool | None]]] = {
    h2events.TrailersReceived: Http2Server._trailers,
    h2events.WindowUpdated: Http2Server._window,
    h2events.SettingsChanged: Http2Server._settings,
    h2events.StreamReset: Http2Server._reset,
    h2events.PingAcknowledged: Http2Server._pong,
    h2events.GoAwayReceived: Http2Server._goaway,
    h2events.ConnectionTerminated: Http2Server._terminated,
}
