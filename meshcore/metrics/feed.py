"""The feed: what has happened to a proxy, for whoever looks at it: config applied, endpoint gone, breaker tripped …"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Feed", "Happening"]

_TEXT: Final = 500
_FIELD: Final = 200
"""Characters that are kept of a text and of a field: what a peer sent may be long."""


@attrs.frozen
class Happening:
    """One thing that has happened.

    Attributes:
        number: counts up from 1, without gaps, so that a reader knows what it has missed.
        time: seconds since the epoch.
        kind: what it was, in snake case: ``config_applied``, ``endpoint_removed``, ``breaker_tripped`` …
        text: the same in a sentence, for people; may hold what a peer sent, so never markup.
        fields: what it was about, by name.
    """

    number: int
    time: float
    kind: str
    text: str
    fields: dict[str, str] = attrs.Factory(dict)


class Feed:
    """Keeps the latest happenings, and tells listeners of each new one at once, synchronously.

    Args:
        clock: seconds since the epoch.
        keep: how many are kept.
    """

    def __init__(self, clock: Callable[[], float], *, keep: int = 200) -> None:
        self._clock = clock
        self._number = 0
        self._kept: deque[Happening] = deque(maxlen=keep)
        self._listeners: list[Callable[[Happening], None]] = []

    def __repr__(self) -> str:
        return f"<Feed {self._number} happenings>"

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    @property
    def number(self) -> int:
        """How many there have been."""
        return self._number

    def tell(self, kind: str, text: str, **fields: str) -> None:
        """Something has happened; costs little, and may be called anywhere."""
        self._number += 1
        cut = {name: value[:_FIELD] for name, value in fields.items()}
        happening = Happening(self._number, self._clock(), kind, text[:_TEXT], cut)
        self._kept.append(happening)
        for listener in list(self._listeners):
            listener(happening)

    def since(self, number: int = 0) -> list[Happening]:
        """What is kept of those after *number*, oldest first."""
        return [each for each in self._kept if each.number > number]

    def listen(self, listener: Callable[[Happening], None]) -> Callable[[], None]:
        """Calls *listener* with each from now on; it must not block, nor raise.  Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)
