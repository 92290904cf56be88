"""The account of one layer's place in a pipeline: what all of its services have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore._native import mypyc_attr
from meshcore.errors import MeshError
from meshcore.http.message import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.accounting.sampler import Sampler
    from meshcore.accounting.visit import Visit

__all__ = ["OUTCOMES", "Account"]

OUTCOMES = ("done", "1xx", "2xx", "3xx", "4xx", "5xx", "error", "cancelled")
"""How a call may end, as it is told; ``"done"``: a connection was served, or made."""
_ERROR = 6
_CANCELLED = 7
_CODES = 32
"""Kinds of errors that are told apart in one place; further ones are ``"other"``."""


@mypyc_attr(native_class=False)
class Account:
    """What one layer has done, in all of its services together.

    Each request that is measured stands for those that were not, and counts as many times, so that the figures are
    estimates of all of them; exact while every request is measured.  Times are in seconds.

    Attributes:
        pipeline: the pipeline's name.
        place: the layer's name in it: its role, with a number where a role is there more than once.
        direction: ``"inbound"`` or ``"outbound"``.
        protocol: what comes to it: ``"http"`` for requests, ``"tcp"`` for connections.
        level: how deep it is: layers above have lower ones.
        sampler: what decides here which requests are measured; None: that is decided above.
        created: services made, and of them ``dropped``: gone again.
        calls: requests that came to it.
        in_flight: of them, those whose response's head has not come yet, or connections that are still served.
        seconds: until the head had come, of all that are over.
        own_seconds: of them, those that were not spent in the layers below.
        outcomes: ends, in the order of :data:`OUTCOMES`.
        bottom: below it there is nothing that answers requests, or takes connections.
        answered: responses of its own: nothing below was asked, or what went wrong there was made into them; not of the
            *bottom*.
        repeated: further times that it asked what is below for the same request.
        raised: errors of its own: not those that it only let pass.
        errors: the same by their code, or class.
        wholes: responses whose bodies have ended, where *sampler* is.
        whole_seconds: until then.
        gone: who is told the figures once more when no stack has the layer any more.
    """

    __slots__ = (
        "__weakref__",
        "answered",
        "bottom",
        "calls",
        "created",
        "direction",
        "dropped",
        "errors",
        "gone",
        "in_flight",
        "level",
        "outcomes",
        "own_seconds",
        "pipeline",
        "place",
        "protocol",
        "raised",
        "repeated",
        "sampler",
        "seconds",
        "whole_seconds",
        "wholes",
    )

    def __init__(self, pipeline: str, place: str, direction: str, protocol: str) -> None:
        self.pipeline = pipeline
        self.place = place
        self.direction = direction
        self.protocol = protocol
        self.level = 0
        self.bottom = False
        self.sampler: Sampler | None = None
        self.created = 0
        self.dropped = 0
        self.calls = 0
        self.in_flight = 0
        self.seconds = 0.0
        self.own_seconds = 0.0
        self.outcomes = [0] * len(OUTCOMES)
        self.answered = 0
        self.repeated = 0
        self.raised = 0
        self.errors: dict[str, int] = {}
        self.wholes = 0
        self.whole_seconds = 0.0
        self.gone: list[Callable[[Account], None]] = []

    def __del__(self) -> None:
        # What its last stack held is gone with it, whoever finds that out first.
        self.dropped = self.created
        self.in_flight = 0
        for told in self.gone:
            told(self)

    def __repr__(self) -> str:
        return f"<Account {self.pipeline}/{self.place} calls={self.calls} in_flight={self.in_flight}>"

    def came(self, weight: int) -> None:
        """A call that stands for so many has begun."""
        self.calls += weight
        self.in_flight += weight

    def ended(self, visit: Visit, answer: object, seconds: float) -> None:
        """It has ended with an answer."""
        weight = visit.weight
        status = 0
        above = visit.above
        if isinstance(answer, Response):
            status = answer.status // 100
            if not visit.responded and not self.bottom:
                self.answered += weight
        if above is not None:
            above.responded = True
        self._over(visit, status if 0 <= status <= 5 else 0, seconds)

    def failed(self, visit: Visit, error: BaseException, seconds: float) -> None:
        """It has ended with an error, or was cancelled."""
        if not isinstance(error, Exception):
            self._over(visit, _CANCELLED, seconds)
            return
        above = visit.above
        if above is not None and above.level >= 0:
            above.responded = False
            above.error = error
        if visit.error is not error:
            self.raised_here(error, visit.weight)
        self._over(visit, _ERROR, seconds)

    def raised_here(self, error: Exception, weight: int) -> None:
        """An error has begun here."""
        self.raised += weight
        code = error.code if isinstance(error, MeshError) else type(error).__name__
        errors = self.errors
        if code not in errors and len(errors) >= _CODES:
            code = "other"
        errors[code] = errors.get(code, 0) + weight

    def connection_over(
        self, weight: int, ended: bool, error: BaseException | None, seconds: float, own: float
    ) -> None:
        """A connection is served, as far as it goes: *ended*, or given to another layer."""
        self.in_flight -= weight
        if error is None and ended:
            outcome = 0
        else:
            outcome = _ERROR if isinstance(error, Exception) else _CANCELLED
        self.outcomes[outcome] += weight
        self.seconds += seconds * weight
        self.own_seconds += own * weight

    def _over(self, visit: Visit, outcome: int, seconds: float) -> None:
        weight = visit.weight
        # Its traceback leads to frames that have the visit.
        visit.error = None
        self.in_flight -= weight
        self.outcomes[outcome] += weight
        self.seconds += seconds * weight
        # Tries beside each other take longer in all than the call that made them.
        self.own_seconds += max(0.0, seconds - visit.seconds) * weight
        if visit.asked > 1:
            self.repeated += (visit.asked - 1) * weight
        above = visit.above
        if above is not None:
            above.seconds += seconds

    def whole(self, weight: int, seconds: float) -> None:
        """The body of a response has ended."""
        self.wholes += weight
        self.whole_seconds += seconds * weight

    @property
    def finished(self) -> int:
        """Calls that are over."""
        return sum(self.outcomes)

    def value(self) -> dict[str, Any]:
        """The figures as a JSON value: means in µs (None: nothing is over yet), outcomes without those that never
        came."""
        finished = self.finished
        value: dict[str, Any] = {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "mean_us": _mean(self.seconds, finished),
            "self_us": _mean(self.own_seconds, finished),
            "outcomes": {name: count for name, count in zip(OUTCOMES, self.outcomes, strict=True) if count},
            "answered": self.answered,
            "repeated": self.repeated,
            "raised": self.raised,
            "errors": dict(self.errors),
        }
        if self.sampler is not None:
            value["whole_us"] = _mean(self.whole_seconds, self.wholes)
            value["one_in"] = round(self.sampler.mean, 1)
            value["waiting"] = self.sampler.waiting
        return value


def _mean(seconds: float, count: int) -> float | None:
    return round(seconds / count * 1e6, 1) if count else None
