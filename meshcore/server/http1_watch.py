"""What ends an HTTP/1 connection from outside: limits, hang-ups and drains."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

import trio

from meshcore.errors import StreamTimeout
from meshcore.server._limits import RATE_WINDOW
from meshcore.server.request_body import RequestBody, TunnelBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.message import Request, Response, Timeouts
    from meshcore.server.options import ServerOptions
    from meshcore.transport.connection import Connection

__all__ = ["ENDING", "HEAD", "IDLE", "SENDING", "TUNNEL", "WAITING", "Watched"]

# What the connection is doing: nothing, reading a head, awaiting the service, sending the response …
IDLE, HEAD, WAITING, SENDING, TUNNEL, ENDING = range(6)

_PROMPT: Final = 2.0
"""Largest limit told to the sweeper while a head is awaited, seconds: it looks four times as often,
so that a slow head is cut within half a second of its limit."""


class Watched:
    """The part of a connection that its sweeper, its drain and its client's hang-up act upon.

    All of it is synchronous.  What waits in the connection's own task is ended by closing the
    connection; only a call of the service, which may wait for anything, is cancelled.
    """

    __slots__ = (
        "_begun",
        "_blocked",
        "_body",
        "_closing",
        "_connection",
        "_forget_drain",
        "_gone",
        "_later",
        "_limited",
        "_moved",
        "_options",
        "_phase",
        "_prompt",
        "_refusal",
        "_response",
        "_scope",
        "_seen",
        "_served",
        "_since",
        "_took",
        "_took_at",
        "_window",
    )

    def __init__(self, connection: Connection, options: ServerOptions) -> None:
        self._connection = connection
        self._options = options
        self._scope = trio.CancelScope()
        self._phase = IDLE
        self._served = 0
        self._closing = False
        # The client has hung up, which is told once: perhaps before what it sent has been read.
        self._gone = False
        self._refusal = 0
        self._response: Response | None = None
        self._body: RequestBody | TunnelBody | None = None
        # The request whose limits are enforced now, and since when its response is being sent.
        self._limited: Request | None = None
        # One whose limits are enforced once its response waits for the client.
        self._later: Request | None = None
        self._begun = self._since = self._moved = trio.current_time()
        self._seen = 0
        self._window = (self._moved, 0)
        # Whether bytes wait for the client to take some, how many it had taken, and since when no more.
        self._blocked = False
        self._took = 0
        self._took_at = self._moved
        self._prompt = True
        self._forget_drain: Callable[[], None] | None = None

    def watch(self) -> None:
        """Begins: called once, before the first read."""
        connection = self._connection
        sweeper = connection.sweeper
        if sweeper is not None:
            limit = self._options.header_timeout
            if limit is not None:
                sweeper.add(self, min(limit, _PROMPT))
            else:
                self._watch_idle()
            sweeper.watch_hangup(connection.fileno(), self._hung_up)
        if connection.drain is not None:
            self._forget_drain = connection.drain.on_start(self._drain)

    def unwatch(self) -> None:
        """Ends it: called once, before the connection is closed."""
        if self._forget_drain is not None:
            self._forget_drain()
        sweeper = self._connection.sweeper
        if sweeper is not None:
            sweeper.discard(self)
            sweeper.unwatch_hangup(self._connection.fileno())

    # ----- what the connection tells -----

    def _head_began(self) -> None:
        """A head has come in part: its time runs from its first bytes, however steadily they drip."""
        if self._phase == IDLE:
            self._phase = HEAD
            limit = self._options.header_timeout
            sweeper = self._connection.sweeper
            if limit is not None and sweeper is not None:
                self._since = trio.current_time()
                self._prompt = True
                sweeper.add(self, min(limit, _PROMPT))

    def _watch_idle(self) -> None:
        """From here on only long limits hold."""
        self._prompt = False
        self._limited = None
        sweeper = self._connection.sweeper
        if sweeper is None:
            return
        options = self._options
        limits = [options.idle_timeout, options.body_idle_timeout, options.write_timeout, options.max_age]
        if options.min_body_rate is not None:
            limits.append(RATE_WINDOW)
        given = [limit for limit in limits if limit is not None]
        if given:
            sweeper.add(self, min(given))
        else:
            sweeper.discard(self)

    def _limit(self, request: Request, timeouts: Timeouts) -> None:
        """Enforces the limits of an exchange whose response is about to be sent (R-17); until then the
        connecting side does."""
        sweeper = self._connection.sweeper
        smallest = timeouts.smallest
        if sweeper is None or smallest is None:
            return
        if self._options.write_timeout is not None:
            smallest = min(smallest, self._options.write_timeout)
        now = self._since = self._moved = trio.current_time()
        if request.started is None:
            request.started = now
        self._limited = request
        self._prompt = True
        sweeper.add(self, smallest)

    def _write_began(self) -> None:
        """The client does not take at once what is sent to it; ``_blocked`` is reset when it has."""
        self._blocked = True
        later = self._later
        if later is not None and later.timeouts is not None:
            self._later = None
            self._limit(later, later.timeouts)
        self._took = self._connection.bytes_written
        self._took_at = trio.current_time()

    # ----- what is told to the connection -----

    def _hung_up(self) -> None:
        if self._options.half_close:
            return
        self._gone = True
        if self._phase in (WAITING, SENDING):
            self._scope.cancel("the client hung up")

    def _drain(self) -> None:
        """Idle: closed at once.  Busy: the answer says ``connection: close``.  A tunnel goes on."""
        self._closing = True
        if self._phase == IDLE and not self._at_hand():
            self._connection.close()

    def _at_hand(self) -> bool:
        """Whether a request has arrived that has not been read yet."""
        connection = self._connection
        if connection.rewound:
            return True
        fd = connection.fileno()
        if fd < 0:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def sweep(self, now: float, /) -> None:
        """See :class:`~meshcore.transport.sweep.Swept`."""
        options, phase = self._options, self._phase
        if self._blocked and self._stalled(now):
            self._expire(f"write timeout of {options.write_timeout:g} s exceeded")
            return
        if options.max_age is not None and now - self._begun >= options.max_age and not self._closing:
            self._drain()
        if phase == IDLE:
            if self._seen != self._served:
                self._seen = self._served
                self._moved = now
            limit = options.idle_timeout if self._served else options.header_timeout
            if limit is not None and now - self._moved >= limit:
                self._connection.close()
        elif phase == HEAD:
            limit = options.header_timeout
            if limit is not None and now - self._since >= limit:
                self._refuse_with(408)
        elif phase == WAITING:
            self._sweep_upload(now)
        elif phase == SENDING:
            self._sweep_response(now)

    def _refuse_with(self, status: int) -> None:
        self._refusal = status
        self._scope.cancel("too slow")

    def _idle(self, now: float, limit: float | None) -> bool:
        if limit is None:
            return False
        moved = self._connection.bytes_read + self._connection.bytes_written
        if moved != self._seen:
            self._seen = moved
            self._moved = now
            return False
        return now - self._moved >= limit

    def _stalled(self, now: float) -> bool:
        """Whether the client has taken nothing for too long."""
        limit = self._options.write_timeout
        if self._connection.bytes_written != self._took:
            self._took = self._connection.bytes_written
            self._took_at = now
            return False
        return limit is not None and now - self._took_at >= limit

    def _sweep_upload(self, now: float) -> None:
        """A client that is asked for its body and does not send it."""
        body = self._body
        if type(body) is not RequestBody or not body.reading:
            self._moved = now
            self._window = (now, self._connection.bytes_read)
            return
        options = self._options
        if self._idle(now, options.body_idle_timeout):
            self._refuse_with(408)
        if options.min_body_rate is not None and body.size_hint is not None:
            begun, before = self._window
            if now - begun >= RATE_WINDOW:
                if self._connection.bytes_read - before < options.min_body_rate * (now - begun):
                    self._refuse_with(408)
                self._window = (now, self._connection.bytes_read)

    def _sweep_response(self, now: float) -> None:
        request = self._limited
        timeouts = request.timeouts if request is not None else None
        idle = self._options.body_idle_timeout
        if request is not None and timeouts is not None:
            started = request.started
            if timeouts.idle is not None:
                idle = timeouts.idle
            if timeouts.request is not None and started is not None and now - started >= timeouts.request:
                self._expire(f"request timeout of {timeouts.request:g} s exceeded")
                return
            if timeouts.response is not None and now - self._since >= timeouts.response:
                self._expire(f"response timeout of {timeouts.response:g} s exceeded")
                return
        if self._idle(now, idle):
            self._expire(f"idle timeout of {idle:g} s exceeded")

    def _expire(self, message: str) -> None:
        """After the head there is only one way to say it: the connection ends in the middle (R-18)."""
        self._phase = ENDING
        if self._response is not None:
            self._response.body.abort(StreamTimeout(message))
        self._connection.reset()
