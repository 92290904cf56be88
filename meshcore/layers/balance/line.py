"""The requests that wait for an endpoint, in their order (B-11)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from meshcore._wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.transport.target import Endpoint

__all__ = ["BATCH", "Line", "Waiter"]

BATCH = 64
"""Of those who wait, how many are given an endpoint at a time; a quarter of them if that is more."""


class Waiter:
    """A request in the line.

    Attributes:
        wakeup: woken when it was given an endpoint, or is to look whether it still may be.
        avoid: endpoints that it takes only where there is no other.
        request: what it is for.
        member: what it was given.
    """

    __slots__ = ("avoid", "member", "request", "wakeup")

    def __init__(self, avoid: Sequence[Endpoint], request: object) -> None:
        self.wakeup = Wakeup()
        self.avoid = avoid
        self.request = request
        self.member: Any = None


class Line:
    """First come, first served: who has been given an endpoint is not in it any more."""

    __slots__ = ("_handed", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        # Those who were given an endpoint and have not gone yet.
        self._handed = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, avoid: Sequence[Endpoint], request: object = None) -> Waiter:
        """Somebody new, at the end."""
        waiter = Waiter(avoid, request)
        self._waiting[waiter] = None
        return waiter

    def leave(self, waiter: Waiter, take: Callable[[Waiter], Any]) -> None:
        """*waiter* goes, with what it was given or without; to be called for everyone who has joined."""
        if waiter.member is None:
            del self._waiting[waiter]
        else:
            self._handed -= 1
            self.hand_out(take)

    def hand_out(self, take: Callable[[Waiter], Any]) -> None:
        """Gives what *take* has, to who has waited longest.

        Not to everyone at once, so that what a long line begins to do together is bounded: the next ones' turn comes
        when these have gone, and whoever comes meanwhile waits behind them.
        """
        if self._handed:
            return
        waiting = self._waiting
        size = max(BATCH, len(waiting) // 4)
        while waiting and size:
            waiter = next(iter(waiting))
            waiter.member = take(waiter)
            if waiter.member is None:
                return
            del waiting[waiter]
            size -= 1
            self._handed += 1
            waiter.wakeup.wake()

    def wake_all(self) -> None:
        """Everyone is to look whether waiting is still of any use."""
        for waiter in self._waiting:
            waiter.wakeup.wake()
