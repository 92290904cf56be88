"""Trees and nested values as lines of text, cleaned: what ``diag`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore_cli.columns import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["layer_lines", "value_lines"]

_DEEPEST = 40


def layer_lines(layers: object, indent: str = "") -> Iterator[str]:
    """The layers of a stack as ``/stack`` has them, in request order: each with what it has counted, and under it what
    there is one of per whatever it multiplies."""
    if not isinstance(layers, list) or len(indent) > 4 * _DEEPEST:
        return
    for layer in layers:
        if not isinstance(layer, dict):
            continue
        yield f"{indent}└─ {clean(layer.get('layer') or layer.get('role') or '?')}"
        more = {name: item for name, item in layer.items() if name not in ("role", "layer", "per", "branches")}
        yield from value_lines(more, f"{indent}     ")
        branches = layer.get("branches")
        for name, branch in (branches if isinstance(branches, dict) else {}).items():
            yield f"{indent}   ┊ {clean(name)}"
            yield from layer_lines(branch, f"{indent}   ")
        if isinstance(layer.get("per"), str):
            yield f"{indent}   ┊ one of these per {clean(layer['per']).capitalize()}"
            indent += "   "


def value_lines(value: object, indent: str = "", depth: int = 0) -> Iterator[str]:
    """Scalars of an object on one line, what is nested under it, indented."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        plain = {name: item for name, item in value.items() if not isinstance(item, dict | list) or not item}
        if plain:
            yield indent + " ".join(f"{clean(name)}={_scalar(item)}" for name, item in plain.items())
        for name, item in value.items():
            if name in plain:
                continue
            if isinstance(item, list) and not any(isinstance(each, dict | list) for each in item):
                yield f"{indent}{clean(name)}: {', '.join(map(clean, item))}"
            else:
                yield f"{indent}{clean(name)}:"
                yield from value_lines(item, f"{indent}  ", depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from value_lines(item, indent, depth + 1)
    else:
        yield f"{indent}{_scalar(value)}"


def _scalar(item: Any) -> str:
    if item in ("", None, {}, []):
        return "-"
    if isinstance(item, bool):
        return "yes" if item else "no"
    return clean(round(item, 3) if isinstance(item, float) else item)
