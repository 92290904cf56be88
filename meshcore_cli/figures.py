"""Figures as people read them: rates, percentages, times, ages; and the tables of ``/stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from meshcore_cli.columns import Cell, Heading
from meshcore_cli.pages import number, text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VIEWS", "Field", "View", "age", "millis", "percent", "rate"]

_LOW, _LOWER = 0.99, 0.95
"""Parts of success below which it is yellow, and red."""


def rate(value: float | None) -> str:
    """By second: ``0.5``, ``811.9``, ``12.3k``."""
    if value is None:
        return "-"
    if value >= 99_999.5:
        return f"{value / 1_000:.0f}k"
    if value >= 9_999.5:
        return f"{value / 1_000:.1f}k"
    return f"{value:.1f}"


def percent(value: float | None) -> str:
    """``99.88%``, never rounded up to all of it."""
    if value is None:
        return "-"
    if value >= 1.0:
        return "100.00%"
    return f"{min(value * 100.0, 99.99):.2f}%"


def millis(value: float | None) -> str:
    """``3.4ms``, ``187ms``, ``2.50s``."""
    if value is None:
        return "-"
    if value < 99.95:
        return f"{value:.1f}ms"
    if value < 999.5:
        return f"{value:.0f}ms"
    return f"{value / 1_000:.2f}s" if value < 99_995 else f"{value / 1_000:.0f}s"


def age(seconds: float | None) -> str:
    """``12s``, ``4m10s``, ``1h10m``, ``3d2h``."""
    if seconds is None:
        return "-"
    whole = int(max(seconds, 0))
    for unit, size, less, smaller in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{less}"
    return f"{whole}s"


class Field(NamedTuple):
    """A column of a view.

    Attributes:
        heading: how it is shown.
        cell: what a row has there.
        key: what rows are sorted by.
        letter: the key that sorts by it; ``""``: none does.
        falling: whether the highest comes first at first.
    """

    heading: Heading
    cell: Callable[[dict[str, Any]], Cell]
    key: Callable[[dict[str, Any]], Any]
    letter: str = ""
    falling: bool = True


class View(NamedTuple):
    """One of the tables of ``/stats``.

    Attributes:
        name: of the list.
        fields: its columns.
    """

    name: str
    fields: tuple[Field, ...]


def _value(row: dict[str, Any], name: str, missing: float = -1.0) -> float:
    found = number(row, name)
    return missing if found is None else found


def _plain(name: str, title: str, letter: str = "", *, shrinks: bool = False, rank: int = 0) -> Field:
    return Field(
        Heading(title, shrinks=shrinks, rank=rank),
        lambda row: Cell(text(row, name) or "-"),
        lambda row: text(row, name).lower(),
        letter,
        False,
    )


def _figure(
    name: str, title: str, shown: Callable[[float | None], str], letter: str = "", *, rank: int = 0
) -> Field:
    return Field(
        Heading(title, right=True, rank=rank),
        lambda row: Cell(shown(number(row, name))),
        lambda row: _value(row, name),
        letter,
    )


def _success(row: dict[str, Any]) -> Cell:
    value = number(row, "success")
    bad = "" if value is None or value >= _LOW else "yellow" if value >= _LOWER else "red"
    return Cell(percent(value), bad)


_GOLDEN = (
    _figure("rps", "RPS", rate, "t"),
    # What failed most comes first.
    Field(Heading("SUCCESS", right=True), _success, lambda row: _value(row, "success", 2.0), "e", False),
    _figure("p50", "P50", millis, "5", rank=5),
    _figure("p95", "P95", millis, "9", rank=4),
    _figure("p99", "P99", millis, "0"),
)


def _breakers(row: dict[str, Any]) -> Cell:
    count = int(_value(row, "breakers_open", 0.0))
    return Cell(f"{count} open", "red") if count else Cell("-")


def _budget(row: dict[str, Any]) -> Cell:
    left = number(row, "retry_budget")
    if left is None:
        return Cell("-")
    return Cell(f"{left * 100:.0f}%", "red" if left < 0.1 else "yellow" if left < 0.5 else "")


def _ready(row: dict[str, Any]) -> Cell:
    ready, pending = int(_value(row, "ready", 0.0)), int(_value(row, "pending", 0.0))
    return Cell(f"{ready}/{ready + pending}", "red" if not ready else "yellow" if pending else "")


def _breaker(row: dict[str, Any]) -> Cell:
    state = text(row, "breaker")
    return Cell("-" if state in ("none", "") else state, {"open": "red", "probation": "yellow"}.get(state, ""))


def _state(row: dict[str, Any]) -> Cell:
    state = text(row, "state")
    return Cell(state or "-", {"failed": "red", "pending": "yellow"}.get(state, ""))


def _load(value: float | None) -> str:
    """What balancers compare: a time times a number, mostly."""
    return "-" if value is None else f"{value:.2f}" if value >= 10 else f"{value:.4f}"


VIEWS = (
    View(
        "routes",
        (
            _plain("parent", "PARENT", "n", shrinks=True),
            _plain("route", "ROUTE", "o", shrinks=True),
            _plain("direction", "DIRECTION", rank=3),
            *_GOLDEN,
        ),
    ),
    View(
        "backends",
        (
            _plain("backend", "BACKEND", "n", shrinks=True),
            Field(Heading("READY", right=True), _ready, lambda row: _value(row, "ready"), "l", False),
            Field(Heading("BREAKER"), _breakers, lambda row: _value(row, "breakers_open"), "b"),
            Field(
                Heading("BUDGET", right=True, rank=2), _budget, lambda row: _value(row, "retry_budget", 2.0), "", False
            ),
            *_GOLDEN,
        ),
    ),
    View(
        "endpoints",
        (
            _plain("address", "ENDPOINT", "n", shrinks=True),
            _plain("backend", "BACKEND", "o", shrinks=True),
            Field(Heading("STATE"), _state, lambda row: text(row, "state"), "", False),
            Field(Heading("BREAKER", rank=1), _breaker, lambda row: text(row, "breaker"), "b", False),
            _figure("load", "LOAD", _load, "l", rank=6),
            _figure("pending", "PEND", lambda value: "-" if value is None else f"{value:.0f}", rank=7),
            *_GOLDEN,
        ),
    ),
)
"""Routes, backends and endpoints, as ``stat`` and ``top`` show them."""
