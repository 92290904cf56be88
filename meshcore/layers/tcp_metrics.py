"""Connections and their bytes counted, by linkerd's names (M-05)."""

from __future__ import annotations

import errno
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

import attrs
import trio

from meshcore.abc import NewAccept, Service
from meshcore.metrics.labels import TARGET_LABELS, target_labels
from meshcore.metrics.registry import Counter, Registry
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Endpoint

__all__ = ["TcpMetrics"]

T = TypeVar("T")

_NAMES = (*TARGET_LABELS, "peer", "client_id")


@attrs.frozen
class TcpMetrics:
    """Counts connections opened, open and closed, and the bytes they carry.

    Over accepted connections (``peer="src"``) as well as over ``Connect`` (``peer="dst"``); where TLS is
    spoken, on its plaintext side, so that the labels can name the peer.  Bytes are read off the connections
    when the metrics are asked for: nothing is paid per read or write.

    Attributes:
        registry: where the series are.
        direction: ``"inbound"`` or ``"outbound"``.
    """

    registry: Registry = attrs.field(repr=False)
    direction: str = attrs.field(default="outbound", validator=attrs.validators.in_(("inbound", "outbound")))

    def layer(self, inner: Any, /) -> Any:
        """Counts the connections of a NewAccept, or of a Connect."""
        counts = _Counts(self.registry, self.direction)
        if hasattr(inner, "new_service"):
            return _NewCounted(counts, inner)
        return _Connecting(counts, inner)


class _Series:
    """The cells of one set of labels, and the connections that they count."""

    __slots__ = ("_counts", "_labels", "_prune_at", "live", "open", "opened", "read", "settled", "written")

    def __init__(self, counts: _Counts, labels: tuple[str, ...]) -> None:
        self._counts = counts
        self._labels = labels
        self.opened = counts.open_total.labels(*labels)
        self.open = counts.open_connections.labels(*labels)
        self.read = counts.read_bytes.labels(*labels)
        self.written = counts.write_bytes.labels(*labels)
        self.live: set[Connection] = set()
        # Bytes of connections that are closed.
        self.settled = [0, 0]
        self._prune_at = 64

    def add(self, connection: Connection) -> None:
        """Counts *connection* from now on."""
        self.opened.value += 1
        self.live.add(connection)
        # A connection does not say when it closes: who is asked now and then is found out in time.
        if len(self.live) >= self._prune_at:
            self.prune()
            self._prune_at = max(64, 2 * len(self.live))

    def close(self, connection: Connection) -> None:
        """Counts its end and keeps its bytes."""
        if connection in self.live:
            self.live.discard(connection)
            self.settled[0] += connection.bytes_read
            self.settled[1] += connection.bytes_written
            self._counts.closed(self._labels, _errno(connection.error)).value += 1

    def prune(self) -> None:
        """Lets go of what is closed."""
        for connection in [each for each in self.live if each.closed]:
            self.close(connection)

    def collect(self) -> None:
        """Sets the cells to what is true now."""
        self.prune()
        self.open.value = len(self.live)
        self.read.value = self.settled[0] + sum(connection.bytes_read for connection in self.live)
        self.written.value = self.settled[1] + sum(connection.bytes_written for connection in self.live)


class _Counts:
    """The families, and the series bound until now."""

    __slots__ = ("_series", "close_total", "direction", "open_connections", "open_total", "read_bytes", "write_bytes")

    def __init__(self, registry: Registry, direction: str) -> None:
        self.direction = direction
        self.open_total = registry.counter("tcp_open_total", "Total count of opened connections", *_NAMES)
        self.open_connections = registry.gauge("tcp_open_connections", "Number of currently-open connections", *_NAMES)
        self.read_bytes = registry.counter("tcp_read_bytes_total", "Total bytes read from peers", *_NAMES)
        self.write_bytes = registry.counter("tcp_write_bytes_total", "Total bytes written to peers", *_NAMES)
        self.close_total = registry.counter("tcp_close_total", "Total count of closed connections", *_NAMES, "errno")
        self._series: dict[tuple[str, ...], _Series] = {}
        registry.collect(self.collect)

    def series(self, target: object, peer: str, connection: Connection) -> _Series:
        """The series of a connection to, or accepted at, *target*."""
        values = list(target_labels(self.direction, target))
        if peer == "src":
            values[4:6] = ("true", "") if connection.secure else ("no_identity", "no_tls_from_remote")
        identity = (connection.identity or "") if peer == "src" else ""
        labels = (*values, peer, identity)
        found = self._series.get(labels)
        if found is None:
            # Series without a connection go when there are more than there may be anyway.
            if len(self._series) >= self.open_total.max_series:
                self._forget_idle()
            found = self._series[labels] = _Series(self, labels)
        return found

    def _forget_idle(self) -> None:
        for labels, series in list(self._series.items()):
            series.collect()
            if not series.live:
                del self._series[labels]

    def closed(self, labels: tuple[str, ...], name: str) -> Counter:
        """The counter of one way to close."""
        return self.close_total.labels(*labels, name)

    def collect(self) -> None:
        """Before a scrape."""
        for series in self._series.values():
            series.collect()


class _NewCounted(Generic[T]):
    """Makes services whose connections are counted while they are served."""

    __slots__ = ("_counts", "_inner")

    def __init__(self, counts: _Counts, inner: NewAccept[T]) -> None:
        self._counts = counts
        self._inner = inner

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Connection, None]:
        """The counted service for *target*."""
        return _Serving(self._counts, target, self._inner.new_service(target, nursery))


class _Serving:
    """Counts a connection for as long as its service runs."""

    __slots__ = ("__wrapped__", "_counts", "_target")

    def __init__(self, counts: _Counts, target: object, inner: Service[Connection, None]) -> None:
        self._counts = counts
        self._target = target if isinstance(target, Accepted) else None
        self.__wrapped__ = inner

    async def __call__(self, connection: Connection, /) -> None:
        series = self._counts.series(self._target, "src", connection)
        series.add(connection)
        try:
            await self.__wrapped__(connection)
        finally:
            series.close(connection)


class _Connecting:
    """Counts every connection that is made."""

    __slots__ = ("__wrapped__", "_counts")

    def __init__(self, counts: _Counts, inner: Service[Endpoint, Connection]) -> None:
        self._counts = counts
        self.__wrapped__ = inner

    def __call__(self, endpoint: Endpoint, /) -> Awaitable[Connection]:
        return self._connect(endpoint)

    async def _connect(self, endpoint: Endpoint) -> Connection:
        connection = await self.__wrapped__(endpoint)
        self._counts.series(endpoint, "dst", connection).add(connection)
        return connection


def _errno(error: BaseException | None) -> str:
    """``ECONNRESET`` and the like; ``""`` for an orderly close."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, OSError) and error.errno is not None:
            return errno.errorcode.get(error.errno, str(error.errno))
        error = error.__cause__
        seen += 1
    return ""
