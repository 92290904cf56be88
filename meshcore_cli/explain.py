"""``meshcore explain``: what an error that the proxy made means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.addresses import suggest
from meshcore.explain import EXPLANATIONS, error_classes
from meshcore_cli.ask import add_output
from meshcore_cli.parser import OK, Parser, fail
from meshcore_cli.render import bold, print_json, table

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
Explains an error code, as it stands in the header x-meshcore-error of an answer that the proxy made
itself.  Without a code: lists them all."""


def add_arguments(parser: Parser) -> None:
    """The arguments of the command."""
    parser.add_argument("code", nargs="?", metavar="CODE", help="the code, such as connect-failed")
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints one code or all of them."""
    code: str | None = arguments.code
    if code is not None and code not in EXPLANATIONS:
        return fail("meshcore explain", [f"no error code {code!r}{suggest(code, list(EXPLANATIONS))}"])
    codes = sorted(EXPLANATIONS) if code is None else [code]
    if arguments.output == "json":
        values = [_value(name) for name in codes]
        print_json(values if code is None else values[0])
    elif code is None:
        rows = [(name, _status(name), EXPLANATIONS[name].meaning) for name in codes]
        print(table(["CODE", "STATUS", "MEANING"], rows, right=[1]))
    else:
        print(_page(code))
    return OK


def _status(code: str) -> str:
    # A wrong configuration answers nobody.
    return "-" if code == "config" else str(error_classes()[code].status_hint)


def _value(code: str) -> dict[str, Any]:
    cls, text = error_classes()[code], EXPLANATIONS[code]
    return {
        "code": code,
        "status": cls.status_hint,
        "grpc_status": cls.grpc_hint,
        "source": cls.source,
        "closes_connection": cls.closes,
        "meaning": text.meaning,
        "causes": list(text.causes),
        "look_at": list(text.look_at),
    }


def _page(code: str) -> str:
    cls, text = error_classes()[code], EXPLANATIONS[code]
    lines = [bold(code), "", f"  {text.meaning}"]
    if code != "config":
        closes = "closes" if cls.closes else "keeps"
        lines += [
            "",
            f"  Answered with status {cls.status_hint} (gRPC {cls.grpc_hint}); {closes} the client's connection.",
            f"  At fault: the {cls.source}.",
        ]
    lines += ["", "Usual causes", *(f"  - {cause}" for cause in text.causes)]
    lines += ["", "Look at", *(f"  - {place}" for place in text.look_at)]
    return "\n".join(lines)
