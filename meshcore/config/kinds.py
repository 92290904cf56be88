"""Kinds of values in a config file: how each is read, shown again, and described.

The type of a config class's field says its kind: a plain type, or ``Annotated[type, kind]``.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import attrs

from meshcore.addresses import suggest
from meshcore.config.report import WRONG, At, shown
from meshcore.durations import format_duration, format_size, parse_duration, parse_size
from meshcore.errors import ConfigError
from meshcore.log_filter import LogFilter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Choice",
    "Duration",
    "Flag",
    "Kind",
    "LogFilterKind",
    "Name",
    "Number",
    "Seconds",
    "Size",
    "Text",
    "Whole",
    "parsed",
    "text",
]


class Kind(ABC):
    """How a value is read, shown and described."""

    title: str
    """What it is, in a word or two."""

    @abstractmethod
    def read(self, value: object, at: At, /) -> Any:
        """The value as the proxy uses it; ``WRONG``, with the problem reported, if it is none."""

    def show(self, value: Any, /) -> Any:
        """What :meth:`read` would take for it."""
        return value

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""


def text(value: object, at: At) -> Any:
    """Text, or ``WRONG``."""
    if isinstance(value, str):
        return value
    hint = f'; did you mean "{shown(value)}"?' if isinstance(value, bool | int | float) else ""
    return at.error(f"{shown(value)} is not text{hint}")


def parsed(value: object, at: At, parse: Callable[[str], Any]) -> Any:
    """What a parser of text makes of a value; its problems are reported."""
    word = text(value, at)
    if word is WRONG:
        return WRONG
    try:
        return parse(word)
    except ConfigError as error:
        for problem in error.problems:
            at.error(problem)
        return WRONG


@attrs.frozen
class Text(Kind):
    """Any text but the empty one."""

    title = "text"

    def read(self, value: object, at: At, /) -> Any:
        """The text."""
        return at.error("must not be empty") if value == "" else text(value, at)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 1}


_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@attrs.frozen
class NameKind(Kind):
    """A word that is used in names and labels."""

    title = "a name"

    def read(self, value: object, at: At, /) -> Any:
        """The name."""
        return parsed(value, at, self.check)

    @staticmethod
    def check(value: str) -> str:
        """The name itself.

        Raises:
            ConfigError: it is none.
        """
        if not _NAME.fullmatch(value):
            raise ConfigError([f"{shown(value)} is not a name (letters, digits, '-', '_' and '.'; 63 at the most)"])
        return value

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": f"^{_NAME.pattern}$"}


@attrs.frozen
class Flag(Kind):
    """True or false."""

    title = "true or false"

    def read(self, value: object, at: At, /) -> Any:
        """The flag."""
        if isinstance(value, bool):
            return value
        words = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
        hint = words.get(value.lower()) if isinstance(value, str) else None
        return at.error(f"{shown(value)} is not true or false" + (f"; did you mean {hint}?" if hint else ""))

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "boolean"}


@attrs.frozen
class Choice(Kind):
    """One of some words.

    Attributes:
        words: those that can be had.
        later: those that are known, and not in this release.
    """

    words: tuple[str, ...]
    later: tuple[str, ...] = ()

    @property
    def title(self) -> str:  # type: ignore[override]
        """The words."""
        return ", ".join(f"`{word}`" for word in self.words)

    def read(self, value: object, at: At, /) -> Any:
        """The word."""
        word = text(value, at)
        if word is WRONG or word in self.words:
            return word
        if word in self.later:
            return at.error(f"{shown(word)} is not in this release; {', '.join(self.words)} are")
        return at.error(f"{shown(word)} is not one of {', '.join(self.words)}{suggest(word, list(self.words))}")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"enum": list(self.words)}


@attrs.frozen
class Whole(Kind):
    """A whole number.

    Attributes:
        low: the smallest.
        high: the largest.
    """

    low: int
    high: int

    @property
    def title(self) -> str:  # type: ignore[override]
        """With the bounds."""
        return f"a whole number from {self.low} to {self.high}"

    def read(self, value: object, at: At, /) -> Any:
        """The number."""
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return value
        hint = ""
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
            hint = f"; did you mean {int(value)}, without quotes?" if self.low <= int(value) <= self.high else ""
        return at.error(f"{shown(value)} is not {self.title}{hint}")

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@attrs.frozen
class Number(Kind):
    """A number.

    Attributes:
        low: the smallest.
        high: the largest.
    """

    low: float
    high: float

    @property
    def title(self) -> str:  # type: ignore[override]
        """With the bounds."""
        return f"a number from {self.low:g} to {self.high:g}"

    def read(self, value: object, at: At, /) -> Any:
        """The number."""
        if isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            return float(value)
        return at.error(f"{shown(value)} is not {self.title}{self._hint(value)}")

    def _hint(self, value: object) -> str:
        try:
            number = float(value) if isinstance(value, str) else math.nan
        except ValueError:
            return ""
        return f"; did you mean {number:g}, without quotes?" if self.low <= number <= self.high else ""

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@attrs.frozen
class Seconds(Kind):
    """A duration.

    Attributes:
        zero: whether there may be none.
    """

    zero: bool = False
    title = "a duration"

    def read(self, value: object, at: At, /) -> Any:
        """Seconds."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            near = f'; did you mean "{format_duration(value)}"?' if 0 < value < 1e9 else ""
            return at.error(f"{shown(value)} is not a duration such as \"250ms\", \"1s\" or \"2m\"{near}")
        seconds = parsed(value, at, parse_duration)
        if seconds == 0 and seconds is not WRONG and not self.zero:
            return at.error("has to be above 0")
        return seconds

    def show(self, value: Any, /) -> Any:
        """Its text."""
        return format_duration(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d)|0)$"}


@attrs.frozen
class Bytes(Kind):
    """A size in bytes.

    Attributes:
        high: the largest.
    """

    high: int
    title = "a size"

    def read(self, value: object, at: At, /) -> Any:
        """Bytes."""
        size = value if isinstance(value, int) and not isinstance(value, bool) else parsed(value, at, parse_size)
        if size is WRONG or 0 <= size <= self.high:
            return size
        return at.error(f"{shown(value)} is not a size from 0 to {format_size(self.high)}")

    def show(self, value: Any, /) -> Any:
        """Its text."""
        return format_size(value)

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+([KMG]i?B|B)?$"},
                {"type": "integer", "minimum": 0, "maximum": self.high},
            ]
        }


@attrs.frozen
class LogFilterKind(Kind):
    """From which level on what is logged."""

    title = "levels"

    def read(self, value: object, at: At, /) -> Any:
        """The text."""
        if value is False:
            value = "off"
        return WRONG if parsed(value, at, LogFilter.parse) is WRONG else value

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "string", "minLength": 3}


Name: TypeAlias = Annotated[str, NameKind()]
Duration: TypeAlias = Annotated[float, Seconds()]
"""Seconds, above 0."""
Size: TypeAlias = Annotated[int, Bytes(1 << 30)]
"""Bytes."""
