"""On which line each key of a TOML file stands: what ``tomllib`` knows while it parses and does not tell.

It is run on text that ``tomllib`` has taken, so that it may read as little as finding the keys needs.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

__all__ = ["KeyPath", "toml_lines"]

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and, in arrays, indices from the top of a document."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# The end takes up to two quotes that belong to the text.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}")


def toml_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of each key, table and item of an array.

    A table that is only implied (``[a.b]`` names ``a``) has the line of the first key that implies it.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """A cursor over the text, and what it has found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: dict[KeyPath, int] = {}
        self._at = 0
        # Counted on from the last position that was asked for, so that all of it stays linear.
        self._line = 1
        self._counted = 0
        self._tables: dict[KeyPath, int] = {}

    def document(self) -> None:
        """Tables and keys to the end of the text."""
        table: KeyPath = ()
        while self._blank():
            if self.text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _blank(self) -> bool:
        """Past spaces, line ends and comments; whether anything follows."""
        self._skip(_BLANK)
        return self._at < len(self.text)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self._at)
        if match is None:
            raise ValueError(f"not TOML at offset {self._at}")
        self._at = match.end()
        return match.group()

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _starts(self, mark: str) -> bool:
        return self.text.startswith(mark, self._at)

    def _header(self) -> KeyPath:
        """``[table]`` or ``[[array of tables]]``: where the keys below it belong."""
        many = self._starts("[[")
        line = self._here()
        self._at += 2 if many else 1
        path: KeyPath = ()
        keys = self._key()
        for key in keys[:-1]:
            path = self._into(path, key)
            self.lines.setdefault(path, line)
        path = (*path, keys[-1])
        if many:
            self.lines.setdefault(path, line)
            self._tables[path] = self._tables.get(path, -1) + 1
            path = (*path, self._tables[path])
        self.lines[path] = line
        self._blank()
        self._at += 2 if many else 1
        return path

    def _into(self, path: KeyPath, key: str) -> KeyPath:
        """*key* under *path*; of an array of tables, its last one."""
        path = (*path, key)
        return (*path, self._tables[path]) if path in self._tables else path

    def _key(self) -> list[str]:
        """A key with its dots."""
        keys = []
        while True:
            self._blank()
            mark = self.text[self._at]
            if mark in "\"'":
                quoted = self._skip(_BASIC if mark == '"' else _LITERAL)
                keys.append(next(iter(tomllib.loads(f"{quoted} = 0"))))
            else:
                keys.append(self._skip(_BARE))
            self._blank()
            if not self._starts("."):
                return keys
            self._at += 1

    def _pair(self, table: KeyPath) -> None:
        """``key = value``."""
        line = self._here()
        path = table
        for key in self._key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1
        self._blank()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        """A value, with the keys in it."""
        mark = self.text[self._at]
        if mark == "[":
            self._array(path)
        elif mark == "{":
            self._inline(path)
        elif mark == '"':
            self._skip(_LONG_BASIC if self._starts('"""') else _BASIC)
        elif mark == "'":
            self._skip(_LONG_LITERAL if self._starts("'''") else _LITERAL)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._blank() and not self._starts("]"):
            item = (*path, index)
            self.lines[item] = self._here()
            self._value(item)
            index += 1
            self._comma()
        self._at += 1

    def _inline(self, path: KeyPath) -> None:
        self._at += 1
        while self._blank() and not self._starts("}"):
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        if self._blank() and self._starts(","):
            self._at += 1
