"""The config file's JSON Schema, made from the config classes."""

from __future__ import annotations

import inspect
from typing import Any

from meshcore.config.layers import LayerKind
from meshcore.config.mesh import MeshConfig
from meshcore.config.tables import Listed, Setting, Table, Tables, settings

__all__ = ["schema", "tables"]


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
