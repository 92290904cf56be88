"""Header fields: an ordered multimap over ``(name, value)`` byte pairs, names in lower case."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshcore.codec.events import Field

__all__ = ["Headers", "without"]


def without(fields: list[Field], name: bytes) -> list[Field]:
    """*fields* but those called *name*: the same objects, for one that must not be put into a table says so by what
    it is (RFC 7541 §6.2.3)."""
    return [field for field in fields if field[0] != name]


class Headers:
    """Header fields in the order sent, repeats kept.

    Names are lower-case bytes; arguments are expected in lower case too, which is not checked: it is
    what codecs produce and what literals in a layer look like.  ``raw`` is the list itself, for
    codecs and for loops that must be quick.
    """

    __slots__ = ("raw",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.raw: list[tuple[bytes, bytes]] = fields if type(fields) is list else list(fields)

    def __repr__(self) -> str:
        return f"Headers({self.raw!r})"

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Headers) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.raw)

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self.raw)

    def get(self, name: bytes, default: bytes | None = None) -> bytes | None:
        """The first value of *name*."""
        for key, value in self.raw:
            if key == name:
                return value
        return default

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of *name*, in order."""
        return [value for key, value in self.raw if key == name]

    def add(self, name: bytes, value: bytes) -> None:
        """Appends a field."""
        self.raw.append((name, value))

    def set(self, name: bytes, value: bytes) -> None:
        """Replaces every field *name* by one, in the place of the first; appends it if there is none."""
        raw = self.raw
        place = -1
        for index, (key, _) in enumerate(raw):
            if key == name:
                place = index
                break
        if place < 0:
            raw.append((name, value))
            return
        raw[place] = (name, value)
        if any(raw[index][0] == name for index in range(place + 1, len(raw))):
            raw[place + 1 :] = without(raw[place + 1 :], name)

    def remove(self, name: bytes) -> bool:
        """Removes every field *name*; whether there was one."""
        raw = self.raw
        for key, _ in raw:
            if key == name:
                raw[:] = without(raw, name)
                return True
        return False

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self.raw.copy())
