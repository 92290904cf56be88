"""One change to a built-in pipeline: a layer added, replaced or taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.stack import Stack

__all__ = ["LayerEdit"]

S = TypeVar("S", bound="Stack[Any, Any]")


@attrs.frozen(kw_only=True)
class LayerEdit:
    """A table ``[[outbound.layer]]``: an entry point of ``meshcore.layers``, where it goes, and its own fields.

    Attributes:
        use: the entry point; with *edit* ``"remove"`` the role that goes.
        edit: what is done to the layer with the role *role*.
        role: the layer of the built-in pipeline that it is about; with ``"remove"`` the same as *use*.
        layer: what is added, made from the table's own fields; None with ``"remove"``.
        where: ``FILE:LINE: KEY`` for messages.
    """

    use: str
    edit: Literal["before", "after", "replace", "remove"]
    role: str
    layer: Any = None
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
            raise ConfigError([f"{place}{error.args[0]}"]) from error
