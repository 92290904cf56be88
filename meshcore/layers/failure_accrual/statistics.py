"""What a breaker knows."""

from __future__ import annotations

import attrs

__all__ = ["BreakerStatistics"]


@attrs.frozen
class BreakerStatistics:
    """What a breaker knows.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"probation"``.
        failures: in a row.
        requests: results in the window of the success rate.
        success_rate: of those.
        trips: how often it opened.
        reason: why, the last time.
        remaining: seconds until it admits a request.
        withheld: how often it did not open, so that enough endpoints are left.
    """

    state: str
    failures: int
    requests: int
    success_rate: float
    trips: int
    reason: str
    remaining: float
    withheld: int
