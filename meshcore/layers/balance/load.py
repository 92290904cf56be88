"""How loaded an endpoint is.  Pure: time is handed in.

The peak EWMA of linkerd and finagle (B-02), and one thing more: an endpoint that owes an answer is at least
as slow as it has been silent, so that one that stalls is avoided before its first late answer has told.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from meshcore.layers.balance.load_state import EwmaLoad, PenaltyLoad, PendingLoad

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


@attrs.frozen
class Pending:
    """Requests under way, whatever they take."""

    def start(self, now: float, /) -> PendingLoad:
        """See :class:`Load`."""
        return PendingLoad()
