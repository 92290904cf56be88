"""How loaded an endpoint is.  Pure: time is handed in.

The peak EWMA of linkerd and finagle (B-02), and one thing more: an endpoint that owes an answer is at least
as slow as it has been silent, so that one that stalls is avoided before its first late answer has told.
"""

from __future__ import annotations

from math import exp, inf
from typing import Protocol

import attrs

__all__ = [
    "EndpointLoad",
    "EwmaLoad",
    "Load",
    "PeakEwma",
    "PenaltyLoad",
    "PenaltyPeakEwma",
    "Pending",
    "PendingLoad",
]

_FLOOR = 0.001


class EndpointLoad(Protocol):
    """The load of one endpoint.

    Attributes:
        pending: requests sent that have not had a first byte of an answer.
        rtt: the estimate of a round trip in seconds when it was last changed; 0.0 where none is made.
    """

    pending: int
    rtt: float

    def begin(self, now: float, /) -> None:
        """A request is sent."""

    def end(self, now: float, started: float, answered: bool, /) -> None:
        """Its answer begins, or (not *answered*) it failed or was given up."""

    def hold(self) -> None:
        """A connection begins, which is not timed: how long it lives says nothing."""

    def release(self) -> None:
        """A connection ends."""

    def anew(self, now: float, others: float | None, /) -> None:
        """The endpoint is (again) among those that can be picked: what was known of it may be of another
        process.  *others* is the mean estimate of the rest, None if there are none."""

    def estimate(self, now: float, /) -> float:
        """The round trip expected now, in seconds; 0.0 where none is made."""
        ...

    def load(self, now: float, scale: float, /) -> float:
        """The load; the lower, the better.  *scale* is the mean weight by this endpoint's: what pending
        requests count here (1.0 for equal weights)."""
        ...


class Load(Protocol):
    """A way to measure load: a frozen value that makes one state for each endpoint."""

    def start(self, now: float, /) -> EndpointLoad:
        """The load of a new endpoint."""
        ...


@attrs.frozen
class PeakEwma:
    """Round trip time × (pending + 1); a peak counts at once and is forgotten exponentially (B-02).

    Attributes:
        decay: seconds in which an estimate falls to 1/e of its distance.
        default_rtt: seconds that a new endpoint is taken to need, at least 1 ms; less where the others need
            less, or it would have to wait for its share until the default has decayed.
    """

    decay: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    default_rtt: float = attrs.field(default=0.030, validator=attrs.validators.ge(0))

    def start(self, now: float, /) -> EwmaLoad:
        """See :class:`Load`."""
        return EwmaLoad(self, now)


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


@attrs.frozen
class PenaltyPeakEwma(PeakEwma):
    """:class:`PeakEwma`, for which an answer that says "not now" has taken long (B-07), so that an endpoint which
    fails quickly does not look like a quick one.

    Such are 429, 503 and every other status from 500 on, and answers of gRPC without a message whose status is 2, 4, 8,
    13, 14 or 15.  They count as ``penalty`` seconds, or as the endpoint says with ``retry-after`` (429 and 503 alone)
    or ``grpc-retry-pushback-ms``, if that is more; never as less than they took.

    Attributes:
        penalty: seconds that such an answer counts as.
        max_retry_after: seconds that an endpoint may ask for, at the most.
    """

    penalty: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    max_retry_after: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))

    def start(self, now: float, /) -> PenaltyLoad:
        """See :class:`Load`."""
        return PenaltyLoad(self, now)


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


@attrs.frozen
class Pending:
    """Requests under way, whatever they take."""

    def start(self, now: float, /) -> PendingLoad:
        """See :class:`Load`."""
        return PendingLoad()


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
