"""``meshcore tap``: requests as they pass a running proxy, an event a line."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from meshcore_cli.ask import NoAnswer, add_admin, add_output, lines
from meshcore_cli.columns import fit, width
from meshcore_cli.pages import json_object
from meshcore_cli.parser import OK, PROBLEM, Parser
from meshcore_cli.render import colour, dim, json_text

if TYPE_CHECKING:
    import argparse

COMMAND = "meshcore tap"
DESCRIPTION = """\
Shows requests as they pass a running proxy: each request, its response and their end, a line each.

  meshcore tap
  meshcore tap --path /v1 --status 5xx
  meshcore tap --from web.shop --slower-than 250ms --headers=user-agent,x-request-id
  meshcore tap --failed --limit 10 -o json

All that is given has to fit; an option that is repeated, or a list with commas, takes any of its values.  What is only
known at the end (--failed, --slower-than) is shown then, from its beginning.  Values of secrets are never shown.
Arrows: <- what others send to this proxy, -> what its application sends.  Ctrl-C ends it."""

_ARROWS = {"inbound": "<-", "outbound": "->"}
_KINDS = {"request_init": "req", "response_init": "rsp", "response_end": "end"}
_WIDTH = 44
"""Characters for who talks to whom, where there is room."""
_NARROW = 18

_LISTS = (
    ("from", "WHO", "whose requests: an address, a network, :PORT, an identity or *.SUFFIX"),
    ("to", "WHO", "where they go: the same, of the endpoint; or the authority, or a backend's name"),
    ("identity", "NAME", "the identity of the client or of the endpoint, or *.SUFFIX"),
    ("direction", "WORD", "inbound or outbound (default: both)"),
    ("route", "NAME", "the route that took it"),
    ("backend", "NAME", "the backend that it went to"),
    ("method", "METHOD", "GET, POST …"),
    ("authority", "HOST", "host, host:port or *.SUFFIX"),
    ("path", "PREFIX", "what the path begins with, by whole segments"),
    ("status", "STATUS", "404, 500-599, 5xx"),
    ("grpc-status", "STATUS", "by name or number: unavailable, 14"),
)
_SINGLE = (
    ("path-regex", "REGEX", "what the whole path is like"),
    ("slower-than", "DURATION", "what took at least so long, such as 250ms"),
    ("rate", "N", "events a second at the most (default: 100)"),
    ("limit", "N", "ends after so many requests"),
    ("seconds", "N", "ends after so long"),
)


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    add_admin(parser)
    add_output(parser)
    wanted = parser.add_argument_group("which requests")
    for name, metavar, text in _LISTS:
        wanted.add_argument(f"--{name}", dest=_parameter(name), metavar=metavar, action="append", help=text)
    for name, metavar, text in _SINGLE:
        wanted.add_argument(f"--{name}", dest=_parameter(name), metavar=metavar, help=text)
    wanted.add_argument("--failed", action="store_true", help="only what counts as a failure")
    wanted.add_argument(
        "--headers",
        metavar="NAMES",
        nargs="?",
        const="1",
        help="shows header fields and trailers, all or those named (--headers=host,accept); secrets stay masked",
    )


def _parameter(name: str) -> str:
    return name.replace("-", "_")


def run(arguments: argparse.Namespace) -> int:
    """Shows events until somebody ends it; the exit code."""
    query = [
        (_parameter(name), value) for name, *_ in _LISTS for value in getattr(arguments, _parameter(name)) or ()
    ]
    query += [
        (_parameter(name), value)
        for name, *_ in _SINGLE
        if (value := getattr(arguments, _parameter(name))) is not None
    ]
    if arguments.failed:
        query.append(("failed", "1"))
    if arguments.headers is not None:
        query.append(("headers", arguments.headers))
    path = f"/tap?{urlencode(query)}" if query else "/tap"
    try:
        for line in lines(COMMAND, arguments, path):
            if arguments.output == "json":
                print(json_text(line), flush=True)
                continue
            event = json_object(COMMAND, arguments, "/tap", line)
            try:
                shown = told(event)
            except (KeyError, TypeError, ValueError, AttributeError):
                said = f"what {arguments.admin} answers at /tap is no event: is it meshcore?"
                print(f"{COMMAND}: {said}", file=sys.stderr)
                return PROBLEM
            for each in shown:
                print(each, flush=True)
    except NoAnswer as error:
        return error.code
    except KeyboardInterrupt:
        # Somebody has seen enough.
        if sys.stdout.isatty():
            print()
    return OK


def told(event: dict[str, Any]) -> list[str]:
    """An event for people: a line, and one for each header field that came with it.  On a terminal a line is one."""
    if event["event"] == "dropped":
        return [dim(f"{'':6} .. {event['requests']:d} requests and {event['events']:d} events more were not shown")]
    kind = _KINDS[event["event"]]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    wide = _WIDTH if columns is None else min(max((columns - 40) // 2, _NARROW), _WIDTH)
    head = (
        f"{event['id']:>6d} {_ARROWS.get(event['direction'], '  ')} {kind} {_outcome(event)} {_time(event):>9} "
        f"{_tls(event):<4} {fit(_who(event, wide), wide)} "
    )
    method, where, more = f"{plain(event['method']):<6} ", plain(event["authority"] + event["path"]), _more(event)
    if columns is not None:
        room = columns - _bare(head) - width(method)
        where = _begin(where, max(room - width(more), 10))
        more = _begin(more, max(room - width(where), 0))
    rest = f"{method}{where}{more}"
    found = [(dim(head) + rest) if kind == "req" else head + rest]
    for name, mark in (("headers", ">"), ("response_headers", "<"), ("trailer_fields", "<")):
        found += [dim(f"{'':14}{mark} {plain(key)}: {plain(value)}") for key, value in event.get(name) or ()]
    return found


def _bare(text: str) -> int:
    """How wide a text is whose status may be coloured."""
    return width(text) - (9 if "\x1b[" in text else 0)


def _outcome(event: dict[str, Any]) -> str:
    status = event.get("status")
    if event["event"] == "request_init":
        return "  -"
    if status is None:
        return colour("red", "err")
    status = int(status)
    name = "red" if status >= 500 or event.get("failed") else "yellow" if status >= 400 else "green"
    return colour(name, f"{status:>3}")


def _time(event: dict[str, Any]) -> str:
    ms = event["since_ms"]
    if event["event"] == "request_init":
        return "-"
    return f"{ms:.1f}ms" if ms < 10_000 else f"{ms / 1_000:.1f}s"


def _tls(event: dict[str, Any]) -> str:
    side = event["source"] if event["direction"] == "inbound" else event["target"]
    if event["secured"] is None:
        return ""
    return ("mtls" if side["identity"] else "tls") if event["secured"] else "-"


def _who(event: dict[str, Any], columns: int) -> str:
    source, target = event["source"], event["target"]
    ends = [plain(end["identity"] or end["addr"] or "?") for end in (source, target)]
    if target["addr"] is None:
        # Nobody has been picked yet.
        return _cut(ends[0], columns)
    half = (columns - 3) // 2
    spare = sum(max(half - width(end), 0) for end in ends)
    return " > ".join(_cut(end, half + spare) for end in ends)


def _cut(text: str, columns: int) -> str:
    """*text* in so many columns at the most, its end kept: that is where names and ports differ."""
    if width(text) <= columns:
        return text
    kept = text[-columns:]
    while width(kept) >= columns:
        kept = kept[1:]
    return f"~{kept}"


def _begin(text: str, columns: int) -> str:
    """*text* in so many columns at the most, its beginning kept."""
    if width(text) <= columns:
        return text
    kept = text[: max(columns, 0)]
    while kept and width(kept) >= columns:
        kept = kept[:-1]
    return f"{kept}~"[: max(columns, 0)]


def _more(event: dict[str, Any]) -> str:
    if event["event"] != "response_end":
        return ""
    found = []
    if event["response_bytes"] is not None:
        found.append(f"{event['response_bytes']:d}B")
    if event["grpc_status"] is not None:
        found.append(f"grpc={event['grpc_status']:d}")
    if event["retries"]:
        found.append(f"retries={event['retries']:d}")
    if event["route"]:
        found.append(f"route={plain(event['route'])}")
    if event["error"]:
        found.append(f"error={plain(event['error'])}")
    return f"  {' '.join(found)}" if found else ""


def plain(text: str) -> str:
    """*text* as it may go to a terminal: what would act on one is escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
