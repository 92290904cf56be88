"""``meshcore diag``: what a running proxy knows of itself."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import NoAnswer, add_admin, add_output
from meshcore_cli.columns import Cell, Heading, clean, room, table
from meshcore_cli.figures import age, millis
from meshcore_cli.pages import items, number, page, text
from meshcore_cli.parser import OK, PROBLEM, Parser, fail
from meshcore_cli.render import bold, colour, dim, print_json
from meshcore_cli.tree import layer_lines, value_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

COMMAND = "meshcore diag"
DESCRIPTION = """\
Tells what a running proxy knows of itself.

  endpoints   each backend's endpoints: load, state, age, breaker, connections
  stack       the live stacks, with what their layers have counted
  identity    the certificate that peers see, what signed it, who is trusted; 1 if it has expired, or there is none yet
  tasks       Trio's tasks: in whose nursery each is, and where it waits
  bundle      all of it, the metrics, the configuration (secrets masked) and what happened of late, in one file

  meshcore diag endpoints
  meshcore diag bundle --out diag.tar.gz"""

_ENDPOINTS = (
    Heading("ENDPOINT", shrinks=True),
    Heading("STATE"),
    Heading("BREAKER"),
    Heading("LOAD", right=True),
    Heading("RTT", right=True, rank=5),
    Heading("PEND", right=True),
    Heading("CONNS", right=True),
    Heading("WEIGHT", right=True, rank=6),
    Heading("ZONE", rank=7, shrinks=True),
    Heading("AGE", right=True),
    Heading("IDENTITY", rank=3, shrinks=True),
    Heading("ERROR", rank=2, shrinks=True),
)


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument("what", choices=[*_PRINTED, "bundle"], help="what is told")
    parser.add_argument("--out", metavar="FILE", help="of bundle: the file, such as diag.tar.gz")
    parser.add_argument("--force", action="store_true", help="of bundle: overwrite the file")
    add_admin(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints the answer; the exit code."""
    try:
        if arguments.what == "bundle":
            return _bundle(arguments)
        if arguments.out is not None or arguments.force:
            option = "--force" if arguments.out is None else "--out"
            return fail(COMMAND, [f"{option}: is for bundle alone"])
        told = page(f"{COMMAND} {arguments.what}", arguments, f"/{arguments.what}")
    except NoAnswer as error:
        return error.code
    if arguments.output == "json":
        print_json(told)
    else:
        print(_PRINTED[arguments.what](told))
    return _judge_identity(told) if arguments.what == "identity" else OK


def _bundle(arguments: argparse.Namespace) -> int:
    if arguments.out is None:
        return fail(COMMAND, ["bundle: --out FILE has to be given"])
    from meshcore_cli.bundle import bundle

    return bundle(f"{COMMAND} bundle", arguments, Path(arguments.out), force=arguments.force)


def _endpoints(told: dict[str, Any]) -> str:
    parts = []
    for backend in items(told, "backends"):
        said = [
            f"{text(backend, 'policy')}",
            f"{number(backend, 'ready') or 0:.0f} of {len(items(backend, 'endpoints'))} ready",
        ]
        if backend.get("waiting"):
            said.append(colour("yellow", f"{text(backend, 'waiting')} requests wait"))
        if backend.get("fail_fast") is True:
            said.append(colour("red", "fails fast"))
        if backend.get("panic") is True:
            said.append(colour("red", "panics: busy endpoints get requests, too"))
        if backend.get("discovered") is False:
            said.append(colour("yellow", "not discovered yet"))
        discovery = backend.get("discovery")
        head = f"{bold(text(backend, 'backend'))}  {dim('in ' + text(backend, 'listener'))}  {', '.join(said)}"
        lines = [head, *(f"  {line}" for line in (value_lines(discovery) if isinstance(discovery, dict) else ()))]
        columns = room()
        rows = [_endpoint(each) for each in items(backend, "endpoints")]
        shown = table(_ENDPOINTS, rows, None if columns is None else columns - 2)
        lines += [f"  {line}" for line in shown.splitlines()]
        parts.append("\n".join(lines))
    more = number(told, "more")
    if more:
        parts.append(dim(f"and {more:.0f} endpoints more"))
    return "\n\n".join(parts) if parts else "no backend has been used yet"


def _endpoint(each: dict[str, Any]) -> list[Cell]:
    breaker = each.get("breaker")
    breaker = breaker if isinstance(breaker, dict) else {}
    shut = text(breaker, "state")
    if shut == "open":
        shut = f"open {age(number(breaker, 'remaining'))}"
    state = text(each, "state")
    return [
        Cell(text(each, "address")),
        Cell(state, {"failed": "red", "pending": "yellow"}.get(state, "")),
        Cell(shut or "-", "red" if shut.startswith("open") else "yellow" if shut == "probation" else ""),
        Cell(f"{number(each, 'load') or 0:.4f}"),
        Cell(millis(number(each, "rtt"))),
        Cell(f"{number(each, 'pending') or 0:.0f}"),
        Cell(f"{number(each, 'connections') or 0:.0f}"),
        Cell(f"{number(each, 'weight') or 0:g}"),
        Cell(text(each, "zone") or "-"),
        Cell(age(number(each, "age"))),
        Cell(text(each, "identity") or "-"),
        Cell(text(each, "error") or "-"),
    ]


def _stack(told: dict[str, Any]) -> str:
    parts = []
    for name, stack in told.items():
        if not isinstance(stack, dict):
            continue
        lines = [bold(clean(name)), *layer_lines(stack.get("layers"))]
        rest = {key: item for key, item in stack.items() if key != "layers"}
        lines += value_lines(rest, "  ")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) if parts else "no stack is there yet"


def _identity(told: dict[str, Any]) -> str:
    if told.get("identity") is None and "certified" not in told:
        return "this proxy has no identity: it has no [identity], so there is no mutual TLS"
    certificate = told.get("certificate")
    lines = [bold(text(told, "identity") or "identity")]
    if not isinstance(certificate, dict):
        lines.append(f"  {colour('red', 'not certified yet')}")
    else:
        left = number(certificate, "remaining") or 0.0
        until = f"expires in {age(left)}" if left > 0 else "expired"
        names = certificate.get("names")
        lines += [
            f"  names    {', '.join(map(clean, names)) if isinstance(names, list) else '-'}",
            f"  valid    {_day(number(certificate, 'not_before'))} to {_day(number(certificate, 'not_after'))}, "
            f"{colour('red' if left <= 0 else 'green', until)}",
            f"  issuer   {text(certificate, 'issuer')}",
            f"  serial   {text(certificate, 'serial')}",
            f"  sha256   {text(certificate, 'sha256')}",
        ]
    if told.get("refused"):
        lines.append(f"  {colour('red', 'refused')}  {text(told, 'refused')}")
    refreshes = told.get("refreshes")
    if isinstance(refreshes, dict):
        lines.append(f"  taken    {text(refreshes, 'ok')} times, refused {text(refreshes, 'error')} times")
    for title, name in (("signed by", "chain"), ("trusts", "anchors")):
        for each in items(told, name):
            lines.append(f"  {title:<8} {text(each, 'subject')}, until {_day(number(each, 'not_after'))}")
    return "\n".join(lines)


def _judge_identity(told: dict[str, Any]) -> int:
    certificate = told.get("certificate")
    if told.get("certified") is False:
        return PROBLEM
    expired = isinstance(certificate, dict) and (number(certificate, "remaining") or 0.0) <= 0
    return PROBLEM if expired else OK


def _day(seconds: float | None) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(seconds or 0.0, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return "-"


def _tasks(told: dict[str, Any]) -> str:
    lines = []
    for task in items(told, "tasks"):
        depth = min(int(number(task, "depth") or 0), 100)
        lines.append(f"{'  ' * depth}{text(task, 'name')}  {dim(text(task, 'waits_at'))}".rstrip())
    lines.append(f"{number(told, 'total') or len(lines):.0f} tasks")
    more = number(told, "more")
    if more:
        lines[-1] += f", {more:.0f} of them not shown"
    return "\n".join(lines)


_PRINTED: dict[str, Callable[[dict[str, Any]], str]] = {
    "endpoints": _endpoints,
    "stack": _stack,
    "identity": _identity,
    "tasks": _tasks,
}
