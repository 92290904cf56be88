"""A connection: a byte stream with two addresses, perhaps an identity, and bytes that were read ahead.

One interface, several transports: a plain non-blocking socket, TLS on such a socket, or any
``trio.abc.Stream`` through one adapter.  No second data path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from meshcore._native import mypyc_attr
from meshcore.transport.target import Address

if TYPE_CHECKING:
    from meshcore.transport.drain import Drain
    from meshcore.transport.readiness import Poller
    from meshcore.transport.socket import SocketConnection
    from meshcore.transport.sweep import Sweeper

__all__ = ["READ_SIZE", "Connection", "ConnectionStatistics", "Owner"]

READ_SIZE = 65_536


class Owner(Protocol):
    """Whoever accepted or opened a connection: the running server, or the upstream nursery's keeper."""

    def crashed(self, error: BaseException, where: str, /) -> None:
        """Counts (``crashes_total``) and logs an exception that ended one connection."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(ABC):
    """A byte stream between two peers.

    One reader and one writer at a time.  ``close`` is synchronous and final: a task that waits in it
    is woken with ``trio.ClosedResourceError``.

    Attributes:
        peer: the other end's address.
        local: this end's address.
        identity: the name in the peer's verified certificate; None without mutual TLS.
        alpn: the protocol negotiated by TLS; None without.
        secure: whether TLS protects it.
        protocol: what detection found, or a transport header said: ``"http/1"``, ``"h2"``, ``"opaque"``; None: not
            yet looked.
        silent: its client waits for the server to speak first, as far as is known.
        bytes_read, bytes_written: so far, on the wire side of this transport.
        judged: what policies have said of it, by who asked; None: nobody has.
        account: its passage through layers, while it is measured (``meshcore.accounting``); None: it is not.
        error: what broke it, for ``tcp_close_total{errno}``; None for an orderly close.
    """

    __slots__ = (
        "_prefix",
        "account",
        "alpn",
        "bytes_read",
        "bytes_written",
        "closed",
        "drain",
        "error",
        "identity",
        "judged",
        "local",
        "owner",
        "peer",
        "protocol",
        "secure",
        "silent",
        "sweeper",
    )

    def __init__(self, local: Address, peer: Address) -> None:
        self.local = local
        self.peer = peer
        self.identity: str | None = None
        self.alpn: str | None = None
        self.secure = False
        self.silent = False
        self.protocol: str | None = None
        self.bytes_read = 0
        self.bytes_written = 0
        self.closed = False
        self.judged: dict[Any, Any] | None = None
        self.account: object = None
        self.error: BaseException | None = None
        self.owner: Owner | None = None
        # Set by serve(): the drain that this connection obeys, and the sweeper that watches it.
        self.drain: Drain | None = None
        self.sweeper: Sweeper | None = None
        self._prefix: bytes = b""

    @abstractmethod
    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """What can be read at once, at least one byte; ``b""`` at the end of the stream.

        Raises:
            trio.WouldBlock: nothing is there (or this transport cannot know without waiting).
            ConnectionLost: the connection broke.
        """

    @abstractmethod
    async def receive_some(self, max_bytes: int = READ_SIZE) -> bytes:
        """Waits for bytes; ``b""`` at the end.  Not a checkpoint where bytes are there already.

        Raises:
            ConnectionLost: the connection broke.
            trio.ClosedResourceError: it was closed here.
        """

    @abstractmethod
    def send_nowait(self, data: bytes) -> int:
        """Writes what the transport takes at once; how many bytes that was, 0 for none.

        Raises:
            ConnectionLost: the connection broke.
        """

    def send_parts_nowait(self, parts: list[bytes | memoryview]) -> int:
        """``send_nowait`` of pieces, in one write; how many bytes of them were taken."""
        data = b"".join(parts)
        return self.send_nowait(data) if data else 0

    @abstractmethod
    async def send_all(self, data: bytes) -> None:
        """Writes all of it; cancelled in the middle, the connection is unusable (close it).

        Raises:
            ConnectionLost: the connection broke.
            trio.ClosedResourceError: it was closed here.
        """

    @abstractmethod
    async def send_eof(self) -> None:
        """Ends this side's bytes; the other side may go on (half-close)."""

    @abstractmethod
    def close(self) -> None:
        """Closes at once.  Synchronous, idempotent."""

    def reset(self) -> None:
        """Closes so that the peer sees a reset rather than an end, where the transport can (RFC 9112 §8:
        a message that is delimited by the end must not seem complete)."""
        self.close()

    def unread(self, data: bytes) -> None:
        """Puts bytes back in front: the next read returns them first (D-09)."""
        self._prefix = data + self._prefix

    @property
    def rewound(self) -> int:
        """Bytes put back and not yet read again."""
        return len(self._prefix)

    def poll_with(self, poller: Poller) -> None:
        """Waits by *poller* from now on, where the transport can: cheaper than waiting through Trio.
        For whoever owns the connection; the second call does nothing."""

    def fileno(self) -> int:
        """The descriptor, for the sweeper's poll and for splicing; -1 where there is none."""
        return -1

    def plain_socket(self) -> SocketConnection | None:
        """The socket whose bytes are exactly those that this connection would read and write next, for
        splicing; None over TLS or a stream, or while bytes that were read ahead are still to come."""
        return None

    def take_prefix(self, max_bytes: int) -> bytes:
        """Takes bytes that were put back."""
        prefix = self._prefix
        if len(prefix) <= max_bytes:
            self._prefix = b""
            return prefix
        self._prefix = prefix[max_bytes:]
        return prefix[:max_bytes]

    def statistics(self) -> ConnectionStatistics:
        """What is known of it now."""
        return ConnectionStatistics(
            peer=self.peer,
            local=self.local,
            identity=self.identity,
            alpn=self.alpn,
            secure=self.secure,
            protocol=self.protocol,
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
        )


@attrs.frozen
class ConnectionStatistics:
    """A connection's facts at one moment; the fields are those of :class:`Connection`."""

    peer: Address
    local: Address
    identity: str | None
    alpn: str | None
    secure: bool
    protocol: str | None
    bytes_read: int
    bytes_written: int
