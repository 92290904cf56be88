"""Levels of loggers in one line, as ``EnvFilter`` of Rust's tracing writes them: ``info,meshcore.layers=debug``."""

from __future__ import annotations

import logging
import re

import attrs

from meshcore.addresses import suggest
from meshcore.errors import ConfigError

__all__ = ["OFF", "ROOT", "TRACE", "LogFilter"]

ROOT = "meshcore"
"""The logger above all of the proxy's own."""
TRACE = 5
OFF = 100

_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": OFF,
}
_OTHERS = logging.INFO
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST = 2_048
_MOST = 64


@attrs.frozen
class LogFilter:
    """From which level on loggers are heard.

    Attributes:
        levels: by the logger's name, for it and all below it; ``""`` for whatever no other is said of.
    """

    levels: dict[str, int] = attrs.field(factory=lambda: {"": logging.INFO})

    @classmethod
    def parse(cls, text: str) -> LogFilter:
        """The filter of a text: directives with commas between them, each a level (``trace``, ``debug``, ``info``,
        ``warn`` or ``warning``, ``error``, ``off``), or ``LOGGER=LEVEL``, or a logger alone, of which everything is
        heard.

        Without a level for the rest, that is heard from ``info`` on.  ``linkerd`` and ``::`` are understood, and
        ``[{headers}]=off`` is: what that asks for is so anyway (M-15).

        Raises:
            ConfigError: a directive is none, with what may have been meant.
        """
        if len(text) > _LONGEST:
            raise ConfigError([f"is longer than {_LONGEST} characters"])
        words = [word for part in text.split(",") if (word := part.strip())]
        problems: list[str] = []
        levels: dict[str, int] = {}
        if not words:
            problems.append("a level is wanted, such as info, or LOGGER=LEVEL")
        if len(words) > _MOST:
            problems.append(f"has more than {_MOST} directives")
        for word in words[:_MOST]:
            _read(word, levels, problems)
        if problems:
            raise ConfigError(problems)
        levels.setdefault("", _OTHERS)
        return cls(levels)

    def __str__(self) -> str:
        names = {level: name for name, level in reversed(_LEVELS.items()) if name != "warn"}
        rest = [f"{name}={names[level]}" for name, level in sorted(self.levels.items()) if name]
        return ",".join([names[self.levels[""]], *rest])

    def level_of(self, name: str) -> int:
        """From which level on a logger is heard."""
        levels = self.levels
        while name:
            level = levels.get(name)
            if level is not None:
                return level
            name = name.rpartition(".")[0]
        return levels[""]


def _read(word: str, levels: dict[str, int], problems: list[str]) -> None:
    target, equals, level = (part.strip() for part in word.rpartition("="))
    if not equals:
        target, level = level, ""
        if target.lower() in _LEVELS:
            levels[""] = _LEVELS[target.lower()]
            return
        near = suggest(target.lower(), [*_LEVELS])
        if near and "." not in target:
            problems.append(f"{word!r} is no level ({', '.join(_LEVELS)}){near}")
            return
    elif level.lower() not in _LEVELS:
        problems.append(f"{level!r} is no level ({', '.join(_LEVELS)}){suggest(level.lower(), [*_LEVELS])}")
        return
    if target.startswith("[") and target.endswith("]"):
        if level.lower() != "off":
            problems.append(f"{word!r}: messages have no spans, and no header values")
        return
    name = target.replace("::", ".")
    if name == "linkerd" or name.startswith("linkerd."):
        name = ROOT + name.removeprefix("linkerd")
    if not _NAME.fullmatch(name):
        problems.append(f"{target!r} is not the name of a logger, such as {ROOT}.layers.balance")
        return
    levels[name] = _LEVELS[level.lower()] if level else TRACE
