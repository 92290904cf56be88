"""What is wrong with a command line, collected so that one run tells everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from meshcore.addresses import suggest
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Problems"]

V = TypeVar("V")
C = TypeVar("C", bound=str)


class Problems:
    """Collects what is wrong, so that one run tells everything."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, place: str, problem: str) -> None:
        """Notes a problem at an option."""
        self.lines.append(f"{place}: {problem}")

    def read(self, place: str, text: str, parse: Callable[[str], V], default: V) -> V:
        """The parsed value, or *default* with its problems noted."""
        try:
            return parse(text)
        except ConfigError as error:
            for problem in error.problems:
                self.add(place, problem)
            return default

    def choice(self, place: str, text: str, known: Sequence[C]) -> C:
        """The known word that *text* is, else the first one with a problem noted."""
        for word in known:
            if text == word:
                return word
        self.add(place, f"{text!r} is not one of {', '.join(known)}{suggest(text, list(known))}")
        return known[0]

    def number(self, place: str, text: str, low: int, high: int) -> int:
        """A whole number within its bounds."""
        if text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high:
            return int(text)
        self.add(place, f"{text!r} is not a whole number from {low} to {high}")
        return low

    def file(self, place: str, text: str) -> Path:
        """A file that can be read."""
        path = Path(text)
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            near = suggest(path.name, _neighbours(path)) if isinstance(error, FileNotFoundError) else ""
            self.add(place, f"{text!r}: {reason}{near}")
        return path

    def finish(self) -> None:
        """Raises ConfigError if there was any problem."""
        if self.lines:
            raise ConfigError(self.lines)


def _neighbours(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []
