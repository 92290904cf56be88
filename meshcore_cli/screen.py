"""What ``meshcore top`` shows, and what keys do to it.  Pure: it draws nothing and asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore_cli.columns import Heading, clean, fit, lines_of
from meshcore_cli.figures import VIEWS, age, millis, percent, rate
from meshcore_cli.pages import items, number, text

if TYPE_CHECKING:
    from meshcore_cli.figures import Field

__all__ = ["Screen"]

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2", "reverse": "7"}
_FOOTER = "1/2/3 view  s sort  r reverse  / filter  p pause  ? help  q quit"
_LONGEST_FILTER = 100
_FEW_ROWS = 10
"""With fewer, the totals make room for the table."""

HELP = (
    "1 2 3      routes, backends, endpoints",
    "Tab        the next of them; Shift-Tab: the one before",
    "s S        sort by the next column, by the one before",
    "t e        sort by traffic, by success (errors first)",
    "5 9 0      sort by p50, p95, p99",
    "n o        sort by the first name, by the second one",
    "l b        sort by load (of backends: ready), by breaker",
    "r          the other way round",
    "/          filter by name: Enter keeps it, Escape forgets it",
    "p Space    pause: figures stay as they are, and go on at the next",
    "↑ ↓        move; PgUp, PgDn, Home, End",
    "Ctrl-L     draw anew",
    "?          this; any key leaves it",
    "q          quit",
)


class _Sorting:
    """By which column, and which way round."""

    def __init__(self, field: int, falling: bool) -> None:
        self.field = field
        self.falling = falling


class Screen:
    """The state of the view.

    Args:
        where: whom is asked, for the heading.
        window: of the figures, in seconds.
        coloured: whether there is colour.
        unicode: whether there are characters beyond ASCII.

    Attributes:
        over: whether it is time to end.
    """

    def __init__(self, where: str, window: float, *, coloured: bool = True, unicode: bool = True) -> None:
        self._where = clean(where)
        self._window = window
        self._coloured = coloured
        self._unicode = unicode
        self.over = False
        self._view = 0
        # Whoever has most traffic first.
        self._sorting = [_Sorting(_index(view.fields, "t"), True) for view in VIEWS]
        self._filter = ""
        self._typing = False
        self._paused = False
        self._help = False
        self._top = 0
        self._page = 10
        self._told: dict[str, Any] = {}
        self._next: dict[str, Any] | None = None
        self._problem = ""

    @property
    def paused(self) -> bool:
        """Whether figures stay as they are."""
        return self._paused

    # ----- what comes -----

    def update(self, told: dict[str, Any]) -> None:
        """New figures; kept for later while it is paused."""
        self._problem = ""
        if self._paused:
            self._next = told
        else:
            self._told = told

    def lost(self, why: str) -> None:
        """There is no answer."""
        self._problem = clean(" ".join(why.split())) or "no answer"

    def press(self, key: str) -> None:
        """A key, see :class:`~meshcore_cli.keys.Keys`."""
        if self._typing:
            self._type(key)
        elif self._help:
            self._help = False
        elif key in ("q", "Q"):
            self.over = True
        elif key in ("1", "2", "3"):
            self._go(int(key) - 1)
        elif key in ("tab", "back tab"):
            self._go((self._view + (1 if key == "tab" else -1)) % len(VIEWS))
        elif key in ("p", " "):
            self._pause()
        elif key in ("?", "h"):
            self._help = True
        elif key == "/":
            self._typing = True
        elif key == "escape":
            self._filter = ""
        elif key in ("s", "S", "right", "left"):
            self._sort_by(self._sorting[self._view].field + (1 if key in ("s", "right") else -1))
        elif key == "r":
            self._sorting[self._view].falling ^= True
        elif key in ("up", "down", "page up", "page down", "home", "end", "k", "j"):
            self._move(key)
        else:
            for index, field in enumerate(VIEWS[self._view].fields):
                if field.letter == key:
                    self._sort_by(index)

    def _type(self, key: str) -> None:
        if key == "enter":
            self._typing = False
        elif key == "escape":
            self._typing, self._filter = False, ""
        elif key == "backspace":
            self._filter = self._filter[:-1]
        elif key == "clear":
            self._filter = ""
        elif len(key) == 1 and len(self._filter) < _LONGEST_FILTER:
            self._filter += key
        self._top = 0

    def _go(self, view: int) -> None:
        self._view, self._top = view, 0

    def _pause(self) -> None:
        self._paused = not self._paused
        if not self._paused and self._next is not None:
            self._told, self._next = self._next, None

    def _sort_by(self, index: int) -> None:
        fields = VIEWS[self._view].fields
        index %= len(fields)
        self._sorting[self._view] = _Sorting(index, fields[index].falling)

    def _move(self, key: str) -> None:
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -self._page, "page down": self._page}
        # What is too far is drawn back when it is known how many there are.
        self._top = 0 if key == "home" else 10**9 if key == "end" else max(self._top + steps[key], 0)

    # ----- what is shown -----

    def lines(self, columns: int, rows: int) -> list[str]:
        """The lines of a terminal of that size, from the top, coloured; none is wider than it is."""
        if self._help:
            shown = ["meshcore top", "", *HELP]
            return [self._paint("bold" if not n else "", fit(line, columns)) for n, line in enumerate(shown[:rows])]
        head = [self._head(columns), *(self._totals(columns) if rows >= _FEW_ROWS else ()), self._tabs(columns)]
        room = max(rows - len(head) - 2, 1)
        heading, body = self._table(columns, room)
        lines = [*head, self._paint("reverse", fit(heading, columns)), *body]
        lines = lines[: max(rows - 1, 1)]
        lines += [""] * (rows - 1 - len(lines))
        if rows > 1:
            lines.append(self._foot(columns))
        return lines if self._unicode else [_plain(line) for line in lines]

    def _head(self, columns: int) -> str:
        proxy = self._told.get("proxy")
        proxy = proxy if isinstance(proxy, dict) else {}
        name = ".".join(filter(None, (text(proxy, "name"), text(proxy, "namespace"))))
        window = number(self._told, "window")
        said = [
            f"meshcore top  {name}",
            text(proxy, "state"),
            f"up {age(number(proxy, 'uptime'))}",
            self._where,
            f"last {self._window if window is None else window:.0f} s",
        ]
        return self._paint("bold", fit("  ".join(filter(None, said)), columns))

    def _totals(self, columns: int) -> list[str]:
        found = self._told.get("total")
        lines = []
        for direction in ("inbound", "outbound"):
            golden = found.get(direction) if isinstance(found, dict) else None
            golden = golden if isinstance(golden, dict) else {}
            line = (
                f"{direction:<9} {rate(number(golden, 'rps')):>8} rps  {percent(number(golden, 'success')):>8}"
                f"  p50 {millis(number(golden, 'p50'))}  p95 {millis(number(golden, 'p95'))}"
                f"  p99 {millis(number(golden, 'p99'))}"
            )
            lines.append(fit(line, columns))
        return lines

    def _tabs(self, columns: int) -> str:
        names = [
            f"[{index + 1} {view.name}]" if index == self._view else f" {index + 1} {view.name} "
            for index, view in enumerate(VIEWS)
        ]
        sorting = self._sorting[self._view]
        title = VIEWS[self._view].fields[sorting.field].heading.title
        said = [" ".join(names), f"sort {title} {'▼' if sorting.falling else '▲'}"]
        if self._paused:
            said.append("PAUSED")
        if self._filter and not self._typing:
            said.append(f"filter {clean(self._filter)}")
        return fit("  ".join(said), columns)

    def _foot(self, columns: int) -> str:
        if self._typing:
            return self._paint("bold", fit(f"/{clean(self._filter)}_", columns))
        if self._problem:
            return self._paint("red", fit(f"{self._problem}; trying again", columns))
        return self._paint("dim", fit(_FOOTER, columns))

    def _table(self, columns: int, room: int) -> tuple[str, list[str]]:
        view, sorting = VIEWS[self._view], self._sorting[self._view]
        rows = [row for row in items(self._told, view.name) if self._matches(row, view.fields)]
        # Two sorts, so that equals stay in one order whichever way round.
        rows.sort(key=lambda row: tuple(text(row, name) for name in ("backend", "address", "parent", "route")))
        rows.sort(key=view.fields[sorting.field].key, reverse=sorting.falling)
        self._page = max(room - 1, 1)
        self._top = max(min(self._top, len(rows) - room), 0)
        shown = rows[self._top : self._top + room]
        headings = [
            _marked(field.heading, index == sorting.field, sorting.falling) for index, field in enumerate(view.fields)
        ]
        cells = [[field.cell(row) for field in view.fields] for row in shown]
        heading, body = lines_of(headings, cells, columns, self._paint)
        if not rows:
            body = [self._paint("dim", fit(self._nothing(view.name), columns))]
        return heading, body

    def _nothing(self, name: str) -> str:
        if self._filter:
            return f"no {name} with {clean(self._filter)!r} in their name"
        return f"no {name} yet" if self._told else "waiting for figures"

    def _matches(self, row: dict[str, Any], fields: tuple[Field, ...]) -> bool:
        wanted = self._filter.lower()
        names = ("parent", "route", "direction", "backend", "address", "state", "breaker")
        return not wanted or any(wanted in text(row, name).lower() for name in names)

    def _paint(self, name: str, line: str) -> str:
        if not name or (not self._coloured and name not in ("bold", "reverse")):
            return line
        return f"\x1b[{_COLOURS[name]}m{line}\x1b[0m"


def _index(fields: tuple[Field, ...], letter: str) -> int:
    return next(index for index, field in enumerate(fields) if field.letter == letter)


def _marked(heading: Heading, sorted_by: bool, falling: bool) -> Heading:
    return heading._replace(title=f"{heading.title}{'▼' if falling else '▲'}") if sorted_by else heading


_ASCII: dict[int, str] = {ord("▼"): "v", ord("▲"): "^", ord("…"): "~", ord("�"): "?", ord("↑"): "^", ord("↓"): "v"}


def _plain(line: str) -> str:
    return line.translate(_ASCII)
