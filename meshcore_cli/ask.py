"""Asking a running proxy: the ``--admin`` of every command that does, and the questions."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from meshcore_cli.parser import PROBLEM, USAGE, Parser, fail

if TYPE_CHECKING:
    import argparse
    import http.client
    from collections.abc import Iterator

__all__ = ["Answer", "NoAnswer", "add_admin", "add_output", "ask", "get_json", "lines", "refused"]

_MOST = 64 << 20
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
    """``--admin HOST:PORT``."""
    parser.add_argument(
        "--admin", metavar="HOST:PORT", default="127.0.0.1:4191", help="the proxy's admin server (default %(default)s)"
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
    connection, response = _asked(command, arguments, "GET", path, b"", None)
    try:
        if response.status != 200:
            text = response.read(_MOST).decode("utf-8", "replace")
            raise refused(command, arguments, Answer(response.status, text))
        for line in response:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    except OSError as error:
        raise _nobody(command, arguments, error) from None
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
    connection = http.client.HTTPConnection(where.host, where.port, timeout=SECONDS)
    try:
        connection.request(method, path, body or None, {"content-length": str(len(body))} if method != "GET" else {})
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        return connection, connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise _nobody(command, arguments, error) from None


def _nobody(command: str, arguments: argparse.Namespace, error: Exception) -> NoAnswer:
    said = (error.strerror or str(error)) if isinstance(error, OSError) else f"no HTTP: {type(error).__name__}"
    print(f"{command}: no proxy answers at {arguments.admin}: {said}", file=sys.stderr)
    return NoAnswer(PROBLEM)
