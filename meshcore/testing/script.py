"""Scripts: what a raw peer says and expects, byte by byte, and what happens to a network over time."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from meshcore.errors import ConnectionLost

if TYPE_CHECKING:
    from typing import Self

    from meshcore.testing.network import MemoryListener
    from meshcore.testing.streams import MemoryStream
    from meshcore.transport.connection import Connection

    End: TypeAlias = "Connection | MemoryStream"

__all__ = ["FaultScript", "Script", "ScriptFailed"]


class ScriptFailed(AssertionError):
    """The other side did not say what a script expected; the message shows what it said."""


class _Play:
    """One run of a script: the connection, and what came and was not expected yet."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.buffer = bytearray()

    async def more(self, wanted: object) -> None:
        try:
            chunk = await self.end.receive_some()
        except (trio.BrokenResourceError, ConnectionLost) as error:
            raise ScriptFailed(f"expected {wanted!r}; connection lost after {bytes(self.buffer)!r}") from error
        if not chunk:
            raise ScriptFailed(f"expected {wanted!r}; the end came after {bytes(self.buffer)!r}")
        self.buffer += chunk


_Step: TypeAlias = Callable[[_Play], Awaitable[None]]


@attrs.frozen
class Script:
    """What a raw peer does with a connection, step after step: a value, built by its methods.

    ``Script().expect(rb"GET /.*\\r\\n\\r\\n").send(b"HTTP/1.1 200 OK\\r\\n…").close()`` is an upstream;
    ``await script.play(connection)`` runs it on a :class:`~meshcore.transport.connection.Connection` or a
    :class:`~meshcore.testing.MemoryStream`.  A hostile peer is a script like any other.
    """

    steps: tuple[_Step, ...] = ()

    def _then(self, step: _Step) -> Self:
        return attrs.evolve(self, steps=(*self.steps, step))

    def send(self, data: bytes, *, piece: int | None = None, pause: float = 0.0) -> Self:
        """Sends bytes; in pieces of *piece* bytes with *pause* seconds before each."""

        async def step(play: _Play) -> None:
            size = piece or len(data) or 1
            for start in range(0, len(data), size):
                if pause:
                    await trio.sleep(pause)
                await play.end.send_all(data[start : start + size])

        return self._then(step)

    def expect(self, pattern: bytes) -> Self:
        """Reads until what came matches the regular expression (``.`` is any byte); takes that much."""
        compiled = re.compile(pattern, re.DOTALL)

        async def step(play: _Play) -> None:
            while not (found := compiled.match(bytes(play.buffer))):
                await play.more(pattern)
            del play.buffer[: found.end()]

        return self._then(step)

    def expect_bytes(self, count: int) -> Self:
        """Reads so many bytes, whatever they are."""

        async def step(play: _Play) -> None:
            while len(play.buffer) < count:
                await play.more(f"{count} bytes")
            del play.buffer[:count]

        return self._then(step)

    def expect_end(self) -> Self:
        """Reads the end of the stream, orderly or broken, and nothing before it."""

        async def step(play: _Play) -> None:
            try:
                chunk = bytes(play.buffer) or await play.end.receive_some()
            except (trio.BrokenResourceError, ConnectionLost):
                return
            if chunk:
                raise ScriptFailed(f"expected the end, got {chunk!r}")

        return self._then(step)

    def wait(self, seconds: float) -> Self:
        """Does nothing for so long."""

        async def step(_: _Play) -> None:
            await trio.sleep(seconds)

        return self._then(step)

    def half_close(self) -> Self:
        """Ends this side's bytes."""

        async def step(play: _Play) -> None:
            await play.end.send_eof()

        return self._then(step)

    def close(self) -> Self:
        """Closes the connection."""

        async def step(play: _Play) -> None:
            play.end.close()

        return self._then(step)

    def reset(self) -> Self:
        """Breaks the connection, where the transport can (:class:`~meshcore.testing.MemoryStream`, a socket)."""

        async def step(play: _Play) -> None:
            reset = getattr(play.end, "reset", play.end.close)
            reset()

        return self._then(step)

    def hang(self) -> Self:
        """Neither reads nor writes any more, for ever."""

        async def step(_: _Play) -> None:
            await trio.sleep_forever()

        return self._then(step)

    async def play(self, end: End) -> bytes:
        """Runs the steps on one connection; what had come and was not expected is returned.

        Raises:
            ScriptFailed: the other side said something else, or ended.
        """
        play = _Play(end)
        for step in self.steps:
            await step(play)
        return bytes(play.buffer)

    async def serve(self, listener: MemoryListener) -> None:
        """Plays the script on every connection that *listener* accepts, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self.play, await listener.accept())


@attrs.frozen
class FaultScript:
    """What happens when: actions at seconds from the start, in order of time.

    ``FaultScript().at(1.0, lambda: setattr(network.faults(a), "connect", "refuse")).at(5.0, network.heal)``
    """

    actions: tuple[tuple[float, Callable[[], object]], ...] = ()

    def at(self, seconds: float, action: Callable[[], object]) -> Self:
        """Adds a synchronous action."""
        actions = sorted((*self.actions, (seconds, action)), key=lambda each: each[0])
        return attrs.evolve(self, actions=tuple(actions))

    async def run(self) -> None:
        """Does them all; returns after the last."""
        start = trio.current_time()
        for seconds, action in self.actions:
            await trio.sleep_until(start + seconds)
            action()
