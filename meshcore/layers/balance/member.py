"""One endpoint of a balancer: its own task, its state, its numbers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs
import trio

from meshcore._unwrap import gates, ready_source
from meshcore._wakeup import Wakeup
from meshcore.abc import Status
from meshcore.errors import MeshError
from meshcore.layers.balance.standing import Standing
from meshcore.transport.about import About
from meshcore.transport.target import Address

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from meshcore.abc import Gate, NewService
    from meshcore.layers.balance.load import EndpointLoad
    from meshcore.transport.backoff import Backoff
    from meshcore.transport.connection import Owner
    from meshcore.transport.target import Endpoint

__all__ = ["HASTE", "EndpointStatistics", "Member", "State"]

log = logging.getLogger(__name__)

HASTE = 1.0
"""Seconds between probes at the most while requests have nowhere to go."""

_FIRST_SHARE = 0.1
_STEPS = 20

State: TypeAlias = Literal["connecting", "ready", "out", "draining"]


@attrs.frozen
class EndpointStatistics:
    """What a balancer knows of one endpoint.

    Attributes:
        address: where it is.
        state: ``"connecting"`` (new, not connected yet), ``"ready"``, ``"out"`` (it could not be connected, and
            is probed), ``"draining"`` (removed, its last exchanges go on).
        weight: its share; 0 takes no new requests.
        load: what is compared.
        rtt: the estimate of a round trip in seconds, as of the last answer.
        pending: requests without a first byte of an answer.
        in_flight: requests whose answers have not ended.
        successes, failures: responses; failures are those with a status of 500 or more, and errors.
        age: seconds since it was added.
        error: why it is out, or not open; ``""`` otherwise.
        status: what its gates say (:class:`meshcore.abc.Gate`): ``"open"``, ``"busy"`` or ``"closed"``.
        zone: where it runs; ``""`` if unknown.
        labels: what discovery says of it.
        identity: who has to answer there; None where that is not known.
        secured: whether connections to it are TLS.
        mesh: whether the proxy's own identity is shown in it.
        no_tls: why they are not TLS, as in metrics; ``""`` where they are.
    """

    address: Address
    state: State
    weight: float
    load: float
    rtt: float
    pending: int
    in_flight: int
    successes: int
    failures: int
    age: float
    error: str
    status: str = "open"
    zone: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    identity: str | None = None
    secured: bool = False
    mesh: bool = False
    no_tls: str = ""


class Pool(Protocol):
    """What an endpoint needs of its balancer."""

    backoff: Backoff
    drain: float
    rng: random.Random
    owner: Owner | None
    inner: NewService[Endpoint, Any, Any]
    slow_start: float

    def wanted(self) -> bool:
        """Whether requests wait for an endpoint."""
        ...

    def failed(self) -> None:
        """It could not be connected."""

    def lost(self, member: Member, error: MeshError | None, /) -> None:
        """It is out; None: it is connected again."""

    def readied(self, member: Member, /) -> None:
        """It can take requests."""

    def place(self, member: Member, /) -> None:
        """Whether it can take requests may have changed."""

    def reshare(self, member: Member, weight: float, /) -> None:
        """Its share is to be another."""

    def ended(self, member: Member, /) -> None:
        """Its task is over."""


class Member(Standing):
    """One endpoint; its service and what that starts live under its own task."""

    __slots__ = (
        "_failed_probes",
        "_gates",
        "_judged",
        "_pool",
        "_scope",
        "_started",
        "_successes_before",
        "_wakeup",
        "added",
        "error",
        "hoped_for",
        "open",
        "state",
        "status",
    )

    def __init__(self, pool: Pool, endpoint: Endpoint, load: EndpointLoad, now: float) -> None:
        super().__init__(endpoint, load)
        self._pool = pool
        self.added = now
        self.state: State = "connecting"
        self.error: MeshError | None = None
        self.status = Status.OPEN
        self._gates: list[Gate] = []
        # Whether they have ever said anything but "closed".
        self._judged = False
        # As its balancer has counted it.
        self.open = self.hoped_for = False
        # Since when its share grows; None: it has all of it.
        self._started: float | None = None
        self._failed_probes = 0
        self._successes_before = 0
        self._scope: trio.CancelScope | None = None
        self._wakeup = Wakeup()

    def __repr__(self) -> str:
        return f"<Member {self.endpoint} {self.state} in_flight={self.in_flight}>"

    def statistics(self, now: float) -> EndpointStatistics:
        """What is known now."""
        endpoint = self.endpoint
        tls = endpoint.tls
        return EndpointStatistics(
            address=endpoint.address,
            state=self.state,
            weight=self.weight,
            load=self.load.load(now, 1.0),
            rtt=self.load.rtt,
            pending=self.load.pending,
            in_flight=self.in_flight,
            successes=self.successes,
            failures=self.failures,
            age=now - self.added,
            error=str(self.cause or ""),
            status=self.status.name.lower(),
            zone=endpoint.zone,
            labels=endpoint.labels,
            identity=None if tls is None else tls.identity or tls.server_name,
            secured=tls is not None,
            mesh=tls is not None and tls.mesh,
            no_tls="" if tls is not None else endpoint.no_tls or "not_provided_by_service_discovery",
        )

    @property
    def cause(self) -> MeshError | None:
        """Why it takes no requests, where that is known."""
        if self.error is not None or self.status is Status.OPEN:
            return self.error
        return next((gate.cause for gate in self._gates if gate.cause is not None), None)

    def reweigh(self, endpoint: Endpoint, now: float) -> None:
        """It has another weight now."""
        self.endpoint = endpoint
        self.weight = self.share(now)

    def start_slowly(self, now: float) -> None:
        """It has become ready: its share grows from now on, where that is wanted."""
        if self._pool.slow_start:
            self._started = now
            self.weight = self.share(now)
            self._wakeup.wake()

    def share(self, now: float) -> float:
        """What is its due at the moment."""
        part = 1.0
        if self._started is not None:
            part = (now - self._started) / self._pool.slow_start
            if part >= 1.0:
                self._started, part = None, 1.0
        return self.endpoint.weight * max(part, _FIRST_SHARE)

    async def _grow(self) -> None:
        """The next step of a slow start, or what comes before it."""
        with trio.move_on_after(self._pool.slow_start / _STEPS):
            await self._wakeup.wait()
            return
        self._pool.reshare(self, self.share(trio.current_time()))

    @property
    def undecided(self) -> bool:
        """Whether nothing is known of it yet: it is being connected for the first time, or its gates have not opened
        so far."""
        if self.weight <= 0 or self.removed:
            return False
        return self.state == "connecting" or (self.state == "ready" and not self._judged)

    def _judge(self) -> None:
        """A gate opens or shuts: the worst one counts."""
        before = self.status
        self.status = min((gate.status() for gate in self._gates), default=Status.OPEN)
        self._judged = self._judged or self.status is not Status.CLOSED
        if self.status is before:
            return
        if self.status is Status.OPEN and self.state == "ready":
            self._pool.readied(self)
        else:
            self._pool.place(self)

    def refused(self) -> None:
        """A gate was shut for a request that it was given; the balancer has taken it off its list.  A gate that says
        that it is open all the same is looked at again from its own task: asked at once, it could go on for ever."""
        self._judge()
        self._wakeup.wake()

    def take_out(self, error: MeshError) -> None:
        """It could not be connected: it is probed until it can.  The balancer has taken it off its list."""
        if self.state == "ready":
            if self.successes > self._successes_before:
                self._failed_probes = 0
            self.state = "out"
            self._failed_probes += 1
            self._wakeup.wake()
        self.error = error

    def _wanted(self) -> bool:
        return not self.removed

    def hasten(self) -> None:
        """Probes at once, since requests have nowhere to go."""
        if self.state == "out":
            self._wakeup.wake()

    def remove(self) -> None:
        """It is not wanted any more: its task ends once nothing is in flight."""
        self.state = "draining"
        self.removed = True
        if not self.in_flight and self._scope is not None:
            self._scope.cancel()
        self._wakeup.wake()

    def drained(self) -> None:
        """See :class:`Standing`."""
        self._wakeup.wake()

    async def run(self) -> None:
        """The endpoint's task: a crash under it is counted, and it is made anew after a backoff."""
        try:
            while self._wanted():
                await self._live()
                if self._wanted():
                    # What it had in flight broke with it, so it is not waited for.
                    self.service = None
                    await self._pause()
                    if self._wanted():
                        self.state = "connecting"
        finally:
            self._pool.ended(self)

    async def _live(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                self.service = service = self._pool.inner.new_service(self.endpoint, nursery)
                self._gates = gates(service)
                self._judged = False
                for gate in self._gates:
                    gate.on_status(self._judge)
                self._judge()
                await self._keep_ready(ready_source(service))
                nursery.cancel_scope.cancel()
        except* Exception as group:
            self._crashed(group)
        finally:
            self._scope = None

    def _crashed(self, group: BaseExceptionGroup[Exception]) -> None:
        single: BaseException = group
        while isinstance(single, BaseExceptionGroup) and len(single.exceptions) == 1:
            single = single.exceptions[0]
        where = f"endpoint {self.endpoint}"
        if self._pool.owner is not None:
            self._pool.owner.crashed(single, where)
        else:
            log.error("crash in %s: %s", where, single, exc_info=single, extra=About(endpoint=self.endpoint))
        self._failed_probes += 1
        if self._wanted():
            self.state = "out"
            self._pool.ended(self)

    async def _keep_ready(self, probe: Callable[[], Awaitable[None]] | None) -> None:
        """Connects it at first and whenever it is out; returns when it was removed and has drained."""
        while self._wanted():
            if self.state == "ready":
                await (self._wakeup.wait() if self._started is None else self._grow())
                if self.state == "ready":
                    self._pool.place(self)
                continue
            if self.state == "out":
                await self._pause()
            if self._wanted() and (probe is None or await self._probed(probe)):
                if self.state == "out":
                    self._pool.lost(self, None)
                self.state = "ready"
                self.error = None
                self._successes_before = self.successes
                self._pool.readied(self)
        with trio.move_on_after(self._pool.drain):
            while self.in_flight:
                await self._wakeup.wait()

    async def _probed(self, probe: Callable[[], Awaitable[None]]) -> bool:
        try:
            await probe()
        except MeshError as error:
            self.error = error
            self._failed_probes += 1
            if self.state == "connecting":
                self.state = "out"
                log.info(
                    "endpoint %s cannot be connected: %s", self.endpoint, error, extra=About(endpoint=self.endpoint)
                )
                self._pool.lost(self, error)
                self._pool.place(self)
            self._pool.failed()
            return False
        return self._wanted()

    async def _pause(self) -> None:
        """The backoff before the next probe (B-20), cut short where it is wanted or not wanted any more."""
        pool = self._pool
        delay = pool.backoff.delay(max(self._failed_probes, 1), pool.rng)
        self._wakeup.clear()
        with trio.move_on_after(min(delay, HASTE) if pool.wanted() else delay):
            await self._wakeup.wait()
