"""A terminal taken over for a while: another screen, keys as they are pressed, and everything as it was afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Self

from meshcore_cli.columns import width
from meshcore_cli.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["Terminal", "usable"]

# The alternate screen, no cursor, lines that are not wrapped; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_ESCAPE = 0.05
"""Seconds after an escape within which the rest of a key's sequence comes."""


def usable() -> bool:
    """Whether there is a terminal that can do what is needed of it."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


class Terminal:
    """The terminal at standard input and output; to be entered with ``with``.

    It is given back as it was however the block ends, by SIGTERM and SIGHUP too; stopped by Ctrl-Z it is given back
    until it goes on.
    """

    def __init__(self) -> None:
        self._input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "ascii"
        self._saved: list[Any] | None = None
        self._keys = Keys()
        self._wake_read, self._wake_write = os.pipe()
        self._shown: list[str] = []
        self._resized = False
        self._stop = False
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        # Before anything is changed: what ends the process from here on gives it back.
        self._before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, self._end),
                (signal.SIGHUP, self._end),
                (signal.SIGWINCH, self._resize),
                (signal.SIGTSTP, self._suspend),
            )
        }
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        found = shutil.get_terminal_size()
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(self._output)
        return (found.columns or 80), (found.lines or 24)

    def wake(self) -> None:
        """Has :meth:`keys` return; may be called by other threads."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"x")

    def keys(self, seconds: float) -> Iterator[str]:
        """The keys that are pressed; waits for so long at the most.  ``"redraw"`` is one where the screen has to be
        drawn anew."""
        wait = _ESCAPE if self._keys.waiting else seconds
        ready, _, _ = select.select([self._input, self._wake_read], [], [], wait)
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 1_024)
        if self._stop:
            self._stop = False
            self._stopped()
            yield "redraw"
        if self._resized:
            self._resized = False
            yield "redraw"
        if self._input in ready:
            data = os.read(self._input, 1_024)
            if not data:
                # Nobody types there any more.
                yield "q"
            yield from self._keys.feed(data)
        elif not ready:
            yield from self._keys.flush()

    def draw(self, lines: Sequence[str], *, anew: bool = False) -> None:
        """Shows the lines from the top on; what has not changed is not sent again."""
        if anew:
            self._shown = []
        parts = ["\x1b[2J"] if anew else []
        for number, line in enumerate(lines):
            if number >= len(self._shown) or self._shown[number] != line:
                parts.append(f"\x1b[{number + 1};1H\x1b[0m{line}\x1b[0m\x1b[K")
        if len(lines) < len(self._shown):
            parts.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._shown = list(lines)
        self._write("".join(parts))

    def can_show(self, text: str) -> bool:
        """Whether there are such characters."""
        try:
            text.encode(self._encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return width(text) > 0

    # ----- taking it, and giving it back -----

    def _take(self) -> None:
        self._saved = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        self._write(_ENTER)
        self._shown = []

    def _give_back(self) -> None:
        if self._saved is not None:
            with contextlib.suppress(termios.error, OSError):
                self._write(_LEAVE)
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)
            self._saved = None

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:
                select.select([], [self._output], [])

    # ----- signals -----

    def _end(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _resize(self, number: int, frame: FrameType | None) -> None:
        self._resized = True
        self.wake()

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        self.wake()

    def _stopped(self) -> None:
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here it goes on.
        signal.signal(signal.SIGTSTP, handler)
        self._take()
