"""``meshcore reload``: asks a running proxy to read its config file again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from meshcore_cli.ask import NoAnswer, add_admin, add_output, ask, refused
from meshcore_cli.columns import clean
from meshcore_cli.pages import json_object, text
from meshcore_cli.parser import OK, PROBLEM, Parser
from meshcore_cli.render import print_json

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
        value = json_object(COMMAND, arguments, "/reload", answer.text)
    except NoAnswer as error:
        return error.code
    result, version = text(value, "result"), text(value, "version")
    if arguments.output == "json":
        print_json(value)
    elif result == "failed":
        problems = value.get("problems")
        for problem in problems if isinstance(problems, list) else ():
            print(f"{COMMAND}: {clean(problem)}", file=sys.stderr)
        print(f"{COMMAND}: config v{version} stays as it is", file=sys.stderr)
    elif result == "unchanged":
        print(f"config v{version}: nothing has changed")
    else:
        print(f"config v{version}: {text(value, 'changes') or 'files that it names'}")
    return PROBLEM if result == "failed" else OK
