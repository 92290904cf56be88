"""``meshcore top``: the golden metrics of a running proxy as a live table."""

from __future__ import annotations

import contextlib
import io
import sys
import threading  # noqa: TID251 (there is no Trio here; a question must not keep keys waiting)
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import NoAnswer, add_admin
from meshcore_cli.pages import page
from meshcore_cli.parser import OK, PROBLEM, USAGE, Parser
from meshcore_cli.render import coloured
from meshcore_cli.screen import Screen
from meshcore_cli.stat import add_window, window_of

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore top"
DESCRIPTION = """\
Shows how well a running proxy does, live: by route (1), backend (2) and endpoint (3).

  s sorts by the next column, r the other way round, / filters by name, p pauses, ? shows all keys, q quits.

  meshcore top
  meshcore top --window 30s --admin 127.0.0.1:4191

A proxy that goes away is asked again until it is back.  `meshcore stat` tells the same once, for scripts."""

EVERY = 1.0
"""Seconds between two questions."""


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    add_window(parser)
    add_admin(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the table until somebody has seen enough; the exit code."""
    try:
        window = window_of(COMMAND, arguments)
    except NoAnswer as error:
        return error.code
    try:
        from meshcore_cli.terminal import Terminal, usable
    except ImportError:
        # Where there are no POSIX terminals.
        return _no_terminal()
    if not usable():
        return _no_terminal()
    try:
        # Before the screen is taken: who has given a wrong address sees why.
        first = page(COMMAND, arguments, f"/stats?window={window:g}")
    except NoAnswer as error:
        return error.code
    with Terminal() as terminal:
        asking = _Asking(arguments, window, terminal.wake)
        screen = Screen(
            arguments.admin, window, coloured=coloured(), unicode=terminal.can_show("▼…")
        )
        screen.update(first)
        asking.start()
        try:
            anew = True
            while not screen.over:
                columns, rows = terminal.size()
                terminal.draw(screen.lines(columns, rows), anew=anew)
                anew = False
                for key in terminal.keys(EVERY):
                    if key == "redraw":
                        anew = True
                    else:
                        screen.press(key)
                told, problem = asking.take()
                if told is not None:
                    screen.update(told)
                if problem:
                    screen.lost(problem)
        except KeyboardInterrupt:
            pass
        except OSError:
            # The terminal is gone.
            return PROBLEM
        finally:
            asking.stop()
    return OK


def _no_terminal() -> int:
    print(f"{COMMAND}: it needs a terminal; `meshcore stat --watch` tells the same anywhere", file=sys.stderr)
    return USAGE


class _Asking:
    """Asks again and again in a thread of its own, so that keys never wait for the network."""

    def __init__(self, arguments: argparse.Namespace, window: float, wake: Any) -> None:
        self._arguments = arguments
        self._path = f"/stats?window={window:g}"
        self._wake = wake
        self._told: dict[str, Any] | None = None
        self._problem = ""
        self._over = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        # It may be in the middle of a question when everything else has ended.
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def take(self) -> tuple[dict[str, Any] | None, str]:
        """What has come since the last time: figures, or why there are none."""
        with self._lock:
            told, self._told = self._told, None
            return told, self._problem

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            said = io.StringIO()
            told: dict[str, Any] | None = None
            with contextlib.redirect_stderr(said):
                try:
                    told = page(COMMAND, self._arguments, self._path)
                except NoAnswer:
                    pass
            with self._lock:
                self._told = told
                self._problem = "" if told is not None else _first_line(said.getvalue()) or "no answer"
            self._wake()


def _first_line(said: str) -> str:
    """What is wrong, without what may be done about it."""
    return said.removeprefix(f"{COMMAND}: ").partition("\n")[0]
