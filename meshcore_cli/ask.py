"""Asking a running proxy: the ``--admin`` of every command that does, and the questions."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore_cli.parser import PROBLEM, USAGE, Parser, fail

if TYPE_CHECKING:
    import argparse
    import http.client
    from collections.abc import Iterator

__all__ = ["Answer", "NoAnswer", "add_admin", "add_output", "ask", "get_json", "lines", "refused"]

_MOST = 64 << 20
_PARAMETER = re.compile(r"^([a-z_]+):")
TOKEN = "MESHCORE_ADMIN_TOKEN"
"""The environment variable with the admin server's token."""
SECONDS = 30.0
"""How long an answer may take."""


class NoAnswer(Exception):
    """There is no answer; the complaint has been written, and this is the exit code.

    Attributes:
        code: of the command.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Answer:
    """What a proxy has answered.

    Attributes:
        status: the HTTP status.
        text: the whole body.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text


def add_admin(parser: Parser) -> None:
    """``--admin HOST:PORT``, and ``--token`` where the admin server asks for one."""
    parser.add_argument(
        "--admin", metavar="HOST:PORT", default="127.0.0.1:4191", help="the proxy's admin server (default %(default)s)"
    )
    parser.add_argument(
        "--token",
        metavar="@FILE",
        help=f"the file of its token; default: the token in {TOKEN}, where that is set",
    )


def add_output(parser: Parser) -> None:
    """``-o table|json``."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how it is told")


def ask(command: str, arguments: argparse.Namespace, method: str, path: str, body: bytes = b"") -> Answer:
    """What the proxy answers.

    Raises:
        NoAnswer: there is no proxy, or the address is no address.
    """
    connection, response = _asked(command, arguments, method, path, body, SECONDS)
    try:
        return Answer(response.status, response.read(_MOST).decode("utf-8", "replace"))
    except OSError as error:
        raise _nobody(command, arguments, error) from None
    finally:
        connection.close()


def get_json(command: str, arguments: argparse.Namespace, path: str) -> Any:
    """The JSON value at *path*.

    Raises:
        NoAnswer: there is no proxy, or it answers something else.
    """
    answer = ask(command, arguments, "GET", path)
    if answer.status != 200:
        raise refused(command, arguments, answer)
    return json.loads(answer.text)


def lines(command: str, arguments: argparse.Namespace, path: str) -> Iterator[str]:
    """The lines of an answer that goes on for as long as both sides like, each as it comes.

    Raises:
        NoAnswer: there is no proxy, it answers something else, or it is gone before its answer has ended.
    """
    import http.client

    connection, response = _asked(command, arguments, "GET", path, b"", None)
    try:
        if response.status != 200:
            text = response.read(_MOST).decode("utf-8", "replace")
            if response.status == 400:
                # A question that is wrong: its parameters are the options.
                fail(command, [_PARAMETER.sub(_option, line) for line in text.splitlines()])
                raise NoAnswer(USAGE)
            raise refused(command, arguments, Answer(response.status, text))
        for line in response:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    except (OSError, http.client.HTTPException) as error:
        print(f"{command}: the proxy at {arguments.admin} has gone: {error}", file=sys.stderr)
        raise NoAnswer(PROBLEM) from None
    finally:
        connection.close()


def refused(command: str, arguments: argparse.Namespace, answer: Answer) -> NoAnswer:
    """The complaint about an answer that is not the one wanted."""
    print(f"{command}: {arguments.admin} answers {answer.status}: {answer.text.strip()[:500]}", file=sys.stderr)
    return NoAnswer(PROBLEM)


def _asked(
    command: str, arguments: argparse.Namespace, method: str, path: str, body: bytes, seconds: float | None
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    import http.client

    from meshcore.addresses import parse_listen
    from meshcore.errors import ConfigError

    try:
        where = parse_listen(arguments.admin)
    except ConfigError as error:
        fail(command, [f"--admin: {problem}" for problem in error.problems])
        raise NoAnswer(USAGE) from None
    token = _token(command, arguments)
    connection = http.client.HTTPConnection(where.host, where.port, timeout=SECONDS)
    try:
        headers = {"content-length": str(len(body))} if method != "GET" else {}
        if token:
            headers["authorization"] = f"Bearer {token}"
        connection.request(method, path, body or None, headers)
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        return connection, connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise _nobody(command, arguments, error) from None


def _token(command: str, arguments: argparse.Namespace) -> str:
    """The token to show; ``""`` for none."""
    given: str = getattr(arguments, "token", None) or os.environ.get(TOKEN, "")
    try:
        # A file's name, not the token itself, which everybody could see in the list of processes.
        token = Path(given[1:]).read_text().strip() if given.startswith("@") else given.strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        fail(command, [f"--token: {given[1:]!r}: {str(said).lower()}"])
        raise NoAnswer(USAGE) from None
    if not (token.isascii() and token.isprintable()) or " " in token:
        fail(command, ["--token: it is no token: one line of ASCII without blanks is wanted"])
        raise NoAnswer(USAGE)
    return token


def _option(found: re.Match[str]) -> str:
    return f"--{found[1].replace('_', '-')}:"


def _nobody(command: str, arguments: argparse.Namespace, error: Exception) -> NoAnswer:
    said = (error.strerror or str(error)) if isinstance(error, OSError) else f"no HTTP: {type(error).__name__}"
    print(f"{command}: no proxy answers at {arguments.admin}: {said}", file=sys.stderr)
    return NoAnswer(PROBLEM)
