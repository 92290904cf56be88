"""How loaded an endpoint is now: the states of the ways to measure it (``load``).  Pure: time is handed in."""

from __future__ import annotations

from math import exp, inf
from typing import TYPE_CHECKING, Final

from meshcore._native import mypyc_attr

if TYPE_CHECKING:
    from meshcore.layers.balance.load import PeakEwma, PenaltyPeakEwma

__all__ = ["EwmaLoad", "PenaltyLoad", "PendingLoad"]

_FLOOR: Final = 0.001


@mypyc_attr(allow_interpreted_subclasses=True)
class EwmaLoad:
    """The state of :class:`PeakEwma` for one endpoint."""

    __slots__ = ("_at", "_decay", "_default", "_progress", "pending", "rtt")

    def __init__(self, options: PeakEwma, now: float) -> None:
        self._decay = options.decay
        self._default = self.rtt = max(options.default_rtt, _FLOOR)
        self.pending = 0
        self._at = now
        # Since when it has owed an answer without giving any.
        self._progress = now

    def begin(self, now: float, /) -> None:
        """See :class:`EndpointLoad`."""
        if not self.pending:
            self._progress = now
        self.pending += 1

    def end(self, now: float, started: float, answered: bool, /) -> None:
        """See :class:`EndpointLoad`.  A failure makes an endpoint slower by the time that it took, never
        quicker: one that refuses at once is not a good one."""
        self.pending -= 1
        self._progress = now
        sample = now - started
        kept = exp((self._at - now) / self._decay)
        decayed = self.rtt * kept
        if sample >= decayed:
            self.rtt = sample
        elif answered:
            self.rtt = decayed + sample * (1.0 - kept)
        else:
            return
        self._at = now

    def anew(self, now: float, others: float | None, /) -> None:
        """See :class:`EndpointLoad`."""
        self.rtt = self._default if others is None else max(min(self._default, others), _FLOOR)
        self._at = now

    def estimate(self, now: float, /) -> float:
        """See :class:`EndpointLoad`."""
        return self.rtt * exp((self._at - now) / self._decay)

    def hold(self) -> None:
        """See :class:`EndpointLoad`."""
        self._progress = inf
        self.pending += 1

    def release(self) -> None:
        """See :class:`EndpointLoad`."""
        self.pending -= 1

    def load(self, now: float, scale: float, /) -> float:
        """See :class:`EndpointLoad`."""
        rtt = self.rtt * exp((self._at - now) / self._decay)
        pending = self.pending
        if pending:
            silent = now - self._progress
            if silent > rtt:
                rtt = silent
            return rtt * (pending * scale + 1.0)
        return rtt


class PenaltyLoad(EwmaLoad):
    """The state of :class:`PenaltyPeakEwma` for one endpoint.

    Attributes:
        options: what it is by.
    """

    __slots__ = ("options",)

    def __init__(self, options: PenaltyPeakEwma, now: float) -> None:
        super().__init__(options, now)
        self.options = options

    def penalise(self, now: float, started: float, seconds: float, /) -> None:
        """An answer begins that counts as *seconds* at least."""
        self.end(now, min(started, now - seconds), True)


class PendingLoad:
    """The state of :class:`Pending` for one endpoint."""

    __slots__ = ("pending", "rtt")

    def __init__(self) -> None:
        self.pending = 0
        self.rtt = 0.0

    def anew(self, now: float, others: float | None, /) -> None:
        """See :class:`EndpointLoad`: pending requests are known exactly."""

    def estimate(self, now: float, /) -> float:
        """See :class:`EndpointLoad`: none is made."""
        return 0.0

    def begin(self, now: float, /) -> None:
        """See :class:`EndpointLoad`."""
        self.pending += 1

    def end(self, now: float, started: float, answered: bool, /) -> None:
        """See :class:`EndpointLoad`."""
        self.pending -= 1

    def hold(self) -> None:
        """See :class:`EndpointLoad`."""
        self.pending += 1

    def release(self) -> None:
        """See :class:`EndpointLoad`."""
        self.pending -= 1

    def load(self, now: float, scale: float, /) -> float:
        """See :class:`EndpointLoad`."""
        return self.pending * scale + 1.0
