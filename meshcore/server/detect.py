"""Detect: which branch serves a connection, by its first bytes, and by who speaks first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import attrs
import trio

from meshcore.abc import Connect, NewAccept
from meshcore.codec.detect import MAX_PREFIX, Detection, detect
from meshcore.errors import RemoteProtocolError
from meshcore.stack import Stack
from meshcore.transport.connection import READ_SIZE, Connection

if TYPE_CHECKING:
    from meshcore.abc import Service
    from meshcore.transport.socket import SocketConnection

__all__ = ["Detect", "Observe"]

T = TypeVar("T")

Observe: TypeAlias = Callable[[str, float], None]
"""Told the result of each detection (``http/1``, ``http/2``, ``not_http``, ``read_timeout``, ``error``)
and the seconds it took (D-07)."""

_MakeService: TypeAlias = Callable[[], "Service[Connection, None]"]

_PROTOCOLS = {Detection.HTTP1: "http/1", Detection.HTTP2: "h2"}
_WORDS = {"http/1": "http/1", "h2": "http/2", "opaque": "opaq", "silent": "detect"}


@attrs.frozen
class Detect(Generic[T]):
    """Serves a connection as HTTP or forwards it opaque, by its first bytes.

    It reads on while they could still become HTTP, and no byte is lost (D-01 to D-03, D-09).  A client
    that stays silent for *timeout* may be waiting for the server: the opaque branch is then connected
    and the server's bytes are passed on (D-17), while the client's first bytes are still looked at.  If
    they are HTTP after all, and the server has not spoken, the opaque branch is cancelled and HTTP is
    served; if the server has spoken, the connection is closed: silence is no way round what the HTTP
    branch would have refused.  TLS is opaque here.

    After TLS was terminated, what a transport header said, or else what ALPN negotiated, decides at once.

    Attributes:
        http: the branch for HTTP/1 and HTTP/2; ``connection.protocol`` says which.
        opaque: the branch for everything else.
        opaque_ports: ports (of the original destination, or the listener's) that are opaque at once (D-15).
        timeout: seconds of silence before the server may speak (D-05: linkerd waits 10 s).
        protocol: forces one: ``"http/1"``, ``"h2"`` or ``"opaque"``; None detects.
        observe: hears of each detection.
        served: hears what each connection is served as: ``"http/1"``, ``"http/2"``, ``"opaq"``, or ``"detect"`` while
            the client is silent.
    """

    http: Stack[Connect, NewAccept[T]]
    opaque: Stack[Connect, NewAccept[T]]
    opaque_ports: frozenset[int] = frozenset()
    timeout: float = 1.0
    protocol: str | None = attrs.field(default=None, validator=attrs.validators.in_((None, "http/1", "h2", "opaque")))
    observe: Observe | None = attrs.field(default=None, repr=False)
    served: Callable[[str], None] | None = attrs.field(default=None, repr=False)

    def __repr__(self) -> str:
        if self.protocol is not None:
            return f"Detect(protocol={self.protocol!r})"
        ports = f", opaque_ports={sorted(self.opaque_ports)}" if self.opaque_ports else ""
        return f"Detect(timeout={self.timeout}{ports})"

    def branches(self) -> dict[str, Stack[Any, Any]]:
        """See :class:`meshcore.stack.Branching`."""
        return {"http": self.http, "opaque": self.opaque}

    def with_branch(self, name: str, branch: Stack[Any, Any], /) -> Detect[T]:
        """The same with another stack as the branch *name*."""
        if name == "http":
            return attrs.evolve(self, http=branch)
        if name == "opaque":
            return attrs.evolve(self, opaque=branch)
        raise LookupError(f"no branch {name!r}; the branches are: http, opaque")

    def layer(self, inner: Connect, /) -> NewAccept[T]:
        """Both branches over the same *inner*."""
        return _NewDetect(self, self.http.layer(inner), self.opaque.layer(inner))


class _NewDetect(Generic[T]):
    """Makes the detecting service of each accepted connection."""

    __slots__ = ("_http", "_layer", "_opaque")

    def __init__(self, layer: Detect[T], http: NewAccept[T], opaque: NewAccept[T]) -> None:
        self._layer = layer
        self._http = http
        self._opaque = opaque

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._http!r} and {self._opaque!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """Serves one connection that was accepted as *target*."""
        layer = self._layer

        def http() -> Service[Connection, None]:
            return self._http.new_service(target, nursery)

        def opaque() -> Service[Connection, None]:
            return self._opaque.new_service(target, nursery)

        async def service(connection: Connection) -> None:
            protocol = layer.protocol or _known(layer, target, connection)
            if protocol is None:
                protocol = await _first_bytes(layer, connection)
            if layer.served is not None and protocol is not None:
                layer.served(_WORDS[protocol])
            if protocol is None:
                connection.close()
            elif protocol == "silent":
                await _server_first(connection, http, opaque)
            else:
                connection.protocol = protocol
                await (opaque() if protocol == "opaque" else http())(connection)

        return service


def _known(layer: Detect[Any], target: object, connection: Connection) -> str | None:
    """What needs no look at the bytes."""
    if connection.protocol is not None:
        # A transport header has said it.
        return connection.protocol
    if connection.alpn == "h2":
        return "h2"
    if connection.alpn in ("http/1.1", "http/1.0"):
        return "http/1"
    if layer.opaque_ports:
        destination = getattr(target, "original", None) or connection.local
        if destination[1] in layer.opaque_ports:
            return "opaque"
    return None


async def _first_bytes(layer: Detect[Any], connection: Connection) -> str | None:
    """The protocol by the first bytes, which are put back; ``"silent"`` if they did not come in time or
    do not suffice; None if the connection ended before the first, or nothing is to begin any more."""
    started = trio.current_time()
    prefix = b""
    verdict = Detection.UNDECIDED
    ended = timed_out = False
    result = "error"
    try:
        try:
            # Most clients speak at once, and what is there already needs neither a wait nor a limit.
            prefix = connection.receive_nowait()
            ended = not prefix
            verdict = detect(prefix)
        except trio.WouldBlock:
            pass
        if verdict is Detection.UNDECIDED and not ended:
            with trio.move_on_after(layer.timeout) as limit:
                while verdict is Detection.UNDECIDED and not ended and len(prefix) < MAX_PREFIX:
                    data = await connection.receive_some()
                    ended = not data
                    prefix += data
                    verdict = detect(prefix)
            timed_out = limit.cancelled_caught
        if verdict is not Detection.UNDECIDED:
            protocol = _PROTOCOLS.get(verdict, "opaque")
            result = {"h2": "http/2", "opaque": "not_http"}.get(protocol, protocol)
        elif timed_out:
            protocol, result = "silent", "read_timeout"
            if not prefix and connection.drain is not None and connection.drain.started:
                # Nothing has begun here that a drain would have to let finish.
                return None
        elif ended and not prefix:
            return None
        else:
            protocol, result = "opaque", "not_http"
        if prefix:
            connection.unread(prefix)
        return protocol
    finally:
        if layer.observe is not None:
            layer.observe(result, trio.current_time() - started)


async def _server_first(connection: Connection, http: _MakeService, opaque: _MakeService) -> None:
    """The opaque branch, on approval: see :class:`Detect`."""
    with trio.CancelScope() as scope:
        undecided = _Undecided(connection, scope)
        await opaque()(undecided)
    if undecided.http is not None:
        connection.unread(undecided.seen)
        connection.protocol = undecided.http
        del undecided
        await http()(connection)


class _Undecided(Connection):
    """An accepted connection whose client has not shown yet what it speaks, lent to the opaque branch.

    Attributes:
        seen: what the client sent so far, as long as that is undecided.
        http: the HTTP version, once its bytes have shown it before the server spoke: the connection
            has then been taken back, and closing this does not close it.
    """

    __slots__ = ("_decided", "_inner", "_scope", "_spoken", "http", "seen")

    def __init__(self, inner: Connection, scope: trio.CancelScope) -> None:
        super().__init__(inner.local, inner.peer)
        self._inner = inner
        self._scope = scope
        self._decided = False
        self._spoken = False
        self.silent = True
        self.seen = b""
        self.http: str | None = None
        self.identity = inner.identity
        self.alpn = inner.alpn
        self.secure = inner.secure
        self.owner = inner.owner
        self.drain = inner.drain
        self.sweeper = inner.sweeper
        self.account = inner.account

    def __repr__(self) -> str:
        return f"<undecided {self._inner!r}>"

    def fileno(self) -> int:
        """The accepted connection's."""
        return self._inner.fileno()

    def plain_socket(self) -> SocketConnection | None:
        """The accepted connection's, once it is certain that it is opaque."""
        return self._inner.plain_socket() if self._decided and not self._prefix else None

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        data = self._inner.receive_nowait(max_bytes)
        if not self._decided:
            self._look(data)
            if self.http is not None:
                raise trio.WouldBlock
        return data

    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """See :class:`Connection`."""
        if self._prefix:
            return self.take_prefix(max_bytes)
        data = await self._inner.receive_some(max_bytes)
        if not self._decided:
            self._look(data)
            if self.http is not None:
                await trio.sleep_forever()
        return data

    def _look(self, data: bytes) -> None:
        self.seen += data
        verdict = detect(self.seen)
        if data and verdict is Detection.UNDECIDED and len(self.seen) < MAX_PREFIX:
            return
        protocol = _PROTOCOLS.get(verdict)
        if protocol is None:
            self._decided = True
            self._inner.protocol = self.protocol = "opaque"
            self.seen = b""
        elif self._spoken:
            self.error = RemoteProtocolError("http after the server spoke, on a port not declared opaque")
            raise self.error
        else:
            self.http = protocol
            self._scope.cancel()

    def send_nowait(self, data: bytes) -> int:
        """See :class:`Connection`."""
        sent = self._inner.send_nowait(data)
        self._spoken = self._spoken or sent > 0
        return sent

    async def send_all(self, data: bytes) -> None:
        """See :class:`Connection`."""
        if self.http is None:
            self._spoken = True
            await self._inner.send_all(data)
        else:
            await trio.sleep_forever()

    async def send_eof(self) -> None:
        """See :class:`Connection`."""
        if self.http is None:
            self._spoken = True
            await self._inner.send_eof()
        else:
            await trio.sleep_forever()

    def close(self) -> None:
        """Closes the accepted connection, unless it was taken back."""
        self.closed = True
        if self.http is None:
            self._inner.close()

    def reset(self) -> None:
        """Resets the accepted connection, unless it was taken back."""
        self.closed = True
        if self.http is None:
            self._inner.reset()
