"""Layers, resolvers and classifiers by name: entry points, ours and anybody else's alike.

A plug-in lives in four steps: its class is *loaded* (no side effects), a table of a config file is
*structured* into it, its own validators *check* the values, and ``layer()`` *applies* it.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from importlib import metadata
from typing import Any

import attrs

from meshcore.addresses import suggest
from meshcore.errors import ConfigError

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLASSIFIERS", "LAYERS", "RESOLVERS", "Field", "Plugin", "describe", "load", "make", "names"]

LAYERS = "meshcore.layers"
RESOLVERS = "meshcore.resolvers"
CLASSIFIERS = "meshcore.classifiers"


@attrs.frozen
class Field:
    """A field of a plug-in's class.

    Attributes:
        name: as in code and in a config file.
        type: as annotated.
        default: its ``repr``; None: it has to be given.
    """

    name: str
    type: str
    default: str | None


@attrs.frozen
class Plugin:
    """What is known of a plug-in without applying it.

    Attributes:
        name: of its entry point; ``vendor.name`` for those of others.
        summary: the first sentence of its class's docstring.
        fields: what can be set.
        source: the distribution that brings it.
        path: ``module:Class``.
    """

    name: str
    summary: str
    fields: tuple[Field, ...]
    source: str
    path: str


@functools.cache
def _entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in sorted(metadata.entry_points(group=group))}


def names(group: str = LAYERS) -> list[str]:
    """Every name in the group, sorted; nothing is loaded."""
    return list(_entry_points(group))


def load(name: str, group: str = LAYERS) -> Any:
    """The class (or function) behind a name; loaded once.

    Raises:
        ConfigError: no such name, or its module cannot be imported.
    """
    points = _entry_points(group)
    kind = group.rpartition(".")[2].removesuffix("s")
    if name not in points:
        raise ConfigError([f"no {kind} {name!r}{suggest(name, list(points))}"])
    try:
        return points[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError([f"{kind} {name!r} cannot be loaded from {points[name].value}: {error}"]) from error


def describe(name: str, group: str = LAYERS) -> Plugin:
    """What a plug-in is, from its class.

    Raises:
        ConfigError: it cannot be loaded.
    """
    cls = load(name, group)
    point = _entry_points(group)[name]
    fields = tuple(_field(field) for field in attrs.fields(cls) if field.init) if attrs.has(cls) else ()
    return Plugin(name, _summary(cls), fields, point.dist.name if point.dist is not None else "", point.value)


def make(name: str, table: Mapping[str, Any], path: str = "", group: str = LAYERS) -> Any:
    """An instance from a config table; *path* stands before each problem (``outbound.layer[0]``).

    Raises:
        ConfigError: with every problem: unknown keys, missing ones, values of the wrong type, and what the class's
            own validators refuse.
    """
    cls = load(name, group)
    where = f"{path}." if path else ""
    fields = {field.alias or field.name: field for field in attrs.fields(cls) if field.init} if attrs.has(cls) else {}
    problems = [
        f"{where}{key}: {name!r} has no field {key!r}{suggest(key, list(fields))}" for key in table if key not in fields
    ]
    hints = _hints(cls) if fields else {}
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            try:
                values[key] = _structured(table[key], hints.get(field.name, Any))
            except TypeError as error:
                problems.append(f"{where}{key}: {error}")
        elif field.default is attrs.NOTHING:
            problems.append(f"{where}{key}: has to be given")
    if problems:
        raise ConfigError(problems)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError([f"{path or name}: {error}"]) from error


def _summary(cls: object) -> str:
    first = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    sentence, dot, _ = first.partition(". ")
    return sentence + dot.rstrip()


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:
        # An annotation that only type checkers can resolve: the class's own validators have to do.
        return {}


def _field(field: attrs.Attribute[Any]) -> Field:
    default: Any = field.default
    shown: str | None
    if default is attrs.NOTHING:
        shown = None
    elif hasattr(default, "factory"):
        shown = f"{getattr(default.factory, '__name__', 'made')}()"
    else:
        shown = repr(default)
    # A string where annotations are postponed, a type where they are not.
    annotation: Any = field.type
    return Field(
        field.alias or field.name,
        annotation if isinstance(annotation, str) else inspect.formatannotation(annotation),
        shown,
    )


def _structured(value: Any, hint: Any) -> Any:
    """*value* as its field wants it: text for bytes, lists for tuples, tables for values that have fields and for
    pairs with names; anything else has to be right already."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        problem: TypeError | None = None
        for option in typing.get_args(hint):
            try:
                return _structured(value, option)
            except TypeError as error:
                problem = problem or error
        raise problem or TypeError("no value is right")
    if origin is typing.Literal:
        known = typing.get_args(hint)
        if value not in known:
            raise TypeError(f"{value!r} is not one of {', '.join(map(str, known))}")
        return value
    if hint is bytes and isinstance(value, str):
        return value.encode()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin in (tuple, frozenset) and isinstance(value, list):
        inner = [argument for argument in typing.get_args(hint) if argument is not ...]
        items = [_structured(item, inner[0] if len(inner) == 1 else Any) for item in value]
        return origin(items)
    if origin is tuple and isinstance(value, dict) and (of := _of_pairs(hint)) is not None:
        return tuple((key, _structured(item, of)) for key, item in value.items())
    if hint is None or hint is type(None):
        wanted: Any = type(None)
    else:
        wanted = origin or hint
    if not isinstance(wanted, type) or wanted is object:
        return value
    if isinstance(value, dict) and attrs.has(wanted):
        return _value(wanted, value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is not {'text' if wanted in (str, bytes) else wanted.__name__}")
    return value


def _of_pairs(hint: Any) -> Any:
    """The type of the second of a pair where *hint* is any number of pairs with a name, else None."""
    of, *more = typing.get_args(hint) or (None,)
    if more != [...] or typing.get_origin(of) is not tuple:
        return None
    pair = typing.get_args(of)
    return pair[1] if len(pair) == 2 and pair[0] is str and pair[1] is not ... else None


def _value(cls: type, table: dict[str, Any]) -> Any:
    """The value that a table describes."""
    hints = _hints(cls)
    fields = {field.alias or field.name: field.name for field in attrs.fields(cls) if field.init}
    for key in table:
        if key not in fields:
            raise TypeError(f"{cls.__name__} has no field {key!r}{suggest(key, list(fields))}")
    found = {key: _structured(item, hints.get(fields[key], Any)) for key, item in table.items()}
    try:
        return cls(**found)
    except ValueError as error:
        raise TypeError(str(error)) from error
