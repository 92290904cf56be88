"""The circuit breaker of one endpoint: when it opens, for how long, and what closes it.  Pure: time is handed in."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from meshcore.layers.failure_accrual.window import Window

if TYPE_CHECKING:
    import random

    from meshcore.transport.accrual import Accrual

__all__ = ["Breaker", "Outcome", "State"]


class State(enum.Enum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    PROBATION = "probation"


class Outcome(enum.Enum):
    """What an exchange says of the endpoint.

    ``LIMITED``: the endpoint answered that it has enough to do (429, RESOURCE_EXHAUSTED, REFUSED_STREAM): that counts
    against the success rate and fails a probation, but is no failure in a row (B-15).
    """

    SUCCESS = "success"
    FAILURE = "failure"
    LIMITED = "limited"


class Breaker:
    """The state machine: closed → open for a penalty → probation by one request → closed, or open for longer.

    Attributes:
        state: as of the last event; an ``OPEN`` breaker whose penalty is over admits one request.
        until: when the penalty is over.
        failures: in a row.
        trips: how often in a row it opened: what the next penalty depends on.
        opened: how often it opened in all.
        reason: what opened it last: ``"consecutive failures"``, ``"success rate"`` or ``"failed probation"``.
        window: the results of the last seconds.
    """

    __slots__ = ("_rng", "accrual", "failures", "opened", "reason", "state", "trips", "until", "window")

    def __init__(self, accrual: Accrual, rng: random.Random) -> None:
        self.accrual = accrual
        self._rng = rng
        self.state = State.CLOSED
        self.until = 0.0
        self.failures = 0
        self.trips = 0
        self.opened = 0
        self.reason = ""
        self.window = Window(accrual.window)

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value} failures={self.failures} trips={self.trips}>"

    def result(self, now: float, outcome: Outcome) -> str:
        """The end of an exchange that was admitted while closed.

        Returns:
            Why the breaker is to be opened; ``""``: it is not.  It stays closed until ``trip``.
        """
        if self.state is not State.CLOSED:
            # Begun before it opened: that says nothing of how it is now.
            return ""
        accrual = self.accrual
        if outcome is Outcome.SUCCESS:
            self.failures = 0
        elif outcome is Outcome.FAILURE:
            self.failures += 1
        if accrual.success_rate:
            self.window.add(now, outcome is not Outcome.SUCCESS)
        if accrual.consecutive and self.failures >= accrual.consecutive and outcome is Outcome.FAILURE:
            return "consecutive failures"
        window = self.window
        # Without a failure in it there is nothing to compare; there never is one where the rate is not looked at.
        if window.failed and window.total >= accrual.min_requests and window.success_rate < accrual.success_rate:
            return "success rate"
        return ""

    def trip(self, now: float, reason: str, hint: float = 0.0) -> float:
        """Opens it.

        Args:
            now: the time.
            reason: why.
            hint: seconds that the endpoint asked to be left alone for.

        Returns:
            Seconds of the penalty.
        """
        self.trips += 1
        self.opened += 1
        self.reason = reason
        penalty = self.accrual.penalty.delay(self.trips, self._rng)
        if self.accrual.retry_after:
            penalty = max(penalty, hint)
        self.until = now + penalty
        self.state = State.OPEN
        return penalty

    def admit(self, now: float) -> bool:
        """Whether a request may pass that comes while it is not closed: one, once the penalty is over."""
        if self.state is not State.OPEN or now < self.until:
            return False
        self.state = State.PROBATION
        return True

    def probed(self, now: float, outcome: Outcome, hint: float = 0.0) -> bool:
        """The end of the request on probation; whether that has closed the breaker."""
        if outcome is Outcome.SUCCESS:
            self.state = State.CLOSED
            self.failures = 0
            self.trips = 0
            self.window.reset()
            return True
        self.trip(now, "failed probation", hint)
        return False

    def released(self) -> None:
        """The request on probation ended without saying anything of the endpoint: another one is admitted."""
        self.state = State.OPEN
