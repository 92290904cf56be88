"""A message of the log as one line of JSON."""

from __future__ import annotations

import datetime
import json
import logging
from typing import Any

__all__ = ["JsonFormatter", "fields_of", "time_stamp"]

# What every LogRecord has; whatever else it has was given as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LONGEST = 8_192


def time_stamp(record: logging.LogRecord) -> str:
    """When it was logged, in UTC."""
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What it is about: the fields that it was given beside its text."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``timestamp``, ``level``, ``logger``, ``message``, ``exception`` where there is one, and
    what the message is about (:class:`meshcore.transport.about.About`)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        value: dict[str, Any] = {
            "timestamp": time_stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
        }
        for name, field in fields_of(record).items():
            value.setdefault(name, field)
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        # Everything outside printable ASCII is escaped: whoever reads it may do so on a terminal.
        return json.dumps(value, default=str)
