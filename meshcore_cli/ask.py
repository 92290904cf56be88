"""Asking a running proxy: the ``--admin`` of every command that does, and the questions."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from meshcore_cli.columns import clean
from meshcore_cli.parser import PROBLEM, USAGE, Parser, fail

if TYPE_CHECKING:
    import argparse
    import http.client
    from collections.abc import Iterator

__all__ = ["Answer", "NoAnswer", "add_admin", "add_output", "ask", "lines", "refused"]

_MOST = 64 << 20
_PARAMETER = re.compile(r"^([a-z_]+):")
TOKEN = "MESHCORE_ADMIN_TOKEN"
"""The environment variable with the admin server's token."""
SECONDS = 30.0
"""How long an answer may take."""

_HTTPS = "https://"
_OF_TLS = ("cacert", "cert", "key", "server_name")


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
        text: the body.
        whole: whether all of it has come.
    """

    def __init__(self, status: int, text: str, *, whole: bool = True) -> None:
        self.status = status
        self.text = text
        self.whole = whole


def add_admin(parser: Parser) -> None:
    """``--admin HOST:PORT``, and what shows the admin server who asks."""
    asked = parser.add_argument_group("whom to ask")
    asked.add_argument(
        "--admin",
        metavar="HOST:PORT",
        default="127.0.0.1:4191",
        help="the proxy's admin server (default %(default)s); https://HOST:PORT: in TLS",
    )
    asked.add_argument(
        "--token",
        metavar="@FILE",
        help=f"the file of its token; default: the token in {TOKEN}, where that is set",
    )
    for name, metavar, text in (
        ("cacert", "FILE", "in TLS: PEM file of who vouches for the server (default: whom this system trusts)"),
        ("cert", "FILE", "in TLS: PEM file of the certificate to show"),
        ("key", "FILE", "in TLS: PEM file of its private key, where that is another file"),
        ("server-name", "NAME", "in TLS: whose certificate it has to be, a name or spiffe://… (default: HOST)"),
    ):
        asked.add_argument(f"--{name}", metavar=metavar, help=text)


def add_output(parser: Parser) -> None:
    """``-o table|json``."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how it is told")


def ask(command: str, arguments: argparse.Namespace, method: str, path: str, body: bytes = b"") -> Answer:
    """What the proxy answers.

    Raises:
        NoAnswer: there is no proxy, or the address is no address.
    """
    import http.client

    connection, response = _asked(command, arguments, method, path, body, SECONDS)
    try:
        text = response.read(_MOST).decode("utf-8", "replace")
        # What is left of it is more than anybody wants, or did not come.
        return Answer(response.status, text, whole=not response.length)
    except (OSError, http.client.HTTPException) as error:
        raise _nobody(command, arguments, error) from None
    finally:
        connection.close()


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
                fail(command, [clean(_PARAMETER.sub(_option, line)) for line in text.splitlines()])
                raise NoAnswer(USAGE)
            raise refused(command, arguments, Answer(response.status, text))
        for line in response:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    except (OSError, http.client.HTTPException) as error:
        print(f"{command}: the proxy at {arguments.admin} has gone: {clean(error)}", file=sys.stderr)
        raise NoAnswer(PROBLEM) from None
    finally:
        connection.close()


def refused(command: str, arguments: argparse.Namespace, answer: Answer) -> NoAnswer:
    """The complaint about an answer that is not the one wanted."""
    said = clean(" ".join(answer.text.split()))
    if answer.status == 401:
        shown = _token(command, arguments)
        said += "; the one that was shown is another" if shown else f"; --token @FILE or {TOKEN} shows it"
    print(f"{command}: {arguments.admin} answers {answer.status}: {said}", file=sys.stderr)
    return NoAnswer(PROBLEM)


def _asked(
    command: str, arguments: argparse.Namespace, method: str, path: str, body: bytes, seconds: float | None
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    import http.client

    token = _token(command, arguments)
    connection = _connection(command, arguments)
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


def _connection(command: str, arguments: argparse.Namespace) -> http.client.HTTPConnection:
    """Not connected yet."""
    import http.client

    from meshcore.addresses import parse_listen
    from meshcore.errors import ConfigError

    address: str = arguments.admin
    secure = address.startswith(_HTTPS)
    try:
        where = parse_listen(address.removeprefix(_HTTPS).removesuffix("/"))
    except ConfigError as error:
        fail(command, [f"--admin: {problem}" for problem in error.problems])
        raise NoAnswer(USAGE) from None
    given = [name for name in _OF_TLS if getattr(arguments, name, None) is not None]
    problem = ""
    if not secure and given:
        problem = f"--{given[0].replace('_', '-')}: is for TLS alone: --admin {_HTTPS}{address}"
    elif "key" in given and "cert" not in given:
        problem = "--key: there is no --cert that it is of"
    if problem:
        fail(command, [problem])
        raise NoAnswer(USAGE)
    if not secure:
        return http.client.HTTPConnection(where.host, where.port, timeout=SECONDS)
    from meshcore_cli.admin_tls import WrongFile, secured

    try:
        return secured(arguments, where.host, where.port, SECONDS)
    except WrongFile as wrong:
        fail(command, [str(wrong)])
        raise NoAnswer(USAGE) from None


def _token(command: str, arguments: argparse.Namespace) -> str:
    """The token to show; ``""`` for none."""
    option: str | None = getattr(arguments, "token", None)
    if option is not None and not option.startswith("@"):
        seen = f"@FILE is wanted, or the token in {TOKEN}: here everybody sees it in the list of processes"
        fail(command, [f"--token: {seen}"])
        raise NoAnswer(USAGE)
    given: str = option or os.environ.get(TOKEN, "")
    try:
        token = Path(given[1:]).read_text().strip() if given.startswith("@") else given.strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        fail(command, [f"--token: {given[1:]!r}: {str(said).lower()}"])
        raise NoAnswer(USAGE) from None
    if not (token.isascii() and token.isprintable()) or " " in token:
        where = TOKEN if option is None else "--token"
        fail(command, [f"{where}: it is no token: one line of ASCII without blanks is wanted"])
        raise NoAnswer(USAGE)
    return token


def _option(found: re.Match[str]) -> str:
    return f"--{found[1].replace('_', '-')}:"


def _nobody(command: str, arguments: argparse.Namespace, error: Exception) -> NoAnswer:
    said = ""
    if arguments.admin.startswith(_HTTPS):
        from meshcore_cli.admin_tls import why

        said = why(error, arguments)
    if not said:
        said = (error.strerror or str(error)) if isinstance(error, OSError) else f"no HTTP: {type(error).__name__}"
    print(f"{command}: no proxy answers at {arguments.admin}: {clean(said)}", file=sys.stderr)
    if isinstance(error, ConnectionRefusedError):
        # A line of its own, for `top` has room for one.
        print("  --admin HOST:PORT says where its [admin] listens", file=sys.stderr)
    return NoAnswer(PROBLEM)
