"""The messages that a call still has to send, as the body of its request."""

from __future__ import annotations

from typing import Final

import trio

from meshcore._wakeup import Wakeup
from meshcore.http.body import Chunks

__all__ = ["Outgoing"]

_ENOUGH: Final = 65_536
"""Bytes that may wait to be sent before whoever sends more has to."""


class Outgoing(Chunks):
    """A body that one task fills, waiting while the other side does not take it."""

    __slots__ = ("_closed", "_room", "_size")

    def __init__(self) -> None:
        super().__init__()
        self._room = Wakeup()
        self._size = 0
        self._closed = False
        self.on_end(lambda _: self.unwanted())

    @property
    def finished(self) -> bool:
        """Whether no more messages will come."""
        return self._last is not None

    async def send(self, data: bytes) -> None:
        """Appends *data*, then waits for as long as too much is waiting.

        Raises:
            trio.BrokenResourceError: nobody takes it any more.
        """
        if not self._closed:
            self._size += len(data)
            self.push(data)
        while self._size >= _ENOUGH and not self._closed:
            await self._room.wait()
        if self._closed:
            raise trio.BrokenResourceError("the other side takes no more messages")

    def receive_nowait(self) -> bytes:
        """See :class:`~meshcore.http.body.Body`."""
        data = super().receive_nowait()
        self._size -= len(data)
        self._room.wake()
        return data

    def unwanted(self) -> None:
        """See :class:`~meshcore.http.body.Body`: who waits to send is told."""
        self._closed = True
        self._room.wake()
