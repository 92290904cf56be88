"""``meshcore routes``: the routes of a running proxy, and how well each does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore_cli.ask import NoAnswer, add_admin, add_output
from meshcore_cli.columns import room, table
from meshcore_cli.figures import VIEWS
from meshcore_cli.pages import items, page, text
from meshcore_cli.parser import OK, Parser
from meshcore_cli.render import print_json
from meshcore_cli.stat import add_window, window_of

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore routes"
DESCRIPTION = """\
Lists the routes of a running proxy with their figures, those that have had no request included: `default` is what
no other route takes, or all there is where there are no routes.

  meshcore routes
  meshcore routes --direction outbound --window 1m"""


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument("--direction", choices=("inbound", "outbound"), help="only these")
    add_window(parser)
    add_admin(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints the table; the exit code."""
    try:
        window = window_of(COMMAND, arguments)
        told = page(COMMAND, arguments, f"/stats?window={window:g}")
    except NoAnswer as error:
        return error.code
    rows = [
        row for row in items(told, "routes") if arguments.direction in (None, row.get("direction"))
    ]
    rows.sort(key=lambda row: (text(row, "direction"), text(row, "parent"), text(row, "route")))
    if arguments.output == "json":
        print_json({"window": told.get("window"), "routes": rows})
        return OK
    fields = VIEWS[0].fields
    cells = [[field.cell(row) for field in fields] for row in rows]
    print(table([field.heading for field in fields], cells, room()))
    return OK
