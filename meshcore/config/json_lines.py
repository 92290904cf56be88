"""On which line each key of a JSON file stands.

It is run on text that ``json`` has taken, as :mod:`meshcore.config.toml_lines` is for TOML.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshcore.config.toml_lines import KeyPath

__all__ = ["json_lines"]

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCALAR = re.compile(r"[^,\]} \t\r\n]*")


def json_lines(text: str, twice: list[tuple[KeyPath, int]] | None = None) -> dict[KeyPath, int]:
    """The line (from 1) of each key and item of an array; a key that an object has already goes to *twice*."""
    scanner = _Scanner(text, [] if twice is None else twice)
    scanner.space()
    scanner.value(())
    return scanner.lines


class _Scanner:
    """A cursor over the text, and what it has found."""

    def __init__(self, text: str, twice: list[tuple[KeyPath, int]]) -> None:
        self.text = text
        self.twice = twice
        self.lines: dict[KeyPath, int] = {}
        self._at = 0
        self._line = 1
        self._counted = 0

    def space(self) -> None:
        """Past what means nothing."""
        self._skip(_SPACE)

    def value(self, path: KeyPath) -> None:
        """A value, with the keys in it."""
        mark = self.text[self._at]
        if mark in "{[":
            self._many(path, "}" if mark == "{" else "]")
        else:
            self._skip(_STRING if mark == '"' else _SCALAR)

    def _many(self, path: KeyPath, end: str) -> None:
        self._at += 1
        index = 0
        self.space()
        while self.text[self._at] != end:
            line = self._here()
            key: str | int = index
            if end == "}":
                key = json.loads(self._skip(_STRING))
                self.space()
                self._at += 1  # the colon
                self.space()
            if (*path, key) in self.lines:
                self.twice.append(((*path, key), line))
            self.lines[(*path, key)] = line
            self.value((*path, key))
            index += 1
            self.space()
            if self.text[self._at] == ",":
                self._at += 1
                self.space()
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self._at)
        if match is None:
            raise ValueError(f"not JSON at offset {self._at}")
        self._at = match.end()
        return match.group()

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line
