"""Connections and their bytes, read off them when the metrics are asked for (M-05)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from meshcore.metrics.labels import TARGET_LABELS, server_tls_labels, target_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.metrics.registry import Counter, Registry
    from meshcore.transport.connection import Connection

__all__ = ["ConnectionCounts", "ConnectionSeries"]

_NAMES = (*TARGET_LABELS, "peer", "client_id")
_PRUNE_FROM = 64
_AT_ONCE = 500
"""Connections that are asked before something else may run: about a millisecond."""


class ConnectionCounts:
    """The ``tcp_*`` families of one direction; nothing is paid per read or write.

    Args:
        registry: where they are.
        direction: ``"inbound"`` or ``"outbound"``.
        peer: ``"src"`` for accepted connections, ``"dst"`` for those made here.
    """

    __slots__ = (
        "_close_total",
        "_direction",
        "_forget_at",
        "_least",
        "_open",
        "_open_total",
        "_peer",
        "_read_bytes",
        "_series",
        "_write_bytes",
    )

    def __init__(self, registry: Registry, direction: str, peer: str) -> None:
        self._direction = direction
        self._peer = peer
        # What is held here makes no room for others, so: not much more than there is in use.
        self._forget_at = self._least = max(1, registry.max_series // 8)
        self._open_total = registry.counter("tcp_open_total", "Total count of opened connections", *_NAMES)
        self._open = registry.gauge("tcp_open_connections", "Number of currently-open connections", *_NAMES)
        self._read_bytes = registry.counter(
            "tcp_read_bytes_total", "Total count of bytes read from peers", *_NAMES
        )
        self._write_bytes = registry.counter(
            "tcp_write_bytes_total", "Total count of bytes written to peers", *_NAMES
        )
        self._close_total = registry.counter("tcp_close_total", "Total count of closed connections", *_NAMES, "errno")
        self._series: dict[tuple[str, ...], ConnectionSeries] = {}
        registry.collect(self.collect)

    @classmethod
    def of(cls, registry: Registry, direction: str, peer: str) -> ConnectionCounts:
        """The one of a registry: pipelines that are alike, or follow each other, count the same connections."""
        return registry.shared((cls, direction, peer), lambda: cls(registry, direction, peer))

    def series(self, target: object, connection: Connection) -> ConnectionSeries:
        """The series of a connection to, or accepted at, *target*."""
        values = target_labels(self._direction, target)
        identity = ""
        if self._peer == "src":
            values = (*values[:4], *server_tls_labels(target, connection), *values[6:])
            identity = connection.identity or ""
        labels = (*values, self._peer, identity)
        found = self._series.get(labels)
        if found is None:
            if len(self._series) >= self._forget_at:
                self._forget_idle()
            found = self._series[labels] = ConnectionSeries(
                self,
                labels,
                self._open_total.labels(*labels),
                self._open.labels(*labels),
                self._read_bytes.labels(*labels),
                self._write_bytes.labels(*labels),
            )
        return found

    def closed(self, labels: tuple[str, ...], name: str) -> Counter:
        """The counter of one way to close."""
        return self._close_total.labels(*labels, name)

    def _forget_idle(self) -> None:
        for labels, series in list(self._series.items()):
            for _ in series.collect():
                pass
            if not series.live:
                del self._series[labels]
        # Where they are in use, a look at all of them for each that comes would be dear.
        self._forget_at = max(self._least, 2 * len(self._series))

    def collect(self) -> Iterator[None]:
        """Sets the cells to what is true now; runs before each scrape, which gives way now and then."""
        for series in list(self._series.values()):
            yield from series.collect()


class ConnectionSeries:
    """The cells of one set of labels, and the connections that they count.

    Attributes:
        live: those that were open when last looked at.
    """

    __slots__ = ("_counts", "_labels", "_open", "_opened", "_prune_at", "_read", "_written", "live")

    def __init__(
        self,
        counts: ConnectionCounts,
        labels: tuple[str, ...],
        opened: Counter,
        open_now: Counter,
        read: Counter,
        written: Counter,
    ) -> None:
        self._counts = counts
        self._labels = labels
        self._opened = opened
        self._open = open_now
        self._read = read
        self._written = written
        # What had been counted of each when last looked at.
        self.live: dict[Connection, tuple[int, int]] = {}
        self._prune_at = _PRUNE_FROM

    def add(self, connection: Connection) -> None:
        """Counts *connection* from now on."""
        self._opened.value += 1
        self.live[connection] = (0, 0)
        # A connection does not tell that it closes.  Asking all of them whenever their number has
        # doubled costs each a constant, and bounds what is kept of the closed ones.
        if len(self.live) >= self._prune_at:
            self._prune()
            self._prune_at = max(_PRUNE_FROM, 2 * len(self.live))

    def close(self, connection: Connection) -> None:
        """Counts its last bytes and its end; again does nothing."""
        if connection in self.live:
            self._count(connection)
            del self.live[connection]
            self._counts.closed(self._labels, _errno(connection.error)).value += 1

    def _count(self, connection: Connection) -> None:
        read, written = self.live[connection]
        self._read.value += connection.bytes_read - read
        self._written.value += connection.bytes_written - written
        self.live[connection] = (connection.bytes_read, connection.bytes_written)

    def _prune(self) -> None:
        for connection in [each for each in self.live if each.closed]:
            self.close(connection)

    def collect(self) -> Iterator[None]:
        """Sets the cells to what is true now, giving way now and then."""
        for number, connection in enumerate(list(self.live), start=1):
            if connection.closed:
                self.close(connection)
            elif connection in self.live:
                self._count(connection)
            if not number % _AT_ONCE:
                yield
        self._open.value = len(self.live)


def _errno(error: BaseException | None) -> str:
    """``ECONNRESET`` and the like; ``""`` for an orderly close."""
    for _ in range(8):
        if isinstance(error, OSError) and error.errno is not None:
            return errno.errorcode.get(error.errno, str(error.errno))
        if error is None:
            break
        error = error.__cause__
    return ""
