"""Trees and nested values as lines of text, cleaned: what ``diag`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore_cli.columns import clean
from meshcore_cli.figures import millis

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["layer_lines", "value_lines"]

_DEEPEST = 40
_KNOWN = ("role", "layer", "per", "branches", "account")


def layer_lines(layers: object, indent: str = "") -> Iterator[str]:
    """The layers of a stack as ``/stack`` has them, in request order: each with what it has counted, and under it what
    there is one of per whatever it multiplies."""
    if not isinstance(layers, list) or len(indent) > 4 * _DEEPEST:
        return
    for layer in layers:
        if not isinstance(layer, dict):
            continue
        yield f"{indent}└─ {clean(layer.get('layer') or layer.get('role') or '?')}"
        account = layer.get("account")
        if isinstance(account, dict) and account.get("calls"):
            yield f"{indent}     {_account(account)}"
        more = {name: item for name, item in layer.items() if name not in _KNOWN}
        yield from value_lines(more, f"{indent}     ")
        branches = layer.get("branches")
        for name, branch in (branches if isinstance(branches, dict) else {}).items():
            yield f"{indent}   ┊ {clean(name)}"
            yield from layer_lines(branch, f"{indent}   ")
        if isinstance(layer.get("per"), str):
            yield f"{indent}   ┊ one of these per {clean(layer['per']).capitalize()}"
            indent += "   "


def _account(account: dict[str, Any]) -> str:
    """What a layer has done, on one line; what never happened is left out."""
    outcomes = account.get("outcomes")
    errors = account.get("errors")
    told = [("calls", account["calls"]), ("in flight", account.get("in_flight"))]
    told += [(name, _micros(account.get(f"{name}_us"))) for name in ("mean", "self")]
    told += outcomes.items() if isinstance(outcomes, dict) else ()
    told += [(name, account.get(name)) for name in ("answered", "repeated", "raised")]
    told += errors.items() if isinstance(errors, dict) else ()
    return "  ".join(f"{clean(name)} {_scalar(item)}" for name, item in told if item)


def _micros(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1f}µs" if value < 1_000 else millis(value / 1_000)


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
