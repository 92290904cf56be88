"""Kinds of values that hold others: tables, which become config classes, tables by name, and lists."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import attrs

from meshcore.config.kinds import Choice, Flag, Kind, Text, Whole
from meshcore.config.report import WRONG, At, shown
from meshcore.errors import ConfigError

__all__ = ["Listed", "Ports", "Setting", "Table", "Tables", "kind_of", "paragraphs", "settings"]


@attrs.frozen
class Setting:
    """A key of a table.

    Attributes:
        name: the key.
        attribute: the field that it becomes; of another name where the key is a word of Python.
        kind: of its value.
        required: whether it has to be given.
        default: otherwise; an instance where it is a table.
        text: what it means, from the docstring of its class.
    """

    name: str
    attribute: str
    kind: Kind
    required: bool
    default: Any
    text: str


@functools.cache
def settings(cls: type) -> dict[str, Setting]:
    """The keys of a config class's table, in the order in which they are documented."""
    hints = typing.get_type_hints(cls, include_extras=True)
    texts = paragraphs(cls)
    found = {}
    for field in attrs.fields(cls):
        if field.init and not field.metadata.get("internal"):
            default: Any = field.default
            if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
                default = default.factory()
            required = default is attrs.NOTHING
            kind = kind_of(hints[field.name])
            name = field.metadata.get("key", field.name)
            found[name] = Setting(name, field.name, kind, required, default, texts.get(name, ""))
    return found


def paragraphs(cls: type) -> dict[str, str]:
    """The texts under ``Attributes:`` in a docstring, each on one line, by name."""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    section = section.partition("\n\n")[0]
    items = re.findall(r"(?m)^    (\w+): (.*(?:\n {6,}.*)*)", section)
    return {name: " ".join(words.split()) for name, words in items}


def kind_of(hint: Any) -> Kind:
    """The kind that the type of a field says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, Kind):
                return extra
        return kind_of(arguments[0])
    if origin in (typing.Union, types.UnionType):
        # None is said by leaving the key out.
        return kind_of(next(argument for argument in arguments if argument is not type(None)))
    if origin is typing.Literal:
        return Choice(arguments)
    if origin in (tuple, frozenset):
        return Listed(kind_of(arguments[0]), origin)
    if origin is dict:
        return Tables(kind_of(arguments[1]))
    if hint is bool:
        return Flag()
    if hint is str:
        return Text()
    if attrs.has(hint):
        return Table(hint)
    raise TypeError(f"a setting of type {hint!r} has no kind")


@attrs.frozen
class Table(Kind):
    """A table that becomes an instance of a config class.

    Attributes:
        cls: the class.  Its ``LATER`` names keys that are known and not built yet.
    """

    cls: type
    title = "a table"

    def read(self, value: object, at: At, /) -> Any:
        """The instance; what could not be read of it is ``WRONG``, so that the rest can still be judged."""
        if not isinstance(value, dict):
            return at.error(f"{shown(value)} is not a table{self._hint(at)}")
        known = settings(self.cls)
        found: dict[str, Any] = {}
        for key in value:
            if key not in known:
                meant = self._unknown(key, at.child(key))
                if meant in known and meant not in value:
                    # It was given, under another name: nothing is said about its absence.
                    found[meant] = WRONG
        for name, setting in known.items():
            if name in value:
                found[name] = setting.kind.read(value[name], at.child(name))
            elif setting.required and name not in found:
                found[name] = at.child(name).error(f"has to be given: {setting.kind.title}")
        return self.cls(**{known[name].attribute: value for name, value in found.items()})

    def _hint(self, at: At) -> str:
        first = next(iter(settings(self.cls)), "")
        key = at.path[-1] if at.path else ""
        return f"; did you mean {key} = {{ {first} = … }}?" if isinstance(key, str) and key else ""

    def _unknown(self, key: str, at: At) -> str:
        """Reports a key that is not known; the one that was meant, ``""`` if none is near."""
        known = settings(self.cls)
        later: dict[str, str] = getattr(self.cls, "LATER", {})
        if key in later:
            at.error(f"is not in this release{later[key] and '; ' + later[key]}")
            return ""
        near = difflib.get_close_matches(key.replace("-", "_").lower(), [*known, *later], n=1)
        at.error(f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key (known: {', '.join(known)})")
        return near[0] if near else ""

    def show(self, value: Any, /) -> Any:
        """Every key that has a value."""
        return {
            name: setting.kind.show(getattr(value, setting.attribute))
            for name, setting in settings(self.cls).items()
            if getattr(value, setting.attribute) is not None or (setting.default is not None and not setting.required)
        }

    def schema(self) -> dict[str, Any]:
        """A reference: tables stand under ``$defs``."""
        return {"$ref": f"#/$defs/{self.cls.__name__}"}


@attrs.frozen
class Tables(Kind):
    """Tables by a name that the user gives.

    Attributes:
        kind: of each.
        key: checks a name and says how it is kept; a ConfigError says what is wrong with it.
    """

    kind: Kind
    key: Callable[[str], str] = str
    title = "tables by name"

    def read(self, value: object, at: At, /) -> Any:
        """The tables by name; those whose name is wrong are judged and left out."""
        if not isinstance(value, dict):
            return self.refused(value, at)
        found: dict[str, Any] = {}
        for name, table in value.items():
            here = at.child(name)
            read = self.kind.read(table, here)
            try:
                key = self.key(name)
            except ConfigError as error:
                here.error(error.problems[0])
                continue
            if key in found:
                here.error("is there already, in other letters")
            elif read is not WRONG:
                found[key] = read
        return found

    def refused(self, value: object, at: At, /) -> Any:
        """Says that *value* is no table."""
        return at.error(f"{shown(value)} is not a table of tables")

    def show(self, value: Any, /) -> Any:
        """The tables."""
        return {name: self.kind.show(table) for name, table in value.items()}

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "object", "additionalProperties": self.kind.schema()}


@attrs.frozen
class Listed(Kind):
    """A list.

    Attributes:
        kind: of each item.
        made: what becomes of it: a tuple, or a frozenset where the order means nothing.
    """

    kind: Kind
    made: type

    @property
    def title(self) -> str:  # type: ignore[override]
        """With what it lists."""
        return f"a list: {self.kind.title}"

    def read(self, value: object, at: At, /) -> Any:
        """The items; of a tuple, wrong ones are ``WRONG``."""
        if not isinstance(value, list):
            hint = "" if isinstance(value, dict) else f"; did you mean [{_literal(value)}]?"
            return at.error(f"{shown(value)} is not a list{hint}")
        items = [self.kind.read(item, at.child(index)) for index, item in enumerate(value)]
        # An item keeps its index, by which it is judged later.
        return self.made(items) if self.made is tuple else self.made(item for item in items if item is not WRONG)

    def show(self, value: Any, /) -> Any:
        """The items."""
        return [self.kind.show(item) for item in (sorted(value) if self.made is frozenset else value)]

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        return {"type": "array", "items": self.kind.schema()}


Ports: TypeAlias = Annotated[frozenset[int], Listed(Whole(1, 65_535), frozenset)]


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else shown(value)
