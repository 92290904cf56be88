"""The service of one endpoint with its breaker, and how its exchanges are judged."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

import trio

from meshcore._native import mypyc_attr
from meshcore._wakeup import Wakeup, clock
from meshcore.abc import HttpService, Status
from meshcore.errors import (
    CircuitOpen,
    ConnectError,
    IdentityError,
    MeshError,
    RemoteProtocolError,
    StreamReset,
)
from meshcore.http.classification import DEFAULT, Verdict
from meshcore.http.grpc import GrpcStatus, is_grpc, status_of
from meshcore.http.retry_after import pause_asked
from meshcore.layers.failure_accrual.breaker import Breaker, Outcome, State
from meshcore.layers.failure_accrual.statistics import BreakerStatistics
from meshcore.metrics.happenings import tell_breaker
from meshcore.metrics.labels import TARGET_LABELS, extra_labels, target_labels
from meshcore.transport.about import About
from meshcore.transport.target import Endpoint

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from meshcore.codec.events import Fields
    from meshcore.http.body import EndOfStream
    from meshcore.http.message import Request, Response
    from meshcore.metrics.feed import Feed
    from meshcore.metrics.registry import Counter, Gauge, Registry
    from meshcore.transport.accrual import Accrual

__all__ = ["Gated", "Group"]

log = logging.getLogger(__name__)

_LIMITED = (429,)
_REFUSED_STREAM = 0x7


@mypyc_attr(native_class=False)
class Group:
    """The endpoints of one backend."""

    __slots__ = ("__weakref__", "gates")

    def __init__(self) -> None:
        self.gates: weakref.WeakSet[Gated] = weakref.WeakSet()

    def open(self) -> int:
        """How many of them take requests."""
        return sum(not gate.shut for gate in self.gates)


@mypyc_attr(native_class=False)
class _Series:
    """The metrics of one endpoint's breaker."""

    __slots__ = ("__weakref__", "_labels", "_registry", "_trips", "open")

    def __init__(self, registry: Registry, direction: str, target: object) -> None:
        self._registry = registry
        self._labels = (target_labels(direction, target), extra_labels(target))
        self._trips: dict[str, Counter] = {}
        self.open: Gauge = registry.gauge(
            "circuit_breaker_open", "Whether an endpoint is left alone because it failed.", *TARGET_LABELS
        ).labels(*self._labels[0], extra=self._labels[1])

    def tripped(self, reason: str) -> None:
        """It opened."""
        cell = self._trips.get(reason)
        if cell is None:
            family = self._registry.counter(
                "circuit_breaker_trips_total",
                "How often an endpoint was taken out because it failed.",
                *TARGET_LABELS,
                "reason",
            )
            cell = self._trips[reason] = family.labels(*self._labels[0], reason, extra=self._labels[1])
        cell.value += 1
        self.open.value = 1


@mypyc_attr(native_class=False)
class Gated:
    """The service of one endpoint, with its breaker: one frame a request."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "__wrapped__",
        "_believed",
        "_changed",
        "_feed",
        "_group",
        "_inner",
        "_now",
        "_series",
        "_target",
        "_tell",
        "_withheld",
        "breaker",
        "cause",
        "shut",
    )

    def __init__(
        self,
        inner: HttpService,
        accrual: Accrual,
        target: object,
        group: Group,
        *,
        registry: Registry | None,
        direction: str,
        rng: random.Random,
        feed: Feed | None = None,
    ) -> None:
        self._inner = inner
        self._target = target
        self._feed = feed
        self._now = clock()
        self.breaker = Breaker(accrual, rng)
        self.shut = False
        self._group = group
        group.gates.add(self)
        self.cause: MeshError | None = None
        self._tell: Callable[[], None] = _nobody
        self._changed = Wakeup()
        self._believed = float("inf")
        self._withheld = 0
        self._series: _Series | None = None
        if registry is not None:
            self._series = _Series(registry, direction, target)
            weakref.finalize(self, setattr, self._series.open, "value", 0)

    def __repr__(self) -> str:
        return f"<FailureAccrual of {self._target} {self.breaker.state.value}>"

    def statistics(self) -> BreakerStatistics:
        """What is known now."""
        breaker, now = self.breaker, self._now()
        breaker.window.advance(now)
        return BreakerStatistics(
            breaker.state.value,
            breaker.failures,
            breaker.window.total,
            breaker.window.success_rate,
            breaker.opened,
            breaker.reason,
            max(breaker.until - now, 0.0) if breaker.state is State.OPEN else 0.0,
            self._withheld,
        )

    def status(self) -> Status:
        """See :class:`meshcore.abc.Gate`."""
        if not self.shut or (self.breaker.state is State.OPEN and self._now() >= self.breaker.until):
            return Status.OPEN
        return Status.CLOSED

    def on_status(self, changed: Callable[[], None], /) -> None:
        """See :class:`meshcore.abc.Gate`."""
        self._tell = changed

    async def run(self) -> None:
        """Says when a penalty is over, and when a long answer is believed."""
        while True:
            breaker, now = self.breaker, self._now()
            deadline = float("inf")
            if breaker.state is State.OPEN and now < breaker.until:
                deadline = breaker.until
            elif breaker.state is State.PROBATION and not self._believe(now):
                deadline = self._believed
            with trio.move_on_at(deadline):
                await self._changed.wait()
            if breaker.state is State.OPEN and self._now() >= breaker.until:
                self._tell()

    async def __call__(self, request: Request, /) -> Response:
        probe = None
        if self.shut and not self._believe(self._now()):
            probe = self._admit()
        try:
            response = await self._inner(request)
        except BaseException as error:
            self._raised(request, error, probe)
            raise
        status = response.status
        grpc = request.version == 20 and request.method == b"POST" and is_grpc(request.headers.raw)
        if probe is None and status < 400 and not grpc and request.classification is None:
            # Most are told apart from failures by nothing but their status.
            response.body.on_end(self._completed)
        else:
            watched = _Watched(self, request, response, grpc, probe)
            if not watched.judged:
                response.body.observe(watched.first_data, watched.ended)
        return response

    def _completed(self, end: EndOfStream) -> None:
        """The end of a response whose status is no failure."""
        error = end.error
        if error is None:
            breaker = self.breaker
            if not breaker.failures and not breaker.accrual.success_rate:
                return
            outcome: Outcome | None = Outcome.SUCCESS
        else:
            outcome = _outcome_of_error(error)
        if outcome is not None:
            self.result(outcome)

    # ----- judgements -----

    def result(self, outcome: Outcome, hint: float = 0.0) -> None:
        """An exchange that was admitted as any other has ended."""
        breaker, now = self.breaker, self._now()
        reason = breaker.result(now, outcome)
        if not reason:
            return
        accrual = breaker.accrual
        if accrual.min_ready_endpoints and self._group.open() <= accrual.min_ready_endpoints:
            self._withheld += 1
            return
        self._tripped(breaker.trip(now, reason, hint))

    def probed(self, probe: int, outcome: Outcome | None, hint: float = 0.0) -> None:
        """The request on probation has ended; None: that says nothing."""
        breaker, now = self.breaker, self._now()
        if breaker.state is not State.PROBATION or probe != breaker.opened:
            # It was believed before its end: now it is an exchange as any other.
            if outcome is not None:
                self.result(outcome, hint)
            return
        self._believed = float("inf")
        if outcome is None:
            breaker.released()
            self._changes()
        elif breaker.probed(now, outcome, hint):
            self._closed()
        else:
            self._tripped(breaker.until - now)

    def responding(self, probe: int) -> None:
        """The request on probation has an answer that goes on: it is believed if nothing is wrong for a while."""
        breaker = self.breaker
        if breaker.state is State.PROBATION and probe == breaker.opened:
            self._believed = self._now() + breaker.accrual.penalty.minimum
            self._changed.wake()

    def _believe(self, now: float) -> bool:
        """Whether an answer that goes on has closed the breaker."""
        if self.breaker.state is not State.PROBATION or now < self._believed:
            return False
        self.probed(self.breaker.opened, Outcome.SUCCESS)
        return True

    def _about(self) -> About:
        return About(endpoint=self._target if isinstance(self._target, Endpoint) else None)

    def _tripped(self, penalty: float) -> None:
        self.shut = True
        reason = self.breaker.reason
        if self._series is not None:
            self._series.tripped(reason)
        log.warning(
            "endpoint %s is left alone for %.1f s: %s", self._target, penalty, reason, extra=self._about()
        )
        self._happened("tripped", f"is left alone for {penalty:.1f} s: {reason}")
        self.cause = self._error()
        self._changes()

    def _closed(self) -> None:
        self.shut = False
        self.cause = None
        if self._series is not None:
            self._series.open.value = 0
        log.info("endpoint %s is well again", self._target, extra=self._about())
        self._happened("recovered", "is well again")
        self._changes()

    def _happened(self, state: str, text: str) -> None:
        tell_breaker(self._feed, state, self.breaker.accrual.group, self._target, text)

    def _changes(self) -> None:
        self._changed.wake()
        self._tell()

    def _error(self) -> CircuitOpen:
        return CircuitOpen(f"endpoint {self._target}: circuit open after {self.breaker.reason}")

    def _admit(self) -> int:
        """The number of the probation that a request is admitted on.

        Raises:
            CircuitOpen: it is not.
        """
        if not self.breaker.admit(self._now()):
            raise self._error()
        self._happened("probation", "is tried with one request")
        # Exactly one: nobody else is sent here meanwhile.
        self._changes()
        return self.breaker.opened

    def _raised(self, request: Request, error: BaseException, probe: int | None) -> None:
        """An exchange has ended without a response."""
        if isinstance(error, MeshError):
            outcome = _outcome_of_error(error)
        elif isinstance(error, trio.Cancelled):
            # By whoever asked; unless it took too long for one try, which is this endpoint's fault.
            late = request.try_until is not None and self._now() >= request.try_until
            outcome = Outcome.FAILURE if late else None
        else:
            outcome = None
        if probe is not None:
            self.probed(probe, outcome)
        elif outcome is not None:
            self.result(outcome)


class _Watched:
    """A response that is judged by more than its status.

    Attributes:
        judged: whether all is known already.
    """

    __slots__ = ("_gate", "_grpc", "_probe", "_request", "_response", "judged")

    def __init__(self, gate: Gated, request: Request, response: Response, grpc: bool, probe: int | None) -> None:
        self._gate = gate
        self._request = request
        self._response = response
        self._grpc = grpc
        self._probe = probe
        self.judged = False
        if not grpc or status_of(response.headers.raw) is not None:
            # A failure is known by the head, and told before whoever tries again asks who is ready.  So is the outcome
            # of a probation: nobody waits for the end of what may be a long body.
            outcome, hint = self._outcome(None, [])
            if outcome is not Outcome.SUCCESS:
                self.judged = True
                self._tell(outcome, hint)
            elif probe is not None:
                self._tell(outcome, hint)

    def first_data(self) -> None:
        """The answer goes on."""
        if self._probe is not None and self._response.body.end is None:
            self._gate.responding(self._probe)

    def ended(self, end: EndOfStream) -> None:
        """What there is to know is known."""
        self._tell(*self._outcome(end.error, end.trailers))

    def _outcome(self, error: BaseException | None, trailers: Fields) -> tuple[Outcome | None, float]:
        response = self._response
        fields = response.headers.raw
        classification = self._request.classification or DEFAULT
        verdict = classification.verdict(response.status, fields, trailers, error, grpc=self._grpc)
        outcome = _outcome(verdict, error)
        if outcome is None or outcome is Outcome.SUCCESS:
            return outcome, 0.0
        return outcome, pause_asked(response.status, fields, trailers)

    def _tell(self, outcome: Outcome | None, hint: float) -> None:
        probe, gate = self._probe, self._gate
        if probe is not None:
            # From here on it is an exchange as any other: if its body breaks, that counts.
            self._probe = None
            gate.probed(probe, outcome, hint)
        elif outcome is not None:
            gate.result(outcome, hint)


def _outcome(verdict: Verdict, error: BaseException | None) -> Outcome | None:
    """What a verdict means for a breaker (B-15)."""
    if verdict.status in _LIMITED or verdict.grpc_status == GrpcStatus.RESOURCE_EXHAUSTED:
        return Outcome.LIMITED
    if verdict.failure:
        return _outcome_of_error(error) if isinstance(error, MeshError) else Outcome.FAILURE
    return None if verdict.abandoned else Outcome.SUCCESS


def _outcome_of_error(error: BaseException) -> Outcome | None:
    """What an error says of the endpoint; None: nothing.

    A connect that failed is what balancers look after; a request that was not processed on a connection that was
    about to close is nobody's failure.
    """
    if not isinstance(error, MeshError) or isinstance(error, ConnectError | IdentityError | RemoteProtocolError):
        return None
    if isinstance(error, StreamReset) and error.h2_code == _REFUSED_STREAM:
        return Outcome.LIMITED
    return Outcome.FAILURE if error.source == "upstream" and not error.retryable else None


def _nobody() -> None:
    """Who is told where there is no balancer above."""
