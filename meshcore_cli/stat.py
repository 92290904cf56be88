"""``meshcore stat``: the golden metrics of a running proxy."""

from __future__ import annotations

import json
import select
import sys
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import NoAnswer, add_admin, add_output
from meshcore_cli.columns import room, table
from meshcore_cli.figures import VIEWS, View, millis, percent, rate
from meshcore_cli.pages import items, number, page, text
from meshcore_cli.parser import OK, Parser, fail
from meshcore_cli.render import bold, dim, json_text, print_json, speaks_unicode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from meshcore_cli.columns import Cell, Heading

__all__ = ["DESCRIPTION", "add_arguments", "add_window", "rows_of", "run", "window_of"]

COMMAND = "meshcore stat"
DESCRIPTION = """\
Tells how well a running proxy does: requests a second, success rate, latencies, breakers, retry budgets, by
route (as its clients see it), by backend and by endpoint (each try counted).

  meshcore stat
  meshcore stat endpoints --window 1m
  meshcore stat backends --watch
  meshcore stat -o json

The proxy counts from the first question on: that one takes a second, and covers no more than that.  Latencies are
interpolated within the buckets of its histograms."""

EVERY = 1.0


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*(view.name for view in VIEWS), "all"],
        default="all",
        help="what the figures are by (default %(default)s)",
    )
    add_window(parser)
    parser.add_argument("--watch", action="store_true", help="tell anew each second, until interrupted")
    add_admin(parser)
    add_output(parser)


def add_window(parser: Parser) -> None:
    """``--window``."""
    parser.add_argument(
        "--window", metavar="TIME", default="10s", help="how long the figures look back, 1s to 1m (default %(default)s)"
    )


def window_of(command: str, arguments: argparse.Namespace) -> float:
    """The window in seconds.

    Raises:
        NoAnswer: it is none; that has been told.
    """
    from meshcore.durations import parse_duration
    from meshcore.errors import ConfigError

    try:
        seconds = parse_duration(arguments.window)
    except ConfigError as error:
        raise NoAnswer(fail(command, [f"--window: {problem}" for problem in error.problems])) from None
    if not 1.0 <= seconds <= 60.0:
        raise NoAnswer(fail(command, [f"--window: {arguments.window!r} is not between 1s and 1m"]))
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints the tables; the exit code."""
    try:
        window = window_of(COMMAND, arguments)
        while True:
            told = page(COMMAND, arguments, f"/stats?window={window:g}")
            _print(arguments, told)
            if not arguments.watch:
                return OK
            select.select([], [], [], EVERY)
    except NoAnswer as error:
        return error.code
    except KeyboardInterrupt:
        if arguments.watch:
            return OK
        raise


def _print(arguments: argparse.Namespace, told: dict[str, Any]) -> None:
    views = [view for view in VIEWS if arguments.what in (view.name, "all")]
    if arguments.output == "json":
        lists = [view.name for view in views] if arguments.what != "all" else [*(v.name for v in VIEWS), "edges"]
        kept = {name: item for name, item in told.items() if not isinstance(item, list) or name in lists}
        if arguments.watch:
            # One line each, for whoever reads them as they come.
            print(json_text(json.dumps(kept, ensure_ascii=not speaks_unicode())), flush=True)
        else:
            print_json(kept)
        return
    if arguments.watch and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    parts = [_summary(told), *(_table(view, told) for view in views)]
    print("\n\n".join(parts) + ("\n" if arguments.watch else ""), flush=True)


def _summary(told: dict[str, Any]) -> str:
    proxy = told.get("proxy")
    proxy = proxy if isinstance(proxy, dict) else {}
    name = ".".join(filter(None, (text(proxy, "name"), text(proxy, "namespace"))))
    lines = [f"{bold(name or 'proxy')}  {text(proxy, 'state')}, the last {number(told, 'window') or 0:.0f} s"]
    total = told.get("total")
    for direction, golden in (total if isinstance(total, dict) else {}).items():
        if isinstance(golden, dict):
            lines.append(
                f"  {text({'direction': direction}, 'direction'):<9} {rate(number(golden, 'rps')):>8} rps"
                f"  {percent(number(golden, 'success')):>8}  p50 {millis(number(golden, 'p50'))}"
                f"  p95 {millis(number(golden, 'p95'))}  p99 {millis(number(golden, 'p99'))}"
            )
    return "\n".join(lines)


def _table(view: View, told: dict[str, Any]) -> str:
    cells = [[field.cell(row) for field in view.fields] for row in items(told, view.name)]
    return rows_of(told, view.name, [field.heading for field in view.fields], cells)


def rows_of(told: dict[str, Any], name: str, headings: Sequence[Heading], cells: Sequence[Sequence[Cell]]) -> str:
    """A list of ``/stats`` as a table, and how much of it was left out."""
    shown = table(headings, cells, room()) if cells else dim(f"no {name} yet")
    more = told.get("more")
    left_out = int(number(more, name) or 0) if isinstance(more, dict) else 0
    return f"{shown}\n{dim(f'and {left_out} more')}" if left_out else shown
