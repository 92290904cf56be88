"""A config file as it was read: its values, and where each of them stands."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs

from meshcore.config.json_lines import json_lines
from meshcore.config.toml_lines import KeyPath, toml_lines
from meshcore.errors import ConfigError

__all__ = ["Document", "dotted", "parse_document", "read_document"]

LARGEST = 4 << 20
"""Bytes of a config file that are read; a larger one is none."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TOML_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


@attrs.define(eq=False)
class Document:
    """The tables of a file, with ``--set`` applied.

    Attributes:
        path: the file.
        values: what it says.
        lines: the line of each key and each item of an array.
        overrides: keys that ``--set`` gave, each as it was typed.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int] = attrs.Factory(dict)
    overrides: dict[KeyPath, str] = attrs.Factory(dict)

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of what it belongs to; 0 if it is not in the file."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return 0
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0

    def place(self, path: KeyPath) -> str:
        """``FILE:LINE`` of a key, ``--set KEY`` where it was given so, or the file alone."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return f"--set {self.overrides[path[:length]]}"
        line = self.line(path)
        return f"{self.path}:{line}" if line else str(self.path)


def dotted(path: KeyPath) -> str:
    """The path of a key as people write it: ``outbound.to."payments:80".endpoints[0]``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        part = key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=not key.isprintable())
        text += f".{part}" if text else part
    return text


def read_document(path: Path) -> Document:
    """Reads a TOML file, or a JSON one if its name ends so.

    Raises:
        ConfigError: it cannot be read, or is not what its name says.
    """
    form = path.suffix.lower()
    if form in (".yaml", ".yml"):
        raise ConfigError([f"{path}: YAML is not in this release; TOML and JSON are"])
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        hint = "" if path.exists() else "; `meshcore config init` writes one to start from"
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}{hint}"]) from error
    if len(data) > LARGEST:
        raise ConfigError([f"{path}: larger than {LARGEST >> 20} MiB"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8"]) from error
    return parse_document(path, text)


def parse_document(path: Path, text: str) -> Document:
    """Reads what a file is said to have; JSON if its name ends so, else TOML.

    Raises:
        ConfigError: it is not what its name says.
    """
    try:
        return _json(path, text) if path.suffix.lower() == ".json" else _toml(path, text)
    except RecursionError as error:
        raise ConfigError([f"{path}: nested too deeply"]) from error


def _toml(path: Path, text: str) -> Document:
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number too long for Python
        raise ConfigError([_toml_problem(path, text, str(error))]) from error
    return Document(path, values, toml_lines(text))


def _toml_problem(path: Path, text: str, message: str) -> str:
    match = _TOML_PLACE.fullmatch(message)
    if match is None:
        return f"{path}: {_small(message)}"
    # The end of a document is where its last text is, not the line end after it.
    line = match.group(2) or text.rstrip().count("\n") + 1
    return f"{path}:{line}: {_small(match.group(1))}"


def _json(path: Path, text: str) -> Document:
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ConfigError([f"{path}:{error.lineno}: {_small(error.msg)}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: an object is wanted, as in {{\"service\": {{\"name\": \"orders\"}}}}"])
    twice: list[tuple[KeyPath, int]] = []
    lines = json_lines(text, twice)
    if twice:
        raise ConfigError([f"{path}:{line}: {dotted(key)}: is there already" for key, line in twice])
    return Document(path, values, lines)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _small(message: str) -> str:
    return message[:1].lower() + message[1:]
