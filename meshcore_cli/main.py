"""The entry point: finds the command and loads only what it needs.

``meshcore --help`` and ``meshcore version`` load neither Trio nor the data path, so that they start at once.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Protocol, cast

from meshcore_cli.parser import OK, PROBLEM, USAGE, Parser, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "command_parser", "main"]

COMMANDS = {
    "proxy": "run a reverse proxy in front of one or more endpoints, without a config file",
    "run": "run the sidecar or gateway of a config file, around an application if one is given",
    "check": "tell every mistake of a config file, or the stacks that it makes; binds nothing",
    "config": "the effective configuration, the JSON Schema, a commented file to start from",
    "demo": "three replicas behind a gateway, load, and faults to watch it absorb",
    "stat": "golden metrics of a running proxy by route, backend and endpoint",
    "top": "the same as a live table: sort, filter, pause",
    "edges": "who talks to whom through a running proxy, and with which identity",
    "routes": "the routes of a running proxy, and how well each does",
    "diag": "what a running proxy knows: endpoints, stacks, identity, tasks; or all of it in one file",
    "reload": "have a running proxy read its config file again",
    "tap": "requests as they pass a running proxy",
    "layers": "list the layers that can be stacked, with their fields and defaults",
    "explain": "what an error code means, its usual causes, what to look at",
    "identity": "make a development CA, issue certificates, explain them",
    "version": "versions of meshcore, of its engines and of OpenSSL",
}
"""Name to the one line that ``--help`` shows; each is a module of this package."""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Command(Protocol):
    """A module of a command."""

    DESCRIPTION: str

    def add_arguments(self, parser: Parser, /) -> None: ...

    def run(self, arguments: object, /) -> int: ...


def usage() -> str:
    """What ``meshcore --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: meshcore COMMAND [OPTION …]",
            "",
            "A service-mesh proxy: HTTP/1, HTTP/2, gRPC, WebSocket and TCP, balanced, retried, measured.",
            "",
            "commands:",
            *lines,
            "",
            "`meshcore COMMAND --help` shows the options of a command.",
            "exit codes: 0 fine, 1 a problem was found, 2 wrong usage or configuration",
        ]
    )


def load(name: str) -> Command:
    """The module of a command."""
    return cast("Command", importlib.import_module(f"meshcore_cli.{name}"))


def command_parser(name: str) -> tuple[Parser, Command]:
    """The argument parser of one command, and its module."""
    command = load(name)
    parser = Parser(f"meshcore {name}", command.DESCRIPTION)
    command.add_arguments(parser)
    return parser, command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal has no characters for, or is none, must not end in a traceback; in JSON it is an escape.
        sys.stdout.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help", "help"):
        wanted = words[1] if len(words) > 1 and words[0] == "help" else None
        if wanted not in COMMANDS:
            print(usage(), file=sys.stdout if words else sys.stderr)
            return OK if words else USAGE
        words = [wanted, "--help"]
    name = "version" if words[0] in ("-V", "--version") else words[0]
    if name not in COMMANDS:
        print(f"meshcore: no command {name!r}{nearest(name, list(COMMANDS))}", file=sys.stderr)
        print("`meshcore --help` lists the commands.", file=sys.stderr)
        return USAGE
    parser, command = command_parser(name)
    try:
        parse = parser.parse_intermixed_args if parser.intermixed else parser.parse_args
        try:
            return command.run(parse(words[1:]))
        finally:
            # Not when the interpreter ends, where nobody can do anything about what goes wrong.
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`meshcore layers | head`); nothing more can be said.
        _mute()
        return OK
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _mute()
        print(f"meshcore {name}: standard output: {str(error.strerror).lower()}", file=sys.stderr)
        return PROBLEM
    except KeyboardInterrupt:
        return PROBLEM


def _mute() -> None:
    """What is still to be written goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
