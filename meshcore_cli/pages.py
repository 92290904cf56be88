"""The JSON pages of a running proxy, as commands ask for them: whatever is wrong is told in a sentence."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from meshcore_cli.ask import NoAnswer, ask, refused
from meshcore_cli.columns import clean
from meshcore_cli.parser import PROBLEM

if TYPE_CHECKING:
    import argparse

__all__ = ["items", "json_object", "number", "page", "text"]


def page(command: str, arguments: argparse.Namespace, path: str) -> dict[str, Any]:
    """The JSON object at *path*.

    Raises:
        NoAnswer: there is no proxy, or it has no such page; the complaint has been written.
    """
    found = ask(command, arguments, "GET", path)
    name = path.partition("?")[0]
    if found.status == 404:
        print(
            f"{command}: the proxy at {arguments.admin} has no {name}: it is of an older version, or no meshcore",
            file=sys.stderr,
        )
        raise NoAnswer(PROBLEM)
    if found.status != 200:
        raise refused(command, arguments, found)
    return json_object(command, arguments, name, found.text)


def json_object(command: str, arguments: argparse.Namespace, name: str, given: str) -> dict[str, Any]:
    """The JSON object that the page *name* has answered.

    Raises:
        NoAnswer: it is none; the complaint has been written.
    """
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        said = f"what {arguments.admin} answers at {name} is no JSON object: is it meshcore?"
        print(f"{command}: {said}", file=sys.stderr)
        raise NoAnswer(PROBLEM)
    return value


def items(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list; what is none is left out."""
    found = value.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def number(value: dict[str, Any], name: str) -> float | None:
    """A number; None: there is none."""
    found = value.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def text(value: dict[str, Any], name: str) -> str:
    """A text that may be shown; ``""``: there is none."""
    found = value.get(name)
    return "" if found is None else clean(found)
