"""What an authorization service says of a request, whichever way it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from meshcore.codec.validate import CONNECTION_FIELDS, FRAMING_FIELDS, is_field_name, is_field_value, is_reserved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshcore.http.headers import Headers

__all__ = ["Change", "How", "Verdict", "apply", "may_change"]

How: TypeAlias = Literal["set", "append", "if-absent", "if-present"]

_OURS: Final = CONNECTION_FIELDS | FRAMING_FIELDS | {b"te", b"trailer", b"expect"}


@attrs.frozen
class Change:
    """A field that is to be set.

    Attributes:
        name: in lower case.
        value: its value.
        how: ``"set"`` replaces what is there, ``"append"`` adds one more, ``"if-absent"`` and ``"if-present"`` set it
            only then.
    """

    name: bytes
    value: bytes
    how: How = "set"

    @property
    def valid(self) -> bool:
        """Whether it can stand in a message, and is nobody else's: not of the framing, the connection, or the
        proxies."""
        return may_change(self.name) and is_field_value(self.value)


@attrs.frozen
class Verdict:
    """Whether a request may pass, and what is to become of it.

    Attributes:
        allowed: whether it may.
        set: fields of the request that goes on.
        remove: names of fields that it loses.
        answer: fields of the response to it, or of the refusal.
        status: of the refusal; 0: the service named none.
        body: of the refusal.
        reason: why, for logs and errors.
    """

    allowed: bool
    set: tuple[Change, ...] = ()
    remove: tuple[bytes, ...] = ()
    answer: tuple[Change, ...] = ()
    status: int = 0
    body: bytes = b""
    reason: str = ""


def may_change(name: bytes) -> bool:
    """Whether an authorization service may set or remove the field *name*."""
    return is_field_name(name) and name not in _OURS and not is_reserved(name)


def apply(headers: Headers, changes: Iterable[Change]) -> None:
    """Makes the changes, in place.  Of several that set one name, the first replaces what was there and the others
    are added: two cookies stay two."""
    replaced: set[bytes] = set()
    for change in changes:
        name, how = change.name, change.how
        there = name in headers
        if how == "append" or name in replaced:
            headers.add(name, change.value)
        elif how == "set" or there == (how == "if-present"):
            headers.set(name, change.value)
            replaced.add(name)
