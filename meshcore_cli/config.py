"""``meshcore config``: the effective configuration, its schema, and a file to start from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from meshcore_cli.config_file import examined, warn
from meshcore_cli.parser import OK, PROBLEM, USAGE, Parser, fail
from meshcore_cli.render import print_json

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore config"
DESCRIPTION = """\
  meshcore config show -c FILE   the file with every default filled in; keys' files are named, never shown
  meshcore config schema         JSON Schema of config files, for editors
  meshcore config init [FILE]    a commented file to start from; on stdout without FILE"""


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument("what", choices=["show", "schema", "init"], help="what to print")
    parser.add_argument("file", nargs="?", metavar="FILE", help="init: where to write; without it: stdout")
    parser.add_argument("-c", "--config", metavar="FILE", help="show: the config file: TOML, or .json")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="show: a key of the file, given here instead; may be repeated",
    )
    parser.add_argument("-o", "--output", choices=["toml", "json"], default="toml", help="show: form of the output")
    parser.add_argument("--gateway", action="store_true", help="init: a gateway instead of a sidecar")
    parser.add_argument("--force", action="store_true", help="init: overwrite FILE")


def run(arguments: argparse.Namespace) -> int:
    """Prints or writes; the exit code."""
    problems = []
    if arguments.what != "init":
        if arguments.file is not None:
            hint = f"; did you mean -c {arguments.file}?" if arguments.what == "show" else ""
            problems.append(f"unexpected argument {arguments.file}{hint}")
        problems += [f"--{name}: is for init" for name in ("gateway", "force") if getattr(arguments, name)]
    if arguments.what != "show":
        problems += [f"{option}: is for show" for option, given in _show_options(arguments) if given]
    elif arguments.config is None and not problems:
        problems.append("show: -c FILE is needed")
    if problems:
        return fail(COMMAND, problems)
    if arguments.what == "schema":
        from meshcore.config.schema import schema

        print_json(schema())
        return OK
    return _show(arguments) if arguments.what == "show" else _init(arguments)


def _show_options(arguments: argparse.Namespace) -> list[tuple[str, bool]]:
    return [("-c", arguments.config is not None), ("--set", bool(arguments.settings))]


def _show(arguments: argparse.Namespace) -> int:
    from meshcore.config.show import config_json, config_toml

    loaded = examined(COMMAND, arguments)
    if isinstance(loaded, int):
        return loaded
    if loaded.config is None:
        return fail(COMMAND, [str(problem) for problem in loaded.problems])
    warn(COMMAND, loaded.warnings)
    if arguments.output == "json":
        print_json(config_json(loaded.config))
    else:
        print(config_toml(loaded.config), end="")
    return OK


def _init(arguments: argparse.Namespace) -> int:
    from meshcore.config.starter import STARTERS

    text = STARTERS["gateway" if arguments.gateway else "sidecar"]
    if arguments.file is None:
        print(text, end="")
        return OK
    try:
        with open(arguments.file, "w" if arguments.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(COMMAND, [f"{arguments.file}: is there already; --force overwrites it"])
        return USAGE
    except OSError as error:
        fail(COMMAND, [f"{arguments.file}: {(error.strerror or 'cannot be written').lower()}"])
        return PROBLEM
    print(f"{arguments.file} written; `meshcore check -c {arguments.file}` checks it", file=sys.stderr)
    return OK
