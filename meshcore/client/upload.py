"""Sends a request body that has not ended when its head goes out: the only task that a request may cost.

The server side's request body is read here, in the upstream's nursery, while the response is sent by
the server's own task: one reader and one writer on the same accepted connection, which sockets and
streams allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from meshcore._wakeup import checkpoint

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.http.body import Body

__all__ = ["BATCH", "Sink", "Upload"]

BATCH = 65_536
"""Bytes of small chunks that are put together before they are written."""

TURNS = 16
"""Chunks after which the task yields to others although it need not wait."""


class Sink(Protocol):
    """Where a body goes to: one message on one upstream connection."""

    async def send(self, chunks: list[bytes], /) -> None:
        """Writes a batch of chunks; waits for as long as the upstream does not take them."""

    async def send_raw(self, data: bytes, /) -> None:
        """Writes what is framed already."""

    async def finish(self, chunks: list[bytes], trailers: Fields, /) -> None:
        """Writes the last batch, perhaps an empty one, and ends the message."""

    def body_broke(self, error: Exception, /) -> None:
        """The body raised *error*: the message cannot be completed.  Synchronous."""

    def send_broke(self, error: Exception, /) -> None:
        """``send`` or ``finish`` raised *error*.  Synchronous."""


class Upload:
    """The pump for one body: started in the upstream's nursery, stopped from outside by ``stop``.

    Attributes:
        done: the message is complete on the wire.
        running: its task has not ended yet.
    """

    __slots__ = ("_body", "_scope", "_sink", "_stopped", "done", "running")

    def __init__(self, body: Body, sink: Sink) -> None:
        self._body = body
        self._sink = sink
        self._scope: trio.CancelScope | None = None
        self._stopped = False
        self.done = False
        self.running = True

    def stop(self) -> None:
        """Stops reading the body; what was read is lost.  Synchronous, idempotent, never raises."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel("the exchange is over")

    async def run(self, first: bytes = b"", wait: trio.Event | None = None, patience: float = 0.0) -> None:
        """Sends *first* (already framed and partly written) as it is, waits for *wait* for at most
        *patience* seconds (``Expect: 100-continue``), then sends the body to its end.

        Errors never leave it: the sink is told.
        """
        try:
            with trio.CancelScope() as scope:
                self._scope = scope
                if self._stopped:
                    return
                if wait is not None:
                    with trio.move_on_after(patience):
                        await wait.wait()
                    # Held back no more.
                    wait.set()
                await self._pump(first)
        finally:
            self.running = False

    async def _pump(self, first: bytes) -> None:
        body, sink = self._body, self._sink
        if first:
            try:
                await sink.send_raw(first)
            except Exception as error:
                sink.send_broke(error)
                return
        turns = 0
        while True:
            chunks: list[bytes] = []
            size = 0
            if turns >= TURNS:
                # Bytes that keep coming, and an upstream that takes them, keep nobody waiting.
                await checkpoint()
                turns = 0
            try:
                chunk = await body.receive_some()
                while chunk:
                    chunks.append(chunk)
                    size += len(chunk)
                    turns += 1
                    if size >= BATCH or turns >= TURNS or body.end is not None:
                        break
                    chunk = body.receive_nowait()
            except trio.WouldBlock:
                pass
            except Exception as error:
                sink.body_broke(error)
                return
            end = body.end
            try:
                if end is None:
                    await sink.send(chunks)
                    continue
                await sink.finish(chunks, end.trailers)
            except Exception as error:
                sink.send_broke(error)
                return
            self.done = True
            return
