"""Where lines go: standard output or error, or a file that may be moved away, truncated, or on a disk that is full."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import trio

from meshcore._wakeup import checkpoint
from meshcore.layers.access_log.quick import is_quick, pipe_of, write_to_pipe

if TYPE_CHECKING:
    from collections import deque
    from pathlib import Path

__all__ = ["LAST_WORDS", "Output"]

LAST_WORDS = 1.0
"""How long the end of a proxy waits for whoever takes the lines, in seconds."""

_LOOK = 1.0
"""Seconds between two looks at whether the file is still the one that has the name."""
_SLOW = 0.005
"""Seconds that a write may take without a thread."""
_MODE = 0o640


class Output:
    """A place for lines: what may block is written by a thread, one at a time, and blocks nothing else.

    A file on a disk of this machine is written without one, and so is a pipe as far as it has room: there is nothing to
    wait for, mostly.  A disk that lets itself be waited for once, for more than 5 ms, has a thread from then on.

    A file is opened to append, made if need be (mode 0640), and opened anew once another file, or none, has its name:
    what moves logs away needs to tell nobody.  What truncates it in place works, too.

    Args:
        to: ``"stdout"``, ``"stderr"`` or a path.
    """

    def __init__(self, to: str | Path) -> None:
        self.to = str(to)
        self._stream = self.to if self.to in ("stdout", "stderr") else ""
        # Held by the thread, not by who waits for it.
        self._one = trio.CapacityLimiter(1)
        self._file = -1
        self._looked = 0.0
        # Whether it is written without a thread; None: that has not been looked at.
        self._quick: bool | None = None
        self._torn = False
        self._astray = False

    def __repr__(self) -> str:
        return f"<Output {self.to}>"

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    async def write(self, parts: deque[str]) -> None:
        """Writes what is in *parts*, and takes it out; goes on with that after a cancellation.

        Raises:
            OSError: something could not be written, and is lost.
        """
        now = trio.current_time()
        if self._quick is None:
            self._quick = not self._stream and is_quick(self.to)
        if not self._one.borrowed_tokens and self._write_quickly(parts, now):
            await checkpoint()
            return
        await trio.to_thread.run_sync(self._flush, parts, now, abandon_on_cancel=True, limiter=self._one)

    async def finish(self, parts: deque[str]) -> bool:
        """Writes what a cancelled writer has left: a proxy that has drained has just answered its last request.
        Whether there was the time for it.

        The one wait that goes on in spite of a cancellation, and not for long.

        Raises:
            OSError: something could not be written, and is lost.
        """
        if not parts and not self._one.borrowed_tokens:
            return True
        with trio.move_on_after(LAST_WORDS, shield=True) as scope:
            await self.write(parts)
        return not scope.cancelled_caught

    def _write_quickly(self, parts: deque[str], now: float) -> bool:
        """Writes without a thread, as far as that can be done; whether that was all."""
        if self._stream:
            pipe = pipe_of(sys.stderr if self._stream == "stderr" else sys.stdout)
            return pipe >= 0 and write_to_pipe(pipe, parts)
        if not self._quick:
            return False
        try:
            self._flush(parts, now)
        finally:
            self._quick = trio.current_time() - now <= _SLOW
        return True

    def _flush(self, parts: deque[str], now: float) -> None:
        """Runs in a thread, mostly."""
        if self._stream:
            stream = sys.stderr if self._stream == "stderr" else sys.stdout
            while parts:
                stream.write(parts.popleft())
            stream.flush()
            return
        while parts:
            self._append(parts.popleft().encode(), now)

    def _append(self, data: bytes, now: float) -> None:
        if self._file < 0 or now - self._looked >= _LOOK:
            self._look(now)
        if self._torn:
            # A disk that was full has taken half a line.
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except OSError:
                self._torn = len(rest) < len(data) or self._torn
                raise
        self._torn = False

    def _look(self, now: float) -> None:
        """Opens the file, if it is not the one that is open."""
        self._looked = now
        kept = False
        if self._file >= 0:
            try:
                named = os.stat(self.to)
            except OSError:
                named = None
            opened = os.fstat(self._file)
            if named is not None and (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino):
                self._astray = False
                return
            # What has no name any more keeps nothing for anybody.
            kept = opened.st_nlink > 0
        try:
            # Before the old one is closed: should it fail, that one is better than none.
            file = os.open(self.to, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, _MODE)
        except OSError:
            if kept and self._astray:
                return
            # That is told once, and costs a batch.
            self._astray = kept
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._torn = self._astray = False
