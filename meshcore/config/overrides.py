"""``--set KEY=VALUE``: single keys of a config file, given on the command line instead."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from meshcore.config.report import shown
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.config.document import Document
    from meshcore.config.toml_lines import KeyPath

__all__ = ["override"]


def override(document: Document, settings: Iterable[str]) -> None:
    """Applies settings to a document, the later ones over the earlier ones.

    KEY is as in TOML (``outbound.to."payments:80".identity``); a number in it counts in a list.  VALUE is TOML, or
    the text that it is (``1s``).

    Raises:
        ConfigError: with every setting that is not one, or has nowhere to go.
    """
    problems = []
    for setting in settings:
        try:
            key, keys, value = _parsed(setting)
            document.overrides[_put(document, keys, value)] = key
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _parsed(setting: str) -> tuple[str, list[str], Any]:
    # The first = that a key ends at: a quoted key may have one.
    for index, char in enumerate(setting):
        if char == "=" and (path := _key(setting[:index])):
            return setting[:index].strip(), path, _value(setting[index + 1 :])
    hint = "" if "=" in setting else "; did you mean KEY=VALUE, as in admin.listen=off?"
    raise ConfigError([f"--set {shown(setting)}: is not KEY=VALUE{hint}"])


def _key(text: str) -> list[str]:
    if "\n" in text or "\r" in text or text.lstrip().startswith(("[", "#")):
        return []
    try:
        found: Any = tomllib.loads(f"{text} = 0")
    except ValueError:
        return []
    path = []
    while isinstance(found, dict):
        key, found = next(iter(found.items()))
        path.append(key)
    return path


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text.strip()}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if list(found) == ["value"] else text


def _put(document: Document, keys: list[str], value: Any) -> KeyPath:
    """Puts a value where its key is; the path of it, with numbers where it leads through lists."""
    where: Any = document.values
    path: KeyPath = ()
    for index, key in enumerate(keys):
        if isinstance(where, list):
            if not (key.isascii() and key.isdigit() and len(key) < 6 and int(key) < len(where)):
                raise ConfigError([f"--set {'.'.join(keys)}: {shown(key)} is none of the {len(where)} items there"])
            at: Any = int(key)
        elif isinstance(where, dict):
            at = key
        else:
            raise ConfigError([f"--set {'.'.join(keys)}: {'.'.join(keys[:index])} is {shown(where)}, not a table"])
        path = (*path, at)
        if index == len(keys) - 1:
            where[at] = value
        elif isinstance(where, dict):
            where = where.setdefault(key, {})
        else:
            where = where[at]
    # What stood there in the file is nowhere now.
    for old in [line for line in document.lines if line[: len(path)] == path]:
        del document.lines[old]
    return path
