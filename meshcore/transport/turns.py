"""Turns: where reads bring more than is to be done at once, one connection at a time goes on with its own.

Each connection lets others run between the pieces of a costly read.  That alone is fair to none of them once there are
many such connections: a turn of the event loop then has a piece of each, and whoever needs several turns for an answer
waits for all of them.  So they queue for the whole run: a turn of the loop has one of these pieces, however many there
are.  Only the first piece of each read is dealt with as it comes, since what it costs is known afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore._wakeup import RunVar, WakeupQueue, give_way

if TYPE_CHECKING:
    from typing import Self

__all__ = ["HEAVY", "MOST_REST", "Turn"]

HEAVY: Final = 0.01
"""Seconds that a piece may take before as long a rest follows it: an answer that takes several turns of the loop gets
them in one go then."""

MOST_REST: Final = 0.1
"""Seconds that a rest lasts at the most, however long the piece took."""


class _Turns:
    """Who has the turn in this run of Trio, and who waits for it."""

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = False
        self.waiting = WakeupQueue()


_TURNS: Final[RunVar[_Turns]] = RunVar("turns")


class Turn:
    """One connection's part in it, for as long as one of its reads is being dealt with: ``with Turn() as turn``."""

    __slots__ = ("_has", "_turns")

    def __init__(self) -> None:
        try:
            self._turns = _TURNS.get()
        except LookupError:
            self._turns = _Turns()
            _TURNS.set(self._turns)
        self._has = False

    async def wait(self, worked: float) -> None:
        """Waits until this connection may go on, first come first served; others run before that.  It has the turn
        then, until it waits again or its block ends.

        Not ended by a cancellation: what has been read was sent before whatever ends the connection meanwhile.

        Args:
            worked: seconds that the piece before took.
        """
        turns = self._turns
        if self._has:
            # Handed over, it stays taken.
            self._has = not turns.waiting.wake_one()
        elif not turns.taken:
            self._has = turns.taken = True
        if not self._has:
            with trio.CancelScope(shield=True):
                await turns.waiting.wait()
            self._has = True
        if worked < HEAVY:
            await give_way()
        else:
            # Who has the turn rests for what it has done itself: meanwhile nobody else goes on.
            with trio.CancelScope(shield=True):
                await trio.sleep(min(worked, MOST_REST))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets the next one go on, if this one has the turn."""
        if self._has:
            self._has = False
            self._turns.taken = self._turns.waiting.wake_one()
