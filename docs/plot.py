"""Plots as SVG: lines over an axis, linear or logarithmic; no more than the pages of simulations need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

__all__ = ["Line", "Plot"]

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 170, 34, 44
# Told apart without colours, too.
_STYLES = (("#c0392b", "6 3"), ("#b7791f", "2 3"), ("#1f6fb2", ""), ("#2e7d32", "9 3 2 3"))


@attrs.frozen
class Line:
    """One line.

    Attributes:
        name: for the legend.
        points: of its corners; there is a gap at one that is not a number.
        steps: each point holds until the next.
    """

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False


@attrs.frozen
class Plot:
    """A plot.

    Attributes:
        title: what it shows.
        x, y: what the axes are.
        lines: what is drawn.
        x_ticks, y_ticks: values with their labels; the axes go from the first to the last.
        log_y: the y axis is logarithmic.
        shaded: a stretch of the x axis, and what happens there.
        place: where an x goes, from 0 to 1; None: linear.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    log_y: bool = False
    shaded: tuple[float, float, str] | None = None
    place: Callable[[float], float] | None = None

    def _at_x(self, value: float) -> float:
        low, high = self.x_ticks[0][0], self.x_ticks[-1][0]
        part = (value - low) / (high - low) if self.place is None else self.place(value)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        low, high = self.y_ticks[0][0], self.y_ticks[-1][0]
        value = min(max(value, low), high)
        if self.log_y:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def svg(self) -> str:
        """The picture."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'font-family="sans-serif" font-size="12">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
            _text(_LEFT, 18, self.title, "start", 'font-weight="bold"'),
        ]
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        if self.shaded is not None:
            begin, end = self._at_x(self.shaded[0]), self._at_x(self.shaded[1])
            parts.append(
                f'<rect x="{begin:.1f}" y="{_TOP}" width="{end - begin:.1f}" height="{bottom - _TOP}" fill="#eeeeee"/>'
            )
            parts.append(_text(begin + 4, _TOP + 14, self.shaded[2], "start", 'fill="#666666"'))
        for value, label in self.y_ticks:
            y = self._at_y(value)
            parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
            parts.append(_text(_LEFT - 6, y + 4, label, "end"))
        for value, label in self.x_ticks:
            x = self._at_x(value)
            parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#333333"/>')
            parts.append(_text(x, bottom + 17, label, "middle"))
        parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" fill="none" stroke="#333333"/>')
        parts.append(_text((_LEFT + right) / 2, _HEIGHT - 8, self.x, "middle"))
        middle = (_TOP + bottom) / 2
        parts.append(_text(14, middle, self.y, "middle", f'transform="rotate(-90 14 {middle:.1f})"'))
        for index, line in enumerate(self.lines):
            parts += self._line(index, line, right)
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _line(self, index: int, line: Line, right: float) -> list[str]:
        colour, dashes = _STYLES[index]
        stroke = f'fill="none" stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dashes}"' if dashes else "")
        path = ""
        gap = True
        for x, y in line.points:
            where = f"{self._at_x(x):.1f}"
            if math.isnan(y):
                path += f"H{where}" if line.steps and not gap else ""
                gap = True
            elif gap:
                path += f"M{where} {self._at_y(y):.1f}"
                gap = False
            elif line.steps:
                path += f"H{where}V{self._at_y(y):.1f}"
            else:
                path += f"L{where} {self._at_y(y):.1f}"
        y = _TOP + 12 + 20 * index
        return [
            f'<path d="{path}" {stroke}/>',
            f'<path d="M{right + 12} {y - 4}h26" {stroke}/>',
            _text(right + 44, y, line.name, "start"),
        ]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{" " + more if more else ""}>{escape(text)}</text>'
