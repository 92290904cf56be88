"""One list of ``/stats`` as a command of its own: ``meshcore routes`` and ``meshcore edges``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore_cli.ask import NoAnswer, add_admin, add_output
from meshcore_cli.pages import items, page
from meshcore_cli.parser import OK, Parser
from meshcore_cli.render import print_json
from meshcore_cli.stat import add_window, rows_of, window_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from meshcore_cli.columns import Cell, Heading

__all__ = ["Listing"]


class Listing(NamedTuple):
    """The command.

    Attributes:
        name: of the list, and of the command.
        headings: of the table.
        cells: of a row.
        order: what rows are sorted by.
    """

    name: str
    headings: Sequence[Heading]
    cells: Callable[[dict[str, Any]], list[Cell]]
    order: Callable[[dict[str, Any]], Any]

    def add_arguments(self, parser: Parser) -> None:
        """The arguments of the command."""
        parser.add_argument("--direction", choices=("inbound", "outbound"), help="only these")
        add_window(parser)
        add_admin(parser)
        add_output(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Asks, and prints the table; the exit code."""
        command = f"meshcore {self.name}"
        try:
            window = window_of(command, arguments)
            told = page(command, arguments, f"/stats?window={window:g}")
        except NoAnswer as error:
            return error.code
        rows = [row for row in items(told, self.name) if arguments.direction in (None, row.get("direction"))]
        rows.sort(key=self.order)
        if arguments.output == "json":
            print_json({"window": told.get("window"), self.name: rows})
        else:
            print(rows_of(told, self.name, self.headings, [self.cells(row) for row in rows]))
        return OK
