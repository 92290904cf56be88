"""The levels of a process's loggers, changed while it runs, and put back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshcore.log_filter import OFF, ROOT, LogFilter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LogLevels"]


class LogLevels:
    """Sets the levels of loggers, as one filter says, or several together.

    A message below its logger's level costs what the standard library takes to look (0.1 µs): nothing is made of it.

    Args:
        handler: takes what is logged; it is put at the logger ``meshcore``, and at others that a filter names.
        filter: what is heard.
    """

    def __init__(self, handler: logging.Handler | None = None, filter: LogFilter | None = None) -> None:
        self._handler: logging.Handler | None = None
        self._filter = LogFilter() if filter is None else filter
        self._further: dict[int, tuple[LogFilter, logging.Handler]] = {}
        self._number = 0
        self._names: set[str] = set()
        self._known: dict[str, int] = {}
        logging.addLevelName(5, "TRACE")
        self.take(handler)

    def __repr__(self) -> str:
        return f"<LogLevels {self._filter}>"

    @property
    def filter(self) -> LogFilter:
        """What holds now."""
        return self._filter

    def take(self, handler: logging.Handler | None) -> None:
        """Another handler, in place of the one before."""
        old, self._handler = self._handler, handler
        if old is not None:
            old.removeFilter(self._passes)
            for name in (ROOT, *self._names):
                logging.getLogger(name).removeHandler(old)
        self._apply()

    def set(self, filter: LogFilter) -> None:
        """From now on *filter* holds."""
        self._filter = filter
        self._apply()

    def listen(self, filter: LogFilter, handler: logging.Handler) -> Callable[[], None]:
        """Gives *handler* what *filter* lets through, whatever is heard otherwise; returns what ends that."""
        self._number += 1
        number = self._number
        self._further[number] = (filter, handler)
        handler.addFilter(lambda record: record.levelno >= filter.level_of(record.name))
        self._apply()

        def end() -> None:
            if self._further.pop(number, None) is not None:
                for name in (ROOT, *self._names):
                    logging.getLogger(name).removeHandler(handler)
                self._apply()

        return end

    def _apply(self) -> None:
        filters = [self._filter, *(filter for filter, _ in self._further.values())]
        handlers = [] if self._handler is None else [self._handler]
        handlers += [handler for _, handler in self._further.values()]
        names = {name for filter in filters for name in filter.levels if name}
        for name in self._names - names:
            logger = logging.getLogger(name)
            logger.setLevel(logging.NOTSET)
            if not _own(name):
                for handler in handlers:
                    logger.removeHandler(handler)
                logger.propagate = True
        self._names = names
        for name in (ROOT, *names):
            logger = logging.getLogger(name)
            logger.setLevel(min(OFF, *(filter.level_of(name) for filter in filters)))
            if name == ROOT or not _own(name):
                for handler in handlers:
                    if handler not in logger.handlers:
                        logger.addHandler(handler)
                if self._handler is not None:
                    logger.propagate = False
        self._known = {}
        if self._handler is not None:
            # What is only heard because somebody listens goes to nobody else.
            self._handler.removeFilter(self._passes)
            if self._further:
                self._handler.addFilter(self._passes)

    def _passes(self, record: logging.LogRecord) -> bool:
        level = self._known.get(record.name)
        if level is None:
            level = self._known[record.name] = self._filter.level_of(record.name)
        return record.levelno >= level


def _own(name: str) -> bool:
    """Whether its messages come to the logger above all of the proxy's own."""
    return name == ROOT or name.startswith(ROOT + ".")
