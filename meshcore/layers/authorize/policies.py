"""Policies: a server's policy as it is now, for everybody who has to obey it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore.layers.authorize.policy import ServerPolicy

__all__ = ["Judged", "Policies"]


class Judged(Protocol):
    """Something that a policy has let in, and may end."""

    def judge_again(self) -> None:
        """Ends what is not permitted any more.  Synchronous; must not raise."""


class Policies:
    """Holds a server's policy.  Replacing it holds at once: for the next request on whatever connection, and for
    connections that carry no requests, which end if they are not permitted any more (R-32).

    Attributes:
        current: the policy.
        generation: a number that changes with it.
    """

    __slots__ = ("_live", "current", "generation")

    def __init__(self, policy: ServerPolicy) -> None:
        self.current = policy
        self.generation = 0
        self._live: dict[Judged, None] = {}

    def __repr__(self) -> str:
        return f"<Policies {self.current}>"

    def __str__(self) -> str:
        return str(self.current)

    def __len__(self) -> int:
        """How many connections would be judged again."""
        return len(self._live)

    def replace(self, policy: ServerPolicy) -> None:
        """Makes *policy* the current one; the same again changes nothing."""
        if policy == self.current:
            return
        self.current = policy
        self.generation += 1
        for each in list(self._live):
            each.judge_again()

    def enter(self, judged: Judged) -> None:
        """*judged* is judged again whenever the policy changes."""
        self._live[judged] = None

    def leave(self, judged: Judged) -> None:
        """It is over."""
        self._live.pop(judged, None)
