"""Tables, colour and JSON: what commands print."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["bold", "colour", "coloured", "dim", "json_text", "print_json", "speaks_unicode", "table"]

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def coloured(stream: TextIO | None = None) -> bool:
    """Whether colour is wanted: on a terminal, unless NO_COLOR is set (no-color.org) or TERM is dumb."""
    output = sys.stdout if stream is None else stream
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and output.isatty()


def colour(name: str, text: str, stream: TextIO | None = None) -> str:
    """*text* in that colour where colour is wanted."""
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if coloured(stream) else text


def bold(text: str) -> str:
    """Emphasised on a terminal."""
    return colour("bold", text)


def dim(text: str) -> str:
    """Subdued on a terminal."""
    return colour("dim", text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> str:
    """Columns as wide as what they hold, two spaces between; *right* are the indices of those aligned right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(title), *(len(row[index]) for row in cells)]) for index, title in enumerate(header)]
    aligned = frozenset(right)

    def line(row: Sequence[str]) -> str:
        parts = (f"{cell:>{widths[i]}}" if i in aligned else f"{cell:<{widths[i]}}" for i, cell in enumerate(row))
        return "  ".join(parts).rstrip()

    return "\n".join([bold(line(header)), *map(line, cells)])


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_text(json.dumps(value, indent=2, ensure_ascii=not speaks_unicode())))


_ODD = re.compile(r"[^\n -~]")


def json_text(document: str) -> str:
    """A JSON document whose strings do not act on a terminal; JSON itself escapes ASCII's controls only."""
    return _ODD.sub(lambda odd: odd[0] if odd[0].isprintable() else json.dumps(odd[0])[1:-1], document)


def speaks_unicode() -> bool:
    """Whether stdout has every character."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
