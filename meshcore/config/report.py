"""What is wrong with a config file, collected so that one run tells everything."""

from __future__ import annotations

from typing import Any, Final

import attrs

from meshcore.config.document import Document, dotted
from meshcore.config.toml_lines import KeyPath

__all__ = ["WRONG", "At", "Problem", "Report", "right", "shown"]


class _Wrong:
    """Stands where a value was that could not be read; its problem is in the report already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "WRONG"

    def __bool__(self) -> bool:
        return False


WRONG: Final[Any] = _Wrong()


def right(value: object) -> bool:
    """Whether a value is there and could be read."""
    return value is not None and value is not WRONG


@attrs.frozen
class Problem:
    """One mistake, or one thing to be wary of.

    Attributes:
        place: ``FILE:LINE``, or ``--set KEY``.
        key: the path of the key; ``""`` for the file as a whole.
        text: what is wrong, and what may have been meant.
        line: in the file; 0 if it is not about one.
    """

    place: str
    key: str
    text: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.text}" if self.key else f"{self.place}: {self.text}"


class Report:
    """Problems and warnings about one document.

    Attributes:
        waiting: whether the files that others provide are waited for: one that is not there yet is no mistake then.
    """

    def __init__(self, document: Document, *, waiting: bool = False) -> None:
        self.document = document
        self.waiting = waiting
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, path: KeyPath, text: str) -> None:
        """Notes a mistake."""
        self.problems.append(self._problem(path, text))

    def warn(self, path: KeyPath, text: str) -> None:
        """Notes what may not be meant."""
        self.warnings.append(self._problem(path, text))

    def sort(self) -> None:
        """Puts everything in the order of the file."""
        self.problems.sort(key=lambda problem: problem.line)
        self.warnings.sort(key=lambda problem: problem.line)

    def _problem(self, path: KeyPath, text: str) -> Problem:
        return Problem(self.document.place(path), dotted(path), text, self.document.line(path))


@attrs.frozen
class At:
    """A place in a document, to which what is read there reports."""

    report: Report
    path: KeyPath = ()

    def child(self, key: str | int) -> At:
        """The place of a key, or of an item, of what is here."""
        return At(self.report, (*self.path, key))

    def error(self, text: str) -> Any:
        """Notes a mistake; what to take for the value then."""
        self.report.error(self.path, text)
        return WRONG


def shown(value: object) -> str:
    """A value for a message: short, on one line, and never a private key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if not isinstance(value, str):
        return str(value)[:60]
    if "-----BEGIN" in value:
        return "the content of a PEM file"
    return repr(value if len(value) <= 60 else f"{value[:57]}…")
