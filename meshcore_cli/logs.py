"""Logging of the binary: one line an event on stderr, as text or as JSON.  The library sets nothing up."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from meshcore.log_filter import LogFilter
from meshcore.log_levels import LogLevels
from meshcore.log_lines import JsonFormatter, fields_of, time_stamp
from meshcore_cli.render import colour

__all__ = ["FORMATS", "JsonFormatter", "TextFormatter", "configure"]

FORMATS = ("text", "json")

_LEVEL_COLOURS = {"TRACE": "dim", "DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}

_levels: list[LogLevels] = []


def _one_line(text: str) -> str:
    # What a peer sent must not begin a line, or colour one, of ours.
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class TextFormatter(logging.Formatter):
    """``2026-11-23T12:00:00.000Z INFO  meshcore.proxy: ready from=127.0.0.1:8080``, then what the message is about, as
    far as its text does not say that."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback of an exception under it, set in."""
        level = f"{record.levelname:<7}"
        if record.levelname in _LEVEL_COLOURS:
            level = colour(_LEVEL_COLOURS[record.levelname], level, self.stream)
        message = record.getMessage()
        fields = "".join(
            f" {name}={value}" for name, value in fields_of(record).items() if str(value) not in message
        )
        line = f"{time_stamp(record)} {level} {record.name}: {_one_line(message + fields)}"
        if record.exc_info:
            told = self.formatException(record.exc_info)
            line += "".join(f"\n  {_one_line(part)}" for part in told.split("\n"))
        return line


def configure(level: str = "info", form: str = "text", stream: TextIO | None = None) -> LogLevels:
    """Sends what the library logs to *stream* (default stderr); again: changes it.

    Args:
        level: what is logged, as ``LogFilter`` reads it.
        form: one of ``FORMATS``.
        stream: where to.

    Raises:
        ConfigError: *level* is no filter.
    """
    target: TextIO = sys.stderr if stream is None else stream
    filter = LogFilter.parse(level)
    output = logging.StreamHandler(target)
    output.setFormatter(JsonFormatter() if form == "json" else TextFormatter(target))
    if not _levels:
        _levels.append(LogLevels(None, filter))
    levels = _levels[0]
    levels.set(filter)
    levels.take(output)
    return levels
