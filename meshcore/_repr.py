"""A repr that can be read: only what differs from the defaults."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["changes"]


def changes(self: Any) -> str:
    """The repr of an attrs value by those of its fields that were given another value than the default; to be
    used as a class's ``__repr__``, where options are many and trees of them are printed."""
    shown = [
        f"{field.name}={given!r}"
        for field in attrs.fields(type(self))
        if field.repr is not False
        and (given := getattr(self, field.name)) != _default(field)
    ]
    return f"{type(self).__name__}({', '.join(shown)})"


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory()
    return default
