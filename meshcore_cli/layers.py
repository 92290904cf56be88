"""``meshcore layers``: what can be stacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import add_output
from meshcore_cli.parser import OK, PROBLEM, Parser, fail
from meshcore_cli.render import bold, dim, print_json

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Lists the layers that a pipeline can be made of: those that come with meshcore, and those that other installed
packages offer in the entry-point group meshcore.layers."""


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this one")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints one layer or all of them; 1 if one of them cannot be loaded."""
    from meshcore import registry
    from meshcore.errors import ConfigError

    wanted: list[str] = [arguments.name] if arguments.name is not None else registry.names()
    found: list[registry.Plugin] = []
    problems: list[str] = []
    for name in wanted:
        try:
            found.append(registry.describe(name))
        except ConfigError as error:
            problems.extend(error.problems)
    if arguments.output == "json":
        print_json([_value(plugin) for plugin in found])
    else:
        print("\n\n".join(_page(plugin) for plugin in found))
    if problems:
        code = fail("meshcore layers", problems)
        return code if arguments.name is not None else PROBLEM
    return OK


def _value(plugin: Any) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "summary": plugin.summary,
        "path": plugin.path,
        "source": plugin.source,
        "fields": [{"name": field.name, "type": field.type, "default": field.default} for field in plugin.fields],
    }


def _page(plugin: Any) -> str:
    lines = [f"{bold(plugin.name)}  {plugin.summary}"]
    for field in plugin.fields:
        default = dim("required") if field.default is None else f"= {field.default}"
        lines.append(f"  {field.name}: {field.type} {default}")
    return "\n".join(lines)
