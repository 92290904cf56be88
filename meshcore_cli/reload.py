"""``meshcore reload``: asks a running proxy to read its config file again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import NoAnswer, add_admin, add_output, ask, refused
from meshcore_cli.parser import OK, PROBLEM, Parser

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore reload"
DESCRIPTION = """\
Asks a running proxy to read its config file again, waits until it has, and tells what has changed.

  meshcore reload
  meshcore reload --admin 127.0.0.1:4191

The proxy also reads it by itself when it changes, and at SIGHUP.  A file that is wrong changes nothing: every mistake
is told, and the exit code is 1.  The admin server takes this from its own host alone."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    add_admin(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks, and tells the outcome; the exit code."""
    try:
        answer = ask(COMMAND, arguments, "POST", "/reload")
        if answer.status not in (200, 422):
            raise refused(COMMAND, arguments, answer)
    except NoAnswer as error:
        return error.code
    value: dict[str, Any] = json.loads(answer.text)
    if arguments.output == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif value["result"] == "failed":
        for problem in value["problems"]:
            print(f"{COMMAND}: {problem}", file=sys.stderr)
        print(f"{COMMAND}: config v{value['version']} stays as it is", file=sys.stderr)
    elif value["result"] == "unchanged":
        print(f"config v{value['version']}: nothing has changed")
    else:
        print(f"config v{value['version']}: {value['changes'] or 'files that it names'}")
    return PROBLEM if value["result"] == "failed" else OK
