"""Logging of the binary: one line an event on stderr, as text or as JSON.  The library sets nothing up."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO

from meshcore_cli.render import colour

__all__ = ["FORMATS", "LEVELS", "JsonFormatter", "TextFormatter", "configure"]

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

# What every LogRecord has; whatever else it has was given as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVEL_COLOURS = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _one_line(text: str) -> str:
    # What a peer sent must not begin a line, or colour one, of ours.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class TextFormatter(logging.Formatter):
    """``2026-11-23T12:00:00.000Z INFO  meshcore.proxy: ready from=127.0.0.1:8080``."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback of an exception under it."""
        level = f"{record.levelname:<7}"
        if record.levelname in _LEVEL_COLOURS:
            level = colour(_LEVEL_COLOURS[record.levelname], level, self.stream)
        fields = "".join(f" {name}={value}" for name, value in _extra(record).items())
        line = _one_line(f"{record.getMessage()}{fields}")
        line = f"{_timestamp(record)} {level} {record.name}: {line}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``timestamp``, ``level``, ``logger``, ``message``, then what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        value: dict[str, Any] = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False, default=str)


def configure(level: str = "info", form: str = "text", stream: TextIO | None = None) -> None:
    """Sends what the library logs to *stream* (default stderr); again: changes it."""
    target: TextIO = sys.stderr if stream is None else stream
    output = logging.StreamHandler(target)
    output.setFormatter(JsonFormatter() if form == "json" else TextFormatter(target))
    root = logging.getLogger("meshcore")
    root.handlers[:] = [output]
    root.setLevel(level.upper())
    root.propagate = False
