"""What the commands that take a config file have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore_cli.parser import USAGE, fail
from meshcore_cli.render import colour

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from meshcore.config.load import Loaded
    from meshcore_cli.parser import Parser

__all__ = ["add_file_arguments", "examined", "warn"]


def add_file_arguments(parser: Parser) -> None:
    """``-c FILE`` and ``--set KEY=VALUE``."""
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="the config file: TOML, or .json")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the file, given here instead, such as admin.listen=off; may be repeated",
    )


def examined(command: str, arguments: argparse.Namespace, *, waiting: bool = False) -> Loaded | int:
    """What the file came to; the exit code, with everything told, if it cannot be read at all.  *waiting*: see
    :func:`~meshcore.config.examine`."""
    from meshcore.config import examine
    from meshcore.errors import ConfigError

    try:
        return examine(arguments.config, arguments.settings, waiting=waiting)
    except ConfigError as error:
        fail(command, error.problems)
        return USAGE


def warn(command: str, warnings: Iterable[object]) -> None:
    """Each warning on its own line on stderr."""
    import sys

    for warning in warnings:
        print(f"{command}: {colour('yellow', 'warning', sys.stderr)}: {warning}", file=sys.stderr)
