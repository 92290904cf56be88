"""``meshcore run``: the sidecar or gateway of a config file."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING

from meshcore_cli.config_file import add_file_arguments, examined
from meshcore_cli.parser import PROBLEM, Parser, fail

if TYPE_CHECKING:
    import argparse

    from meshcore.config import MeshConfig

COMMAND = "meshcore run"
DESCRIPTION = """\
Runs the sidecar or gateway of a config file.

  meshcore run -c orders.toml
  meshcore run -c orders.toml -- python -m orders

With a command after --, the application is wrapped: it is started once the proxy is ready, signals are passed on to
it, and when it has ended the proxy drains and exits with its code (128 and the signal's number if a signal ended
it; 127 if there is no such command, 126 if it cannot be run).  After SIGTERM or SIGINT it has the grace period.

The file is read again when it changes, at SIGHUP (without a command: with one, that is the application's) and by
`meshcore reload`.  A file that is wrong changes nothing.

Files of [identity] that are not there yet are waited for: nothing is served before, and /ready says so.

OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME in the environment describe the process for the spans of [tracing].

Without a command, SIGTERM or SIGINT drains: nothing new is accepted, what is in flight is finished within the
grace period; a second signal stops at once."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    add_file_arguments(parser)
    parser.add_argument("command", nargs="*", metavar="CMD", help="after --: the application to wrap")


def run(arguments: argparse.Namespace) -> int:
    """Runs until a signal, or until the application has ended; the exit code."""
    from meshcore.config import ConfigFile

    # Before it is read: what changes from now on is noticed.
    file = ConfigFile(arguments.config, arguments.settings)
    loaded = examined(COMMAND, arguments, waiting=True)
    if isinstance(loaded, int):
        return loaded
    if loaded.config is None:
        return fail(COMMAND, [str(problem) for problem in loaded.problems])
    command: list[str] = arguments.command
    if command and shutil.which(command[0]) is None:
        fail(COMMAND, [f"{command[0]!r}: no such command, or it cannot be run"])
        return 127

    from meshcore_cli.logs import configure

    config = loaded.config
    levels = configure(config.proxy.log_level, config.proxy.log_format)
    for warning in loaded.warnings:
        logging.getLogger("meshcore.config").warning("%s", warning)
    from meshcore import process
    from meshcore.errors import ConfigError
    from meshcore.running import AddressError
    from meshcore.tracing.resource import resource_from

    resource: dict[str, str] = {}
    try:
        resource = resource_from(os.environ)
    except ValueError as error:
        logging.getLogger("meshcore.config").warning("%s; none of it is used", error)

    def reloaded(config: MeshConfig) -> None:
        configure(config.proxy.log_level, config.proxy.log_format)

    try:
        return process.main_mesh(
            config, command or None, file=file, reloaded=reloaded, levels=levels, resource=resource
        )
    except AddressError as error:
        fail(COMMAND, error.problems)
        return PROBLEM
    except ConfigError as error:
        return fail(COMMAND, error.problems)
