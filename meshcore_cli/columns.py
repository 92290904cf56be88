"""Tables of text from anywhere: cleaned, as wide as terminals show it, cut to what there is room for."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from meshcore_cli.render import bold, colour

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Cell", "Heading", "clean", "fit", "lines_of", "room", "table", "width"]

_COMFORTABLE, _NARROWEST = 16, 6
"""Columns that a name is cut down to before others are left out, and afterwards."""

_LONGEST = 500
_WIDE = ("W", "F")
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKS = ("Mn", "Me")


class Cell(NamedTuple):
    """A field of a table.

    Attributes:
        text: what it says.
        colour: on terminals; ``""``: none.
    """

    text: str
    colour: str = ""


class Heading(NamedTuple):
    """A column of a table.

    Attributes:
        title: above it.
        right: whether it is aligned right, as numbers are.
        shrinks: whether it is cut where there is not enough room.
        rank: the higher, the sooner it is left out where there is still not enough; 0: never.
    """

    title: str
    right: bool = False
    shrinks: bool = False
    rank: int = 0


def clean(value: object) -> str:
    """The text that may be shown: one line, without what would move the cursor, ring, or turn the direction of the
    text around; such characters become ``�``."""
    text = str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    if text.isascii() and text.isprintable():
        return text
    return "".join("�" if unicodedata.category(each) in _UNSEEN else each for each in text)


def width(text: str) -> int:
    """How many columns terminals take for it: two for wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def fit(text: str, columns: int, *, right: bool = False) -> str:
    """*text* in exactly so many columns: filled with spaces, or cut with ``…``."""
    taken = width(text)
    if taken > columns:
        text, taken = _cut(text, columns)
    space = " " * (columns - taken)
    return f"{space}{text}" if right else f"{text}{space}"


def _cut(text: str, columns: int) -> tuple[str, int]:
    if columns <= 0:
        return "", 0
    kept, taken = [], 0
    for each in text:
        more = _columns(each)
        if taken + more > columns - 1:
            break
        kept.append(each)
        taken += more
    return f"{''.join(kept)}…", taken + 1


def room() -> int | None:
    """The columns of the terminal; None: it is none, so there is no end to a line."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return None
    return max(shutil.get_terminal_size().columns, 20)


def table(headings: Sequence[Heading], rows: Sequence[Sequence[Cell]], columns: int | None = None) -> str:
    """The lines of a table, the heading first; coloured where colour is wanted.

    Args:
        headings: of the columns.
        rows: the cells, already clean.
        columns: how wide it may be; None: as it likes.
    """
    header, body = lines_of(headings, rows, columns)
    return "\n".join([bold(header.rstrip()), *(line.rstrip() for line in body)])


def lines_of(
    headings: Sequence[Heading],
    rows: Sequence[Sequence[Cell]],
    columns: int | None = None,
    paint: Callable[[str, str], str] = colour,
) -> tuple[str, list[str]]:
    """The heading's line and those of the rows, all of the same width.

    Args:
        headings: of the columns.
        rows: the cells, already clean.
        columns: how wide they may be; None: as they like.
        paint: colours a text by a colour's name.
    """
    widths = [
        max([width(heading.title), *(width(row[index].text) for row in rows)])
        for index, heading in enumerate(headings)
    ]
    shown = list(range(len(headings)))
    if columns is not None:
        shown = _squeezed(headings, widths, columns)

    def line(texts: Sequence[Cell]) -> str:
        parts = []
        for index in shown:
            text = fit(texts[index].text, widths[index], right=headings[index].right)
            parts.append(paint(texts[index].colour, text) if texts[index].colour else text)
        return "  ".join(parts)

    return line([Cell(heading.title) for heading in headings]), [line(row) for row in rows]


def _squeezed(headings: Sequence[Heading], widths: list[int], columns: int) -> list[int]:
    """The columns that are shown, their *widths* made less where that is needed."""
    shown = list(range(len(headings)))
    liked = list(widths)
    while not _narrowed(headings, shown, widths, columns, _COMFORTABLE):
        ranked = [index for index in shown if headings[index].rank]
        if not ranked:
            break
        widths[:] = liked
        shown.remove(max(ranked, key=lambda index: headings[index].rank))
    if not _narrowed(headings, shown, widths, columns, _NARROWEST):
        # There is hardly any room at all.
        while len(shown) > 1 and _over(shown, widths, columns) > 0:
            shown.pop()
        widths[shown[0]] = min(widths[shown[0]], columns)
    return shown


def _over(shown: list[int], widths: list[int], columns: int) -> int:
    return sum(widths[index] for index in shown) + 2 * (len(shown) - 1) - columns


def _narrowed(headings: Sequence[Heading], shown: list[int], widths: list[int], columns: int, least: int) -> bool:
    """Makes what shrinks less wide, the widest first, until it is as wide as the next one; whether it all fits."""
    over = _over(shown, widths, columns)
    shrinking = [index for index in shown if headings[index].shrinks]
    while over > 0 and shrinking:
        widest = max(shrinking, key=lambda index: widths[index])
        if widths[widest] <= least:
            break
        widths[widest] -= 1
        over -= 1
    return over <= 0
