"""An argument parser that suggests what was meant, and leaves with the exit code for wrong usage."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OK", "PROBLEM", "USAGE", "Parser", "fail"]

OK = 0
PROBLEM = 1
USAGE = 2
"""Exit codes: fine; a problem was found; wrong usage or configuration."""

_UNKNOWN = re.compile(r"unrecognized arguments: (.*)")
_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


def fail(command: str, problems: list[str]) -> int:
    """Writes each problem on its own line to stderr; the exit code for wrong usage."""
    for problem in problems:
        print(f"{command}: {problem}", file=sys.stderr)
    return USAGE


def nearest(word: str, known: list[str]) -> str:
    """``"; did you mean …?"`` for the nearest known word."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


class Parser(argparse.ArgumentParser):
    """``argparse`` with suggestions.  Options are never abbreviated: what a script wrote keeps its meaning.

    Attributes:
        intermixed: whether options may stand between positional arguments of any number.
    """

    intermixed = False

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does it, but an option that is none is told at once: what follows it would be taken for something
        else, and be complained about instead."""
        known = self.options()
        for word in sys.argv[1:] if args is None else args:
            if word == "--":
                break
            if word.startswith("--") and word.partition("=")[0] not in known:
                self.error(f"unrecognized arguments: {word}")
        return super().parse_known_args(args, namespace)

    def options(self) -> list[str]:
        """Every option string."""
        return [option for action in self._actions for option in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and what may have been meant; exit code 2."""
        unknown = _UNKNOWN.fullmatch(message)
        choice = _CHOICE.search(message)
        if unknown is not None:
            word = unknown.group(1).split()[0]
            message = f"unknown option {word}" if word.startswith("-") else f"unexpected argument {word}"
            message += nearest(word.partition("=")[0], self.options())
        elif choice is not None:
            known = [name.strip(" '") for name in choice.group(2).split(",")]
            message = f"{message[: choice.start()]}{choice.group(1)!r} is not one of {', '.join(known)}"
            message += nearest(choice.group(1), known)
        self.exit(USAGE, f"{self.prog}: {message}\n`{self.prog} --help` lists the options.\n")
