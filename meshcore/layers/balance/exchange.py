"""One exchange with an endpoint, as its record hears of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore._native import mypyc_attr
from meshcore.layers.balance.standing import Standing, finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Response

__all__ = ["Exchange"]


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange:
    """What is to be told to an endpoint's record when a body begins and ends."""

    __slots__ = ("_member", "_now", "_started")

    def __init__(self, member: Standing, started: float, now: Callable[[], float], response: Response) -> None:
        self._member = member
        self._started = started
        self._now = now

    def first_data(self) -> None:
        """The sample ends here (B-03)."""
        self._member.load.end(self._now(), self._started, True)

    def ended(self, end: EndOfStream) -> None:
        """The exchange ends here."""
        finished(self._member)
