"""A terminal that a test can type at and read: a window of tmux."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.peers.process import find, scratch, wait_until
from tests.peers.servers import PeerMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Window", "window"]

_PROMPT = "ready-for-more"


class Window:
    """A window with a shell in it.

    Args:
        program: tmux.
        socket: the name of its server.
    """

    def __init__(self, program: str, socket: str) -> None:
        self._command = [program, "-L", socket, "-f", "/dev/null"]

    def tmux(self, *words: str) -> str:
        """What a command of tmux prints."""
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=20, check=True)
        return done.stdout

    def open(self, columns: int, rows: int) -> None:
        # A shell without a history, a profile or an own idea of its prompt.
        shell = f"exec env -u PROMPT_COMMAND PS1='{_PROMPT} ' {shutil.which('sh')}"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), shell)
        self.wait(lambda text: _PROMPT in text, "a prompt")

    def type(self, *keys: str) -> None:
        """Keys by tmux's names (``Enter``, ``Escape``, ``C-c``), or text."""
        for key in keys:
            self.tmux("send-keys", key)

    def run(self, command: str) -> None:
        """Types a command line."""
        self.tmux("send-keys", "-l", command)
        self.tmux("send-keys", "Enter")

    def lines(self) -> list[str]:
        """What is on the screen."""
        return self.tmux("capture-pane", "-p").splitlines()

    def wait(self, condition: object, what: str, seconds: float = 20.0) -> list[str]:
        """Waits until *condition* holds of the text on the screen; its lines."""
        assert callable(condition)
        seen: list[str] = []

        def holds() -> bool:
            seen[:] = self.lines()
            return bool(condition("\n".join(seen)))

        try:
            wait_until(holds, seconds, what)
        except TimeoutError as error:
            shown = "\n".join(seen)
            raise TimeoutError(f"{error}; on the screen:\n{shown}") from None
        return list(seen)

    def resize(self, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def state(self) -> tuple[str, str]:
        """Whether the alternate screen is shown, and the cursor."""
        told = self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").split()
        return told[0], told[1]

    def settings(self) -> str:
        """What the terminal does with keys, told by stty."""
        with scratch("stty") as directory:
            told = directory / "told"
            self.run(f"stty -a > {told}.new; mv {told}.new {told}")
            wait_until(told.exists, 20.0, "stty")
            # Its size is not what it does with keys.
            return re.sub(r"rows \d+; columns \d+; |\s+", " ", told.read_text())


@contextmanager
def window(columns: int = 80, rows: int = 24) -> Iterator[Window]:
    """One of a server of tmux of its own, until the end of the block."""
    program = find("tmux")
    if program is None:
        raise PeerMissing("tmux")
    made = Window(program, f"meshcore-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        made.open(columns, rows)
        yield made
    finally:
        subprocess.run([*made._command, "kill-server"], capture_output=True, timeout=20, check=False)
