"""Changes to a built-in pipeline: layers added, replaced or taken out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import attrs

from meshcore import registry
from meshcore.addresses import suggest
from meshcore.config.document import dotted
from meshcore.config.kinds import Kind, text
from meshcore.config.report import WRONG, At, right, shown
from meshcore.config.tables import Listed
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.stack import Stack

__all__ = ["LayerEdit", "edited"]

S = TypeVar("S", bound="Stack[Any, Any]")

_EDITS = ("before", "after", "replace", "remove")
_SECRET = re.compile(r"(^|_)(key|password|passphrase|secret|token|credentials?)$")


@attrs.frozen(kw_only=True)
class LayerEdit:
    """A table ``[[outbound.layer]]``: an entry point of ``meshcore.layers``, where it goes, and its own fields.

    Attributes:
        use: the entry point; with *edit* ``"remove"`` the role that goes.
        edit: what is done to the layer with the role *role*.
        role: the layer of the built-in pipeline that it is about; with ``"remove"`` the same as *use*.
        fields: the layer's own fields, as the file has them; they may be secret.
        layer: what is added, made from them; None with ``"remove"``.
        where: ``FILE:LINE: KEY`` for messages.
    """

    use: str
    edit: Literal["before", "after", "replace", "remove"]
    role: str
    fields: Mapping[str, Any] = attrs.field(factory=dict, repr=False, metadata={"secret": True})
    layer: Any = attrs.field(default=None, eq=False)
    where: str = attrs.field(default="", eq=False, repr=False)

    def apply(self, stack: S) -> S:
        """The stack with the change made.

        Raises:
            ConfigError: no layer of the stack has the role, or more than one.
        """
        try:
            if self.edit == "before":
                return stack.insert_before(self.role, self.layer)
            if self.edit == "after":
                return stack.insert_after(self.role, self.layer)
            if self.edit == "replace":
                return stack.replace(self.role, self.layer)
            return stack.remove(self.role)
        except LookupError as error:
            place = f"{self.where}: " if self.where else ""
            raise ConfigError([f"{place}{error.args[0]}{suggest(self.role, stack.roles())}"]) from error


def edited(stack: S, edits: Iterable[LayerEdit]) -> S:
    """The stack with every change made, in order.

    Raises:
        ConfigError: with every change that cannot be made.
    """
    problems: list[str] = []
    for edit in edits:
        try:
            stack = edit.apply(stack)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return stack


class LayerKind(Kind):
    """A change to a pipeline."""

    title = "a table: `use`, one of `before`, `after`, `replace` and `remove = true`, and the layer's own fields"

    def read(self, value: object, at: At, /) -> Any:
        """The change, its layer made."""
        if not isinstance(value, dict):
            return at.error(f'{shown(value)} is not a table; did you mean {{ use = "…", before = "…" }}?')
        use: Any = text(value["use"], at.child("use")) if "use" in value else None
        if use is None:
            hint = suggest("use", [key for key in value if key not in _EDITS])
            at.child("use").error(f"has to be given: the name of a layer (`meshcore layers` lists them){hint}")
        misspelt = _misspelt(value, use)
        for key, meant in misspelt.items():
            at.child(key).error(f"unknown key; did you mean {meant!r}?")
        edit, role = (WRONG, WRONG) if misspelt else self._edit(value, use, at)
        fields = {key: item for key, item in value.items() if key not in ("use", *_EDITS, *misspelt)}
        layer = None
        if edit == "remove":
            for key in fields:
                at.child(key).error("what is removed has no fields")
        elif use is not None and right(use):
            layer = _made(use, fields, at)
        if use is None or not right(use) or edit is WRONG or not right(role) or layer is WRONG:
            return WRONG
        place = at.report.document.place(at.path)
        return LayerEdit(use=use, edit=edit, role=role, fields=fields, layer=layer, where=f"{place}: {dotted(at.path)}")

    def _edit(self, value: dict[str, Any], use: Any, at: At) -> tuple[Any, Any]:
        there = [name for name in _EDITS if name in value]
        if len(there) != 1:
            found = " and ".join(there) if there else "none of them"
            at.error(f"one of before, after, replace and remove is wanted, and {found} is there")
            return WRONG, WRONG
        edit = there[0]
        if edit != "remove":
            return edit, text(value[edit], at.child(edit))
        if value["remove"] is not True:
            at.child("remove").error(f"{shown(value['remove'])} is not true; `use` names the layer that goes")
            return WRONG, WRONG
        return edit, use

    def show(self, value: Any, /) -> Any:
        """Its table, with secrets masked."""
        fields = {name: "***" if _secret(value, name) else item for name, item in value.fields.items()}
        place: dict[str, Any] = {"remove": True} if value.edit == "remove" else {value.edit: value.role}
        return {"use": value.use, **place, **fields}

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema; the fields are the layer's."""
        word = {"type": "string", "minLength": 1}
        return {
            "type": "object",
            "properties": {"use": word, "before": word, "after": word, "replace": word, "remove": {"const": True}},
            "required": ["use"],
            "oneOf": [{"required": [name]} for name in _EDITS],
        }


def _misspelt(value: dict[str, Any], use: Any) -> dict[str, str]:
    """Keys that are meant to say where the layer goes, where nothing says it."""
    if any(name in value for name in _EDITS):
        return {}
    try:
        own = {field.name for field in registry.describe(use).fields} if right(use) else set()
    except ConfigError:
        own = set()
    found = {}
    for key in value:
        near = difflib.get_close_matches(key, _EDITS, n=1)
        if near and key not in own:
            found[key] = near[0]
    return found


def _secret(edit: LayerEdit, name: str) -> bool:
    cls = type(edit.layer)
    marked = attrs.has(cls) and any(
        field.metadata.get("secret") for field in attrs.fields(cls) if name in (field.alias, field.name)
    )
    return marked or _SECRET.search(name) is not None


def _made(use: str, fields: dict[str, Any], at: At) -> Any:
    """The layer, or ``WRONG`` with each problem at its key."""
    try:
        registry.load(use)
    except ConfigError as error:
        return at.child("use").error(error.problems[0])
    try:
        return registry.make(use, fields)
    except ConfigError as error:
        known = {field.name for field in registry.describe(use).fields} | set(fields)
        for problem in error.problems:
            key, _, rest = problem.partition(": ")
            if key in known:
                at.child(key).error(rest)
            else:
                at.error(problem)
        return WRONG


LayerEdits: TypeAlias = Annotated[tuple[LayerEdit, ...], Listed(LayerKind(), tuple)]
