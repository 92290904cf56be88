"""Which sockets can be read: one epoll, registered once a connection, for all connections of a nursery.

Waiting through Trio costs a system call and several objects for each wait, because it registers the
descriptor anew each time.  Here a socket is registered once, edge-triggered; one task waits for the
epoll itself and wakes whoever waits for one of its sockets.  Under load that is a third of the cost of a
read, and a peer that hangs up is heard of without anybody reading.

Where the platform has no epoll, or the task does not run, sockets wait through Trio as ever.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from meshcore._wakeup import Wakeup
from meshcore.transport.socket import SHORT, wait_readable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Poller", "Readiness"]

_EDGE = 0
_GONE = 0
if hasattr(select, "epoll"):
    _EDGE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
    _GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Readiness:
    """What is known of one socket; for its one reader.

    Attributes:
        ready: a read may bring something.  The reader clears it when a read has brought less than it had
            room for, or would block: the next edge sets it again.
        ended: the peer has closed or half-closed, or the socket is broken: ``ready`` stays set.
        hangup: called once when the peer closes or half-closes; None: nobody wants to know.
        reader: whether somebody reads by it, or it is there for the hang-up alone.
        buffer: where what is read may stand until it is copied, at once.
    """

    __slots__ = ("_poller", "_told", "_wakeup", "buffer", "ended", "fd", "hangup", "reader", "ready")

    def __init__(self, poller: Poller, fd: int, reader: bool) -> None:
        self._poller = poller
        self._wakeup = Wakeup()
        self.buffer = poller.buffer
        # Whether edges still come.
        self._told = True
        self.fd = fd
        self.reader = reader
        # Nothing is known yet, so the first read tries.
        self.ready = True
        self.ended = False
        self.hangup: Callable[[], None] | None = None

    def drained(self) -> None:
        """A read has brought less than it had room for."""
        if not self.ended:
            self.ready = False

    async def wait(self) -> None:
        """Waits until a read may bring something; returns at once where it may already."""
        while not self.ready:
            if not self._told or not self._poller.running:
                await wait_readable(self.fd)
                return
            await self._wakeup.wait()

    def close(self) -> None:
        """Forgets the socket; to be called before it is closed.  Whoever waits is woken."""
        self.ready = True
        self.hangup = None
        self._poller.forget(self)
        self._wakeup.wake()

    def told(self, events: int) -> None:
        """An edge."""
        self.ready = True
        if events & _GONE:
            self.ended = True
        self._wakeup.wake()

    def stopped(self) -> None:
        """Nobody polls any more: whoever waits has to wait otherwise."""
        self._told = False
        self._wakeup.wake()


class Poller:
    """The epoll, and the task that waits for it.

    Attributes:
        running: whether its task runs.
        buffer: see :class:`Readiness`.
    """

    __slots__ = ("_epoll", "_records", "_wakeup", "buffer", "running")

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._records: dict[int, Readiness] = {}
        self._wakeup = Wakeup()
        self.buffer = memoryview(bytearray(SHORT))
        self.running = False

    def __len__(self) -> int:
        return len(self._records)

    def add(self, fd: int, *, reader: bool = True) -> Readiness | None:
        """Watches the socket *fd*; None where that cannot be done."""
        if fd < 0 or not _EDGE:
            return None
        if self._epoll is None:
            self._epoll = select.epoll()
            self._wakeup.wake()
        old = self._records.get(fd)
        if old is not None:
            # The number was another socket's, which was closed without a word.
            old.close()
        record = Readiness(self, fd, reader)
        try:
            self._epoll.register(fd, _EDGE)
        except OSError:
            # Not a descriptor that can be polled, or one too many.
            return None
        self._records[fd] = record
        return record

    def forget(self, record: Readiness) -> None:
        """Watches it no more."""
        if self._records.get(record.fd) is record:
            del self._records[record.fd]
            if self._epoll is not None:
                try:
                    self._epoll.unregister(record.fd)
                except OSError:
                    # Closed before, which took it out of the epoll.
                    pass

    def again(self, record: Readiness) -> None:
        """Has the socket's present state told once more, as an edge."""
        if self._epoll is not None and self._records.get(record.fd) is record:
            try:
                self._epoll.modify(record.fd, _EDGE)
            except OSError:
                pass

    def find(self, fd: int) -> Readiness | None:
        """What is known of *fd*."""
        return self._records.get(fd)

    async def run(self, report: Callable[[Exception], None]) -> None:
        """Tells edges until cancelled; *report* hears of a callback that raised."""
        self.running = True
        try:
            while self._epoll is None:
                await self._wakeup.wait()
            poll = self._epoll.poll
            fd = self._epoll.fileno()
            records = self._records
            while True:
                await wait_readable(fd)
                for number, events in poll(0):
                    record = records.get(number)
                    if record is None:
                        continue
                    record.told(events)
                    if record.hangup is not None and record.ended:
                        hangup, record.hangup = record.hangup, None
                        try:
                            hangup()
                        except Exception as error:
                            report(error)
        finally:
            self.running = False
            if self._epoll is not None:
                self._epoll.close()
                self._epoll = None
            for record in list(self._records.values()):
                record.stopped()
            self._records.clear()
