"""``meshcore reload``: asks a running proxy to read its config file again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from meshcore_cli.parser import OK, PROBLEM, Parser, fail

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore reload"
DESCRIPTION = """\
Asks a running proxy to read its config file again, waits until it has, and tells what has changed.

  meshcore reload
  meshcore reload --admin 127.0.0.1:4191

The proxy also reads it by itself when it changes, and at SIGHUP.  A file that is wrong changes nothing: every mistake
is told, and the exit code is 1.  The admin server takes this from its own host alone."""

_SECONDS = 30.0


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--admin", metavar="HOST:PORT", default="127.0.0.1:4191", help="the proxy's admin server (default %(default)s)"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how the outcome is told")


def run(arguments: argparse.Namespace) -> int:
    """Asks, and tells the outcome; the exit code."""
    from meshcore.addresses import parse_listen
    from meshcore.errors import ConfigError

    try:
        where = parse_listen(arguments.admin)
    except ConfigError as error:
        return fail(COMMAND, [f"--admin: {problem}" for problem in error.problems])
    try:
        status, text = _post(where.host, where.port)
    except OSError as error:
        print(f"{COMMAND}: no proxy answers at {arguments.admin}: {error.strerror or error}", file=sys.stderr)
        return PROBLEM
    if status not in (200, 422):
        print(f"{COMMAND}: {arguments.admin} answers {status}: {text.strip()[:500]}", file=sys.stderr)
        return PROBLEM
    value: dict[str, Any] = json.loads(text)
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


def _post(host: str, port: int) -> tuple[int, str]:
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("POST", "/reload", headers={"content-length": "0"})
        response = connection.getresponse()
        return response.status, response.read(1 << 20).decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
