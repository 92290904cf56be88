"""A configuration as text again: every default filled in, and no secret."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from meshcore.config.mesh import MeshConfig
from meshcore.config.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["config_json", "config_toml"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def config_json(config: MeshConfig) -> dict[str, Any]:
    """The effective configuration as a JSON value that loads again; files are named, never shown."""
    value: dict[str, Any] = Table(MeshConfig).show(config)
    return value


def config_toml(config: MeshConfig) -> str:
    """The effective configuration as TOML that loads again; files are named, never shown."""
    lines: list[str] = []
    _table(lines, "", config_json(config))
    return "\n".join(lines).strip("\n") + "\n"


def _table(lines: list[str], name: str, table: Mapping[str, Any]) -> None:
    """Plain values first, as TOML wants it; then tables, then arrays of tables."""
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    plain = {key: value for key, value in table.items() if key not in tables}
    if name and (plain or not tables):
        lines += ["", f"[{name}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in tables.items():
        _table(lines, f"{name}.{_key(key)}" if name else _key(key), value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL and characters beyond 16 bits, which TOML has in plain.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)
