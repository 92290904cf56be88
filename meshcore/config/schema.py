"""The config file's JSON Schema, made from the config classes."""

from __future__ import annotations

import inspect
import json
from typing import Any

import attrs

from meshcore.config.layers import LayerKind
from meshcore.config.mesh import MeshConfig
from meshcore.config.tables import Listed, Setting, Table, Tables, settings

__all__ = ["Key", "keys", "schema", "tables"]


def tables() -> dict[str, type]:
    """Every config class that a file can hold, by its name; the whole file's first."""
    found: dict[str, type] = {}

    def visit(cls: type) -> None:
        if cls.__name__ in found:
            return
        found[cls.__name__] = cls
        for setting in settings(cls).values():
            for inner in _classes(setting.kind):
                visit(inner)

    visit(MeshConfig)
    return found


@attrs.frozen
class Key:
    """A key of a table as a reference tells it.

    Attributes:
        name: the key.
        value: what it takes.
        table: the name of the table class in it, if there is one.
        required: whether it has to be given.
        default: as it would be written; ``""`` for none.
        text: what it means.
    """

    name: str
    value: str
    table: str
    required: bool
    default: str
    text: str


def keys(cls: type) -> list[Key]:
    """The keys of a config class's table."""
    found = []
    for setting in settings(cls).values():
        table = next(iter(_classes(setting.kind)), None)
        default = _property(setting).get("default")
        text = "" if default is None else json.dumps(default, ensure_ascii=False)
        found.append(
            Key(setting.name, setting.kind.title, table.__name__ if table else "", setting.required, text, setting.text)
        )
    return found


def _classes(kind: Any) -> list[type]:
    if isinstance(kind, Table):
        return [kind.cls]
    if isinstance(kind, Tables | Listed):
        return _classes(kind.kind)
    alternative = getattr(kind, "table", None)
    return [alternative] if isinstance(alternative, type) else []


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a config file, for editors and for other tools.

    The loader checks more: what must go together, that files are there, and the fields of plugged-in layers.
    """
    found = tables()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "meshcore config file",
        **_table(MeshConfig),
        "$defs": {name: _table(cls) for name, cls in found.items() if cls is not MeshConfig},
    }


def _table(cls: type) -> dict[str, Any]:
    known = settings(cls)
    value: dict[str, Any] = {
        "type": "object",
        "description": (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " "),
        "properties": {name: _property(setting) for name, setting in known.items()},
        "additionalProperties": False,
    }
    required = [name for name, setting in known.items() if setting.required]
    if required:
        value["required"] = required
    return value


def _property(setting: Setting) -> dict[str, Any]:
    value = setting.kind.schema()
    if setting.text:
        value = {**value, "description": setting.text}
    if not setting.required and setting.default is not None and not isinstance(setting.kind, Table | Tables):
        default = setting.kind.show(setting.default)
        if default != [] and not isinstance(setting.kind, LayerKind):
            value["default"] = default
    return value
