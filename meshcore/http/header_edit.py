"""Changes to header fields, as routes describe them: added, set, removed, in this order (R-25)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from meshcore.codec.validate import CONNECTION_FIELDS, FRAMING_FIELDS, is_field_name, is_field_value, is_reserved
from meshcore.errors import ConfigError

if TYPE_CHECKING:
    from meshcore.http.headers import Headers

__all__ = ["HeaderEdit", "Pairs", "field_name", "field_value", "names", "pairs"]

Pairs: TypeAlias = tuple[tuple[str, str], ...]


def pairs(given: Mapping[str, str] | Iterable[tuple[str, str]]) -> Pairs:
    """Names and values in order, from a mapping or from pairs."""
    if isinstance(given, Mapping):
        return tuple(given.items())  # pyright: ignore[reportReturnType]
    return tuple(given)


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Names in order."""
    return tuple(given)


def field_name(name: str) -> bytes:
    """The name of a field that a route may change, in lower case.

    Raises:
        ConfigError: it is none, or one that is not for routes to change.
    """
    found = name.lower().encode()
    if not is_field_name(found):
        raise ConfigError([f"{name[:60]!r} is not the name of a header field"])
    if found == b"host":
        raise ConfigError(["'host' is not changed like a field: rewrite says what it becomes"])
    if found in CONNECTION_FIELDS or found in FRAMING_FIELDS or found == b"te":
        raise ConfigError([f"{name!r} says how messages are framed: it cannot be changed"])
    if is_reserved(found):
        raise ConfigError([f"{name!r} is what proxies say to each other: it cannot be changed"])
    return found


def field_value(value: str) -> bytes:
    """The value of a field.

    Raises:
        ConfigError: it has control characters, or spaces around it.
    """
    found = value.encode()
    if not is_field_value(found):
        raise ConfigError([f"{value[:60]!r} is not a field's value: no control characters, no spaces around it"])
    return found


class HeaderEdit:
    """Fields are added first, then set, then removed.

    Args:
        add: fields that are appended, whatever there is.
        set: fields that replace all of their name.
        remove: names whose fields go.

    Raises:
        ConfigError: a name or a value is none, or not for routes to change.
    """

    __slots__ = ("_add", "_remove", "_set")

    def __init__(self, add: Pairs = (), set: Pairs = (), remove: Iterable[str] = ()) -> None:
        self._add = [(field_name(name), field_value(value)) for name, value in add]
        self._set = [(field_name(name), field_value(value)) for name, value in set]
        self._remove = [field_name(name) for name in remove]

    def __bool__(self) -> bool:
        return bool(self._add or self._set or self._remove)

    def apply(self, headers: Headers) -> None:
        """Changes *headers* in place."""
        headers.raw.extend(self._add)
        for name, value in self._set:
            headers.set(name, value)
        for name in self._remove:
            headers.remove(name)
