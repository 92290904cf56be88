"""Accepting: listeners in, one contained task for each connection, a drain at the end."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore._wakeup import WakeupQueue, checkpoint
from meshcore.accounting.passage import SERVED, Passage
from meshcore.addresses import format_address
from meshcore.errors import AuthorizationError, MeshError, TlsError
from meshcore.transport.about import About
from meshcore.transport.drain import Drain
from meshcore.transport.socket import SocketConnection, address_of, wait_readable
from meshcore.transport.stream import close_at_once, connection_over
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Accepted
from meshcore.transport.tcp import TcpOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from meshcore.abc import NewAccept
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Address

__all__ = ["Server", "ServerStatistics", "Serving", "drain_on_signal", "serve"]

log = logging.getLogger(__name__)

_BATCH = 16
"""Connections accepted in one turn: what is running goes first again after that."""
_PAUSE = 0.1
"""Seconds before another try after an accept that failed for want of something."""
_TELL_EVERY = 1.0
"""Seconds between two lines about clients that were turned away; what comes between is told at debug."""
_PER_CONNECTION = frozenset(
    # accept(2): the failure of one connection that was waiting, not of the listener.
    getattr(errno, name)
    for name in ("ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
                 "EOPNOTSUPP", "ENETUNREACH", "EINTR")
    if hasattr(errno, name)
)  # fmt: skip

# What the network does to connections; never louder than debug.
_EXPECTED = (MeshError, OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


@attrs.frozen
class ServerStatistics:
    """A server's counts at one moment.

    Attributes:
        open_connections: being served now.
        accepted_total: accepted so far.
        crashes_total: connections ended by an exception that nobody expected.
        accept_errors_total: accepts that failed.
        draining: whether it accepts no more.
    """

    open_connections: int
    accepted_total: int
    crashes_total: int
    accept_errors_total: int
    draining: bool


class Serving:
    """What accepted connections are served with.

    Attributes:
        new_accept: makes the service of each.
        upstreams: where services start what outlives connections.
        name: the listener's name in ``Accepted``.
        open: connections that are being served with it.
    """

    __slots__ = ("name", "new_accept", "open", "upstreams")

    def __init__(self, new_accept: NewAccept[Accepted], upstreams: trio.Nursery, name: str) -> None:
        self.new_accept = new_accept
        self.upstreams = upstreams
        self.name = name
        self.open = 0


class Server:
    """A running server: what ``serve`` reports as started.

    Attributes:
        listeners: what it accepts from.
        addresses: the listeners' addresses: those of sockets, and the ``address`` of any other that has one.
        drain: ends it.
        sweeper: enforces the limits of all its connections.
        grace: seconds that connections may take once the drain has started.
        serving: what the next connection is served with.
        open_connections, accepted_total, crashes_total, accept_errors_total: see :class:`ServerStatistics`.
    """

    def __init__(
        self,
        new_accept: NewAccept[Accepted],
        listeners: Sequence[trio.abc.Listener[Any]],
        upstreams: trio.Nursery,
        drain: Drain,
        name: str,
        options: TcpOptions,
        max_connections: int | None,
        grace: float = 120.0,
    ) -> None:
        self.grace = grace
        self.serving = Serving(new_accept, upstreams, name)
        self.listeners = tuple(listeners)
        self.addresses: tuple[Address, ...] = tuple(
            found for listener in listeners if (found := _address(listener)) is not None
        )
        self.drain = drain
        self.sweeper = Sweeper(self.crashed)
        self.open_connections = 0
        self.accepted_total = 0
        self.crashes_total = 0
        self.accept_errors_total = 0
        for listener in listeners:
            if isinstance(listener, trio.SocketListener):
                # Before anybody is told that it listens: what connects from now on inherits them.
                options.apply(listener.socket)
        self._options = options
        self._max_connections = max_connections
        self._room = WakeupQueue()
        self._told = float("-inf")

    @property
    def listener(self) -> str:
        """The listener's name, for messages."""
        return self.serving.name

    def swap(self, new_accept: NewAccept[Accepted], upstreams: trio.Nursery, name: str) -> Serving:
        """Serves every connection from now on with *new_accept*; those that are open go on with what they have, which
        is what this returns.  The arguments are those of :func:`serve`."""
        old, self.serving = self.serving, Serving(new_accept, upstreams, name)
        return old

    def statistics(self) -> ServerStatistics:
        """The counts now."""
        return ServerStatistics(
            open_connections=self.open_connections,
            accepted_total=self.accepted_total,
            crashes_total=self.crashes_total,
            accept_errors_total=self.accept_errors_total,
            draining=self.drain.started,
        )

    def crashed(self, error: BaseException, where: str, /) -> None:
        """Counts and logs an exception that ended one connection: see :class:`~meshcore.transport.connection.Owner`."""
        self.crashes_total += 1
        log.warning("crash in %s: %s: %s", where, type(error).__name__, error, exc_info=error)

    async def accept_from(self, listener: trio.abc.Listener[Any], nursery: trio.Nursery) -> None:
        """Accepts until cancelled, or until the listener is closed."""
        try:
            if isinstance(listener, trio.SocketListener):
                await self._accept_sockets(listener, nursery)
            else:
                await self._accept_streams(listener, nursery)
        except trio.ClosedResourceError:
            log.debug("listener closed: %s", listener)

    async def _accept_sockets(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        found = listener.socket
        local = address_of(found.getsockname())
        # The same descriptor without Trio's wrapper, which would cost a checkpoint for each connection.
        raw = socket.socket(found.family, found.type, found.proto, fileno=found.fileno())
        try:
            raw.setblocking(False)
            wildcard = local[0] in ("0.0.0.0", "::")
            inherited: bool | None = None
            while True:
                await self._wait_for_room()
                await wait_readable(raw.fileno())
                for _ in range(_BATCH):
                    if found.fileno() == -1:
                        return
                    try:
                        sock, name = raw.accept()
                    except BlockingIOError:
                        break
                    except OSError as error:
                        await self._accept_failed(error, local)
                        break
                    try:
                        connection = SocketConnection(
                            sock, address_of(sock.getsockname()) if wildcard else local, address_of(name)
                        )
                        if inherited is None:
                            inherited = _inherited(sock, self._options)
                        if not inherited:
                            self._options.apply(sock)
                    except OSError as error:
                        # Gone before it was looked at.
                        log.debug("connection closed at accept: %s", error)
                        sock.close()
                        continue
                    self._start(connection, nursery)
                    if self._max_connections is not None and self.open_connections >= self._max_connections:
                        break
                else:
                    await checkpoint()
        finally:
            raw.detach()

    async def _accept_streams(self, listener: trio.abc.Listener[Any], nursery: trio.Nursery) -> None:
        while True:
            await self._wait_for_room()
            try:
                stream = await listener.accept()
            except OSError as error:
                await self._accept_failed(error, listener)
                continue
            self._start(connection_over(stream), nursery)

    async def _accept_failed(self, error: OSError, where: object) -> None:
        self.accept_errors_total += 1
        if error.errno in _PER_CONNECTION:
            log.debug("accept at %s: %s", where, error)
            return
        log.warning("accept at %s failed, trying again in %s s: %s", where, _PAUSE, error)
        await trio.sleep(_PAUSE)

    async def _wait_for_room(self) -> None:
        if self._max_connections is not None:
            while self.open_connections >= self._max_connections:
                await self._room.wait()

    def _start(self, connection: Connection, nursery: trio.Nursery) -> None:
        connection.owner = self
        connection.drain = self.drain
        connection.sweeper = self.sweeper
        connection.poll_with(self.sweeper.poller)
        connection.account = SERVED
        self.accepted_total += 1
        self.open_connections += 1
        nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        """One connection: the boundary that no exception of it crosses."""
        serving = self.serving
        serving.open += 1
        cancelled = True
        try:
            accepted = Accepted(serving.name, connection.local, connection.peer)
            await serving.new_accept.new_service(accepted, serving.upstreams)(connection)
            cancelled = False
        except _EXPECTED as error:
            self._ended(connection, error)
        except Exception as error:
            self._crashed_in(connection, error)
        except BaseExceptionGroup as group:
            # A cancellation, and something else beside it: the cancellation has to go on.
            crash, rest = group.split(Exception)
            if crash is not None:
                self._crashed_in(connection, crash)
            if rest is not None:
                raise rest from None
        finally:
            connection.close()
            passage = connection.account
            if isinstance(passage, Passage):
                passage.end(trio.current_time(), None, cancelled)
            serving.open -= 1
            self.open_connections -= 1
            self._room.wake_all()

    def _ended(self, connection: Connection, error: BaseException) -> None:
        """Tells how a connection ended that the network, or its peer, has ended: who was turned away for what it is
        (a certificate, a policy) at a level that operators see, and no more often than a flood of them may write."""
        _account(connection, error)
        level = logging.DEBUG
        if isinstance(error, AuthorizationError) or (isinstance(error, TlsError) and error.lasting):
            now = trio.current_time()
            if now - self._told >= _TELL_EVERY:
                self._told = now
                level = logging.INFO
        log.log(
            level,
            "connection closed: client.addr=%s server.addr=%s: %s",
            format_address(connection.peer),
            format_address(connection.local),
            error,
            extra=About(connection),
        )

    def _crashed_in(self, connection: Connection, error: Exception) -> None:
        _account(connection, error)
        if isinstance(error, ExceptionGroup) and error.split(_EXPECTED)[1] is None:
            log.debug(
                "connection closed: client.addr=%s server.addr=%s: %s",
                format_address(connection.peer),
                format_address(connection.local),
                error,
                extra=About(connection),
            )
            return
        ends = f"client.addr={format_address(connection.peer)} server.addr={format_address(connection.local)}"
        self.crashed(error, f"connection {ends}")


def _account(connection: Connection, error: BaseException) -> None:
    """Ends the passage of a connection that is measured, with what came of it."""
    passage = connection.account
    if isinstance(passage, Passage):
        passage.end(trio.current_time(), error)


def _inherited(sock: socket.socket, options: TcpOptions) -> bool:
    """Whether an accepted socket has the listener's options already, as Linux has it."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    nodelay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    keepalive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    return nodelay == options.nodelay and keepalive == (options.keepalive is not None)


async def serve(
    new_accept: NewAccept[Accepted],
    listeners: Iterable[trio.abc.Listener[Any]],
    *,
    upstreams: trio.Nursery,
    drain: Drain | None = None,
    grace: float = 120.0,
    max_connections: int | None = None,
    name: str = "",
    options: TcpOptions = TcpOptions(),  # noqa: B008
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accepts connections and serves each with *new_accept*, until drained or cancelled; closes the listeners.

    Each connection has a task of its own, which is a boundary: whatever is raised in it ends that
    connection alone (A-07).  Once *drain* has started nothing more is accepted; connections may take
    *grace* to finish and are then cut.

    Args:
        new_accept: makes the service of each connection, with ``Accepted`` as its target.
        listeners: of sockets, or any other of ``trio.abc.Listener``.
        upstreams: where services start what outlives connections; it must outlive this call.
        drain: starts the end; None: only cancellation or closing the listeners ends it.
        grace: seconds from the drain's start to the cut (L-04).
        max_connections: more wait in the listeners' backlog; None: no limit.
        name: the listener's name in ``Accepted``.
        options: of the accepted sockets.
        task_status: started with the :class:`Server`.
    """
    listeners = tuple(listeners)
    drain = Drain() if drain is None else drain
    server = Server(new_accept, listeners, upstreams, drain, name, options, max_connections, grace)
    try:
        async with trio.open_nursery() as background:
            background.start_soon(server.sweeper.run)
            async with trio.open_nursery() as servers:
                with trio.CancelScope() as accepting:
                    background.start_soon(_cut, server, accepting, servers.cancel_scope)
                    async with trio.open_nursery() as loops:
                        for listener in listeners:
                            loops.start_soon(server.accept_from, listener, servers)
                        task_status.started(server)
                await _close(listeners)
            background.cancel_scope.cancel()
    finally:
        for listener in listeners:
            close_at_once(listener)


async def _cut(server: Server, accepting: trio.CancelScope, servers: trio.CancelScope) -> None:
    """Ends the accepting at the drain, and what is still open when its grace period is over."""
    await server.drain.wait_started()
    accepting.cancel()
    grace = server.grace
    await trio.sleep(grace)
    log.warning(
        "graceful shutdown did not complete in %s s, closing %d connections", f"{grace:g}", server.open_connections
    )
    servers.cancel()


def _address(listener: trio.abc.Listener[Any]) -> Address | None:
    if isinstance(listener, trio.SocketListener):
        return address_of(listener.socket.getsockname())
    found: Address | None = getattr(listener, "address", None)
    return found


async def _close(listeners: Iterable[trio.abc.Listener[Any]]) -> None:
    for listener in listeners:
        await listener.aclose()


async def drain_on_signal(
    drain: Drain,
    *,
    stop: Callable[[signal.Signals], object] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Starts *drain* at the first SIGTERM or SIGINT (L-02); a second one stops the process at once.

    Runs until cancelled; to be started in a nursery that outlives the servers, in the main thread.

    Args:
        drain: what to start.
        stop: called with the second signal; default: the process ends as if nothing had caught it.
        task_status: started once signals are caught.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            which = signal.Signals(number)
            if not drain.started:
                log.info("%s: draining; once more stops at once", which.name)
                drain.start(which.name)
            else:
                log.warning("%s: stopping at once", which.name)
                (stop or _die)(which)


def _die(which: signal.Signals) -> None:
    """Ends the process by the signal, so that whoever started it sees the usual status."""
    logging.shutdown()
    signal.signal(which, signal.SIG_DFL)
    os.kill(os.getpid(), which)
