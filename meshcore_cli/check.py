"""``meshcore check``: everything there is to say about a config file, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore_cli.config_file import add_file_arguments, examined, warn
from meshcore_cli.parser import OK, USAGE, Parser, fail
from meshcore_cli.render import print_json

if TYPE_CHECKING:
    import argparse

    from meshcore.config import MeshConfig

COMMAND = "meshcore check"
DESCRIPTION = """\
Checks a config file and binds nothing: every mistake at once, each with its line and what may have been meant, or
the stacks that the file makes, each layer in the order in which a request meets it.  Exit code 2 if the
file is wrong."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    add_file_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Prints problems or stacks; the exit code."""
    if arguments.json:
        return _json(arguments)
    loaded = examined(COMMAND, arguments)
    if isinstance(loaded, int):
        return loaded
    warn(COMMAND, loaded.warnings)
    if loaded.config is None:
        return fail(COMMAND, [str(problem) for problem in loaded.problems])
    trees, problems = _trees(loaded.config)
    if problems:
        return fail(COMMAND, problems)
    print("\n".join(tree.rstrip("\n") + "\n" for tree in trees.values()), end="")
    print(f"{arguments.config}: fine")
    return OK


def _json(arguments: argparse.Namespace) -> int:
    from meshcore.config import examine
    from meshcore.errors import ConfigError

    value: dict[str, Any] = {"ok": False, "problems": [], "warnings": [], "stacks": {}}
    try:
        loaded = examine(arguments.config, arguments.settings)
    except ConfigError as error:
        value["problems"] = [{"place": "", "key": "", "text": text, "line": 0} for text in error.problems]
        print_json(value)
        return USAGE
    for name, found in (("problems", loaded.problems), ("warnings", loaded.warnings)):
        value[name] = [
            {"place": each.place, "key": each.key, "text": each.text, "line": each.line} for each in found
        ]
    if loaded.config is not None:
        value["stacks"], problems = _trees(loaded.config)
        value["problems"] += [{"place": "", "key": "", "text": text, "line": 0} for text in problems]
    value["ok"] = not value["problems"]
    print_json(value)
    return OK if value["ok"] else USAGE


def _trees(config: MeshConfig) -> tuple[dict[str, str], list[str]]:
    """The text of each stack by its name, and what is wrong with their layers."""
    from meshcore import proxy
    from meshcore.admin.render import stack_text
    from meshcore.errors import ConfigError

    make = getattr(proxy, "stacks", None)
    if make is None:
        return {}, []
    try:
        return {name: stack_text(name, stack) for name, stack in make(config).items()}, []
    except ConfigError as error:
        return {}, error.problems
