"""The budget that keeps retries from becoming a storm.  Pure: time is handed in.

A fixed number of retries multiplies the load of whatever is failing by that number, layer by layer; a
budget bounds what retries add to the load to a part of the real requests, whatever fails.
"""

from __future__ import annotations

import attrs

__all__ = ["Budget", "Tokens"]


@attrs.frozen
class Budget:
    """How many retries there may be.

    Attributes:
        ratio: retries for each request, on average; 0.2 adds 20 % to the load at the most.
        minimum: retries a second that are allowed in any case, so that little traffic can be retried, too.
        ttl: seconds for which what was not used is kept.
    """

    ratio: float = attrs.field(default=0.2, validator=attrs.validators.ge(0))
    minimum: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    ttl: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))

    def start(self, now: float) -> Tokens:
        """The budget's state, with the minimum of ``ttl`` seconds to spend."""
        return Tokens(self, now)


class Tokens:
    """The state of one budget: a bucket of tokens that requests fill and retries empty.

    Attributes:
        requests: every request adds 1 here; there is nothing else to do for one.
    """

    __slots__ = ("_at", "_budget", "_rate", "_seen", "balance", "requests")

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget = budget
        self._at = now
        self._seen = 0
        # Requests a second of late.
        self._rate = 0.0
        self.requests = 0
        self.balance = budget.minimum * budget.ttl

    def withdraw(self, now: float) -> bool:
        """Takes a token for one retry; False if there is none."""
        self._settle(now)
        if self.balance < 1.0:
            return False
        self.balance -= 1.0
        return True

    def left(self, now: float) -> float:
        """The part that is left of what there would be had nothing been retried lately: 0 to 1.  Changes nothing."""
        balance, rate = self._settled(now)
        most = (self._budget.ratio * rate + self._budget.minimum) * self._budget.ttl
        return min(balance / most, 1.0) if most > 0 else 0.0

    def _settle(self, now: float) -> None:
        self.balance, self._rate = self._settled(now)
        self._seen = self.requests
        self._at = now

    def _settled(self, now: float) -> tuple[float, float]:
        """The balance and the rate of requests as of now."""
        budget = self._budget
        elapsed = max(now - self._at, 0.0)
        earned = budget.ratio * (self.requests - self._seen) + budget.minimum * elapsed
        # When requests came is not known, only how many since the last look: what is older than
        # ``ttl`` is left out as if they had come evenly, and what was left over ages likewise.
        kept = max(1.0 - elapsed / budget.ttl, 0.0)
        fresh = min(budget.ttl / elapsed, 1.0) if elapsed > 0 else 1.0
        rate = self._rate * kept
        if elapsed > 0:
            rate += (self.requests - self._seen) / elapsed * (1.0 - kept)
        return self.balance * kept + earned * fresh, rate
