"""The layer that spreads requests over a backend's endpoints."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, cast, overload

import attrs
import trio

from meshcore._wakeup import clock
from meshcore.abc import NewAccept, NewHttp, NewService, Resolve, Service, Status
from meshcore.errors import ConnectError, FailFastError, LoadShedError, MeshError, NoEndpoints
from meshcore.http.message import Request
from meshcore.layers.balance.line import Line, Waiter
from meshcore.layers.balance.load import Load, PeakEwma, Pending
from meshcore.layers.balance.member import HASTE, Member
from meshcore.layers.balance.p2c import P2c
from meshcore.layers.balance.ready import Candidate, Policy
from meshcore.layers.balance.refused import all_refused
from meshcore.layers.balance.round_robin import RoundRobin
from meshcore.layers.balance.statistics import BalanceStatistics
from meshcore.resolve.static import Static
from meshcore.resolve.update import changes, identity
from meshcore.stack import Param, resolve
from meshcore.transport.backoff import Backoff
from meshcore.transport.connection import Owner
from meshcore.transport.target import Backend, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from meshcore.http.body import EndOfStream

__all__ = ["POLICIES", "Balance", "PolicyName"]

log = logging.getLogger(__name__)

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")

PolicyName = Literal["p2c-ewma", "round-robin", "least-request"]
POLICIES: dict[str, Policy] = {"p2c-ewma": P2c(), "round-robin": RoundRobin(), "least-request": P2c(tolerance=1.0)}
"""The policies that have names."""

_SOME = 8


def _known(balance: object, attribute: object, value: object) -> None:
    if isinstance(value, str) and value not in POLICIES:
        raise ValueError(f"unknown policy {value!r}; the policies are: {', '.join(POLICIES)}")


@attrs.frozen
class Balance:
    """Spreads requests (or connections) over the endpoints that discovery names, each by itself.

    New endpoints are connected before they are picked (B-06).  One that cannot be connected is taken out
    and probed with backoff; the request goes to another one at once, or waits for one (B-21) behind those that
    wait already (B-11), at most *fail_fast* seconds: then everyone who waits, and everyone who comes, fails at
    once with ``FailFastError`` until an endpoint is ready (B-09).  Endpoints in ``request.avoid`` are taken only where
    there is no other.  A removed endpoint finishes what it has in flight.

    Attributes:
        resolve: who the endpoints are; by default the backend's own fixed set.
        load: how load is measured.
        policy: ``"p2c-ewma"``, ``"round-robin"``, ``"least-request"``, a policy of your own, or a function of the
            target that gives one of these.
        fail_fast: seconds that a request waits for an endpoint (B-08).
        capacity: requests that may wait; more are shed (B-08).
        backoff: between probes of an endpoint that is out (B-20).
        drain: seconds that a removed endpoint's exchanges are given.
        rng: randomness, for tests.
        owner: who is told of crashes; None: they are only logged.
        name: the role, where a stack has more than one.
    """

    per: ClassVar[str] = "endpoint"

    resolve: Resolve[Backend] = attrs.field(factory=Static)
    load: Load = attrs.field(factory=PeakEwma)
    policy: Param[PolicyName | Policy] = attrs.field(default="p2c-ewma", validator=_known)
    fail_fast: float = attrs.field(default=3.0, validator=attrs.validators.gt(0))
    capacity: int = attrs.field(default=10_000, validator=attrs.validators.ge(0))
    backoff: Backoff = attrs.field(factory=Backoff, repr=False)
    drain: float = attrs.field(default=120.0, validator=attrs.validators.ge(0), repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)
    owner: Owner | None = attrs.field(default=None, repr=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    # The first says it all; pyright's inference needs the two that are used.
    @overload
    def layer(self, inner: NewService[Endpoint, Req, Rsp], /) -> NewService[Backend, Req, Rsp]: ...  # type: ignore[overload-overlap]
    @overload
    def layer(self, inner: NewHttp[Endpoint], /) -> NewHttp[Backend]: ...
    @overload
    def layer(self, inner: NewAccept[Endpoint], /) -> NewAccept[Backend]: ...
    def layer(self, inner: NewService[Endpoint, Any, Any], /) -> NewService[Backend, Any, Any]:
        """Balances over the services that *inner* makes."""
        return _NewBalanced(self, inner)


class _NewBalanced(Generic[Req, Rsp]):
    """Makes balancers."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: Balance, inner: NewService[Endpoint, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: Backend, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The balancer of a backend; discovery and its endpoints live in one task of *nursery*."""
        balancer = _Balancer[Req, Rsp](self._layer, self._inner, target)
        nursery.start_soon(balancer.run, name=f"balancer of {target.name}")
        return balancer


class _Balancer(Generic[Req, Rsp]):
    """The service of one backend."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "_capacity",
        "_closed",
        "_discovered",
        "_draining",
        "_error",
        "_fail_fast",
        "_final",
        "_hastened",
        "_load",
        "_members",
        "_now",
        "_nursery",
        "_picker",
        "_ready",
        "_resolve",
        "_shut",
        "_target",
        "_unready_since",
        "_waiting",
        "backoff",
        "drain",
        "inner",
        "owner",
        "rng",
    )

    def __init__(self, layer: Balance, inner: NewService[Endpoint, Req, Rsp], target: Backend) -> None:
        self.__layer__ = layer
        self._now = clock()
        self.inner = inner
        self.backoff = layer.backoff
        self.drain = layer.drain
        self.rng = layer.rng
        self.owner = layer.owner
        self._target = target
        self._resolve = layer.resolve
        # The policy of this name counts requests, whatever they take.
        chosen: PolicyName | Policy = resolve(layer.policy, target)
        self._load: Load = Pending() if chosen == "least-request" else layer.load
        policy = POLICIES[chosen] if isinstance(chosen, str) else chosen
        self._picker = policy.start(layer.rng)
        self._ready = self._picker.ready
        self._fail_fast = layer.fail_fast
        self._capacity = layer.capacity
        self._members: dict[Endpoint, Member] = {}
        self._draining: set[Member] = set()
        self._nursery: trio.Nursery | None = None
        self._waiting = Line()
        self._unready_since: float | None = None
        self._shut = False
        self._closed = False
        self._discovered = False
        self._final = False
        self._error: MeshError | None = None
        self._hastened = float("-inf")

    def __repr__(self) -> str:
        return f"<Balancer of {self._target.name} endpoints={len(self._members)} ready={len(self._ready)}>"

    def statistics(self) -> BalanceStatistics:
        """What is known now."""
        now = self._now()
        members = [*self._members.values(), *self._draining]
        return BalanceStatistics(
            self._target.name,
            tuple(member.statistics(now) for member in members),
            len(self._waiting),
            self._shut,
            self._discovered,
        )

    def status(self) -> Status:
        """Open: a request would be given an endpoint; busy: it would wait for one; closed: it would fail at once."""
        if len(self._ready):
            return Status.OPEN
        return Status.CLOSED if self._hopeless else Status.BUSY

    def services(self) -> dict[str, Service[Any, Any]]:
        """The live services below, by endpoint."""
        return {str(key): member.service for key, member in self._members.items() if member.service is not None}

    # ----- a request -----

    async def __call__(self, request: Req, /) -> Rsp:
        if not isinstance(request, Request):
            return await self._carry(request)
        now = self._now()
        member: Any = None if self._waiting else self._picker.pick(now)
        if member is None or (request.avoid and member.endpoint in request.avoid):
            member = await self._choose(request.avoid, None, 0.0, request.elsewhere)
            now = self._now()
        deadline = 0.0
        while True:
            request.endpoint = member.endpoint
            load = member.load
            load.begin(now)
            member.in_flight += 1
            try:
                response: Any = await member.service(request)
            except ConnectError as error:
                load.pending -= 1
                member.finished()
                self._take_out(member, error)
                deadline = deadline or self._now() + self._fail_fast
                member = await self._choose(request.avoid, error, deadline, request.elsewhere)
                now = self._now()
            except Exception:
                load.end(self._now(), now, False)
                member.failures += 1
                member.finished()
                raise
            except BaseException:
                load.end(self._now(), now, False)
                member.finished()
                raise
            else:
                break
        if response.status < 500:
            member.successes += 1
        else:
            member.failures += 1
        exchange = _Exchange(member, now, self._now)
        body = response.body
        body.observe(exchange.first_data, exchange.ended)
        return cast("Rsp", response)

    async def _carry(self, connection: Req) -> Rsp:
        """A connection, which is load for as long as it lives."""
        deadline = 0.0
        cause: MeshError | None = None
        while True:
            member: Any = None if self._waiting or cause is not None else self._picker.pick(self._now())
            if member is None:
                member = await self._choose((), cause, deadline)
            member.load.hold()
            member.in_flight += 1
            try:
                result: Rsp = await member.service(connection)
            except ConnectError as error:
                cause = error
                deadline = deadline or self._now() + self._fail_fast
                self._take_out(member, error)
            except Exception:
                member.failures += 1
                raise
            else:
                member.successes += 1
                return result
            finally:
                member.load.release()
                member.finished()

    async def _choose(
        self, avoid: Sequence[Endpoint], cause: MeshError | None, deadline: float, elsewhere: bool = False
    ) -> Any:
        """An endpoint, waiting for one where none is ready, or others wait already; one to avoid only where there is
        no other.

        Args:
            cause: why the endpoint before it was not the one.
            deadline: the end of this request's patience; 0.0: none yet.
            elsewhere: it has none: another backend may take it.

        Raises:
            FailFastError, NoEndpoints: none became ready in time.
            LoadShedError: too many wait already.
        """
        if not self._waiting:
            member: Any = self._take(avoid)
            if member is not None:
                if not deadline or self._now() < deadline:
                    return member
                raise self._failure(cause) from cause
        now = self._now()
        if now - self._hastened >= HASTE:
            self._hastened = now
            for other in self._members.values():
                other.hasten()
        if elsewhere:
            raise self._failure(cause)
        if len(self._waiting) >= self._capacity and not self._hopeless:
            raise LoadShedError(f"backend {self._target.name}: {self._capacity} requests wait for an endpoint already")
        waiter = self._waiting.join(avoid)
        try:
            while waiter.member is None:
                await self._wait(waiter, cause, deadline)
            return waiter.member
        finally:
            self._waiting.leave(waiter, self._take)

    def _take(self, avoid: Sequence[Endpoint]) -> Candidate | None:
        """A ready endpoint, if there is one; one to avoid only where there is no other."""
        member = self._ready.outside(avoid) if avoid and len(self._ready) else None
        if member is not None:
            self._ready.give(member)
            return member
        return self._picker.pick(self._now())

    @property
    def _hopeless(self) -> bool:
        """Whether waiting is of no use."""
        return self._shut or self._closed or (self._final and not self._members)

    async def _wait(self, waiter: Waiter, cause: MeshError | None, deadline: float) -> None:
        """Waits until *waiter* may have been given an endpoint."""
        if self._hopeless:
            raise self._failure(cause)
        refused = all_refused(self._target.name, self._members.values())
        if refused is not None:
            raise refused
        since = now = self._now()
        if not len(self._ready):
            if self._unready_since is None:
                self._unready_since = now
            since = self._unready_since
        shuts = since + self._fail_fast
        with trio.move_on_at(min(shuts, deadline) if deadline else shuts):
            await waiter.wakeup.wait()
            return
        now = self._now()
        if waiter.member is not None:
            return
        if deadline and now >= deadline:
            raise self._failure(cause)
        if not len(self._ready) and self._unready_since is not None and now >= self._unready_since + self._fail_fast:
            # The gate shuts: who waits fails with this one.
            self._shut = True
            self._waiting.wake_all()
            raise self._failure(cause)

    def _failure(self, cause: MeshError | None) -> MeshError:
        name = self._target.name
        error: MeshError
        if self._closed:
            error = LoadShedError(f"backend {name}: the proxy is shutting down")
        elif self._discovered and not any(member.weight > 0 for member in self._members.values()):
            error = NoEndpoints(f"backend {name}: no endpoints")
        else:
            error = FailFastError(f"backend {name}: service in fail-fast")
        seen = (member.error for member in self._members.values())
        error.__cause__ = cause or next(filter(None, seen), None) or self._error
        return error

    def _take_out(self, member: Member, error: MeshError) -> None:
        self._error = error
        self._ready.take_back(member)
        if member.slot >= 0:
            self._ready.remove(member)
            log.info("endpoint %s is out: %s", member.endpoint, error)
        member.failures += 1
        member.take_out(error)
        self.failed()

    # ----- endpoints -----

    def wanted(self) -> bool:
        """Whether requests wait for an endpoint."""
        return len(self._waiting) > 0

    def failed(self) -> None:
        """An endpoint could not be connected: those who wait are told if that is of no use any more."""
        if self._waiting and all_refused(self._target.name, self._members.values()):
            self._waiting.wake_all()

    def readied(self, member: Member, /) -> None:
        """An endpoint can take requests: those who wait get it, in their order (B-11)."""
        if member.weight > 0 and member.slot < 0:
            now = self._now()
            # A few are enough to tell what is usual here, however many there are.
            some = [other.load.estimate(now) for other in self._ready.members[:_SOME]]
            member.load.anew(now, sum(some) / len(some) if some else None)
            self._add(member)

    def _add(self, member: Member) -> None:
        self._ready.add(member)
        self._unready_since = None
        self._shut = False
        self._waiting.hand_out(self._take)

    def ended(self, member: Member, /) -> None:
        """An endpoint's task is over, or has to begin anew."""
        self._ready.remove(member)
        self._draining.discard(member)

    def publish(self, endpoints: Sequence[Endpoint], /) -> None:
        """The whole set of endpoints, from discovery; what did not change keeps all that it has."""
        nursery = self._nursery
        if nursery is None:
            return
        self._discovered = True
        update = changes([member.endpoint for member in self._members.values()], endpoints)
        for endpoint in update.removed:
            member = self._members.pop(identity(endpoint))
            self._ready.remove(member)
            self._draining.add(member)
            member.remove()
        for endpoint in update.weighted:
            self._reweigh(self._members[identity(endpoint)], endpoint)
        now = self._now()
        for endpoint in update.added:
            member = self._members[identity(endpoint)] = Member(self, endpoint, self._load.start(now), now)
            nursery.start_soon(member.run, name=f"endpoint {endpoint}")

    def _reweigh(self, member: Member, endpoint: Endpoint) -> None:
        was_ready = member.slot >= 0
        self._ready.remove(member)
        member.endpoint = endpoint
        member.weight = endpoint.weight
        if was_ready and member.weight > 0:
            # Only its share is another: what is known of its load holds.
            self._add(member)
        elif member.state == "ready":
            self.readied(member)

    async def run(self) -> None:
        """The balancer's task: discovery, and a task for each endpoint."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._watch()
                self._final = True
                if not self._members:
                    self._waiting.wake_all()
                # Discovery may have handed its `publish` on.
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._closed = True
            self._waiting.wake_all()

    async def _watch(self) -> None:
        failures = 0
        while True:
            try:
                await self._resolve.watch(self._target, self.publish)
            except Exception as error:
                # The last good set stays.
                failures += 1
                where = f"discovery of backend {self._target.name}"
                if self.owner is not None:
                    self.owner.crashed(error, where)
                else:
                    log.error("crash in %s: %s", where, error, exc_info=error)
                await trio.sleep(self.backoff.delay(failures, self.rng))
            else:
                return


class _Exchange:
    """What is to be told to an endpoint's record when a body begins and ends."""

    __slots__ = ("_member", "_now", "_started")

    def __init__(self, member: Member, started: float, now: Callable[[], float]) -> None:
        self._member = member
        self._started = started
        self._now = now

    def first_data(self) -> None:
        """The sample ends here (B-03)."""
        self._member.load.end(self._now(), self._started, True)

    def ended(self, end: EndOfStream) -> None:
        """The exchange ends here."""
        self._member.finished()
