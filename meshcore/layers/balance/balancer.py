"""The service of one backend: what becomes of each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import trio

from meshcore._wakeup import clock
from meshcore.abc import Status
from meshcore.errors import (
    ConnectError,
    FailFastError,
    LoadShedError,
    MeshError,
    NoEndpoints,
    NotReady,
    StreamTimeout,
    caused,
    inside,
)
from meshcore.http.message import Request, Response
from meshcore.http.pass_through import Framed
from meshcore.http.timeouts import time_is_up
from meshcore.layers.balance.balancing import Balancing
from meshcore.layers.balance.exchange import Exchange
from meshcore.layers.balance.line import Line, Waiter
from meshcore.layers.balance.load import PenaltyPeakEwma
from meshcore.layers.balance.member import HASTE, Member
from meshcore.layers.balance.members import Members
from meshcore.layers.balance.metrics import BalanceMetrics
from meshcore.layers.balance.penalty import PenaltyExchange
from meshcore.layers.balance.refused import all_refused
from meshcore.layers.balance.standing import Standing, finished
from meshcore.layers.balance.statistics import BalanceStatistics
from meshcore.metrics.happenings import tell_backend
from meshcore.stack import resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from meshcore.abc import NewService, Service
    from meshcore.layers.balance.layer import Balance
    from meshcore.layers.balance.ready import Candidate
    from meshcore.transport.target import Backend, Endpoint

__all__ = ["Balancer"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


class Balancer(Framed, Generic[Req, Rsp]):
    """Picks an endpoint for each request, or makes it wait; who the endpoints are is known to :class:`Members`."""

    __slots__ = (
        "__layer__",
        "_capacity",
        "_closed",
        "_error",
        "_exchange",
        "_fail_fast",
        "_feed",
        "_hastened",
        "_members",
        "_metrics",
        "_name",
        "_next",
        "_now",
        "_policy",
        "_ready",
        "_shut",
        "_target",
        "_unready_since",
        "_waiting",
    )

    def __init__(self, layer: Balance, inner: NewService[Endpoint, Req, Rsp], target: Backend) -> None:
        super().__init__(None)
        self.__layer__: object = layer
        self._now = clock()
        self._target = target
        self._name = target.name
        balancing = Balancing.of(resolve(layer.policy, target))
        self._policy = str(balancing.policy)
        picker = balancing.picking().start(layer.rng)
        self._next = picker.pick
        self._ready = picker.ready
        load = balancing.measuring(layer.load)
        self._exchange = PenaltyExchange if isinstance(load, PenaltyPeakEwma) else Exchange
        self._metrics = BalanceMetrics(layer.registry, layer.scope, target.name)
        self._members = Members(self, layer, balancing, load, picker, inner, target, self._metrics)
        self._fail_fast = layer.fail_fast
        self._feed = layer.feed
        self._capacity = layer.capacity
        self._waiting = Line()
        self._unready_since: float | None = None
        self._shut = False
        self._closed = False
        self._error: MeshError | None = None
        self._hastened = float("-inf")

    def __repr__(self) -> str:
        return f"<Balancer of {self._target.name} endpoints={len(self._members.all)} ready={len(self._ready)}>"

    def statistics(self) -> BalanceStatistics:
        """What is known now."""
        return BalanceStatistics(
            self._target.name,
            self._members.statistics(self._now()),
            len(self._waiting),
            self._shut,
            self._members.discovered,
            self._members.discovery(),
            self._members.panicking,
            self._policy,
        )

    def status(self) -> Status:
        """Open: a request would be given an endpoint; busy: it would wait for one; closed: it would fail at once."""
        if len(self._ready):
            return Status.OPEN
        return Status.CLOSED if self._hopeless else Status.BUSY

    def in_use(self) -> bool:
        """Whether something is in flight, or waits for an endpoint."""
        return len(self._waiting) > 0 or self._members.in_flight()

    def retarget(self, target: Backend, /) -> None:
        """The backend has other endpoints now, or they are found elsewhere: what did not change keeps all that it has.
        What else may differ between the two is not looked at."""
        self._target = target
        self._members.retarget(target)

    def services(self) -> dict[str, Service[Any, Any]]:
        """The live services below, by endpoint."""
        return {str(key): member.service for key, member in self._members.all.items() if member.service is not None}

    # ----- a request -----

    def take(self, request: Any, /) -> Awaitable[Any] | None:
        """Every request, or connection."""
        return self._answer(request) if isinstance(request, Request) else self._carry(request)

    async def _answer(self, request: Request) -> Response:
        now = self._now()
        request.backend = self._name
        found = None if self._waiting else self._next(now, request)
        if found is None or (request.avoid and found.endpoint in request.avoid):
            found = await self._choose(request.avoid, request, None, 0.0)
            now = self._now()
        trace = request.trace_mark
        if trace is not None and trace.sampled:
            trace.backend = self._target.name
        member = cast("Standing", found)
        deadline = 0.0
        while True:
            request.endpoint = member.endpoint
            load = member.load
            load.begin(now)
            member.in_flight += 1
            try:
                service: Any = member.service
                response: Response = await service(request)
            except (ConnectError, NotReady) as error:
                load.pending -= 1
                finished(member)
                self._give_up(member, error)
                deadline = deadline or self._now() + self._fail_fast
                member = cast("Standing", await self._choose(request.avoid, request, error, deadline))
                now = self._now()
            except Exception as error:
                load.end(self._now(), now, False)
                member.failures += 1
                finished(member)
                inside(error, f"backend {self._target.name}")
                raise
            except BaseException:
                load.end(self._now(), now, False)
                finished(member)
                raise
            else:
                break
        if response.status < 500:
            member.successes += 1
        else:
            member.failures += 1
        exchange = self._exchange(member, now, self._now, response)
        response.body.observe(exchange.first_data, exchange.ended)
        return response

    async def _carry(self, connection: Req) -> Rsp:
        """A connection, which is load for as long as it lives."""
        deadline = 0.0
        cause: MeshError | None = None
        while True:
            member: Any = None
            if not self._waiting and cause is None:
                member = self._next(self._now(), connection)
            if member is None:
                member = await self._choose((), connection, cause, deadline)
            member.load.hold()
            member.in_flight += 1
            try:
                result: Rsp = await member.service(connection)
            except (ConnectError, NotReady) as error:
                cause = error
                deadline = deadline or self._now() + self._fail_fast
                self._give_up(member, error)
            except Exception as error:
                member.failures += 1
                inside(error, f"backend {self._target.name}")
                raise
            else:
                member.successes += 1
                return result
            finally:
                member.load.release()
                finished(member)

    async def _choose(
        self, avoid: Sequence[Endpoint], request: object, cause: MeshError | None, deadline: float
    ) -> Any:
        """An endpoint, waiting for one where none is ready, or others wait already; one to avoid only where there is
        no other.

        Args:
            avoid: endpoints to avoid.
            request: what it is for.
            cause: why the endpoint before it was not the one.
            deadline: the end of this request's patience; 0.0: none yet.

        Raises:
            FailFastError, NoEndpoints: none became ready in time.
            StreamTimeout: nor before the request's own limit (R-17).
            LoadShedError: too many wait already.
        """
        if not self._waiting:
            member: Any = self._pick(avoid, request)
            if member is not None:
                if not deadline or self._now() < deadline:
                    return member
                raise self._failure(cause) from cause
        now = self._now()
        if now - self._hastened >= HASTE:
            self._hastened = now
            for other in self._members.all.values():
                other.hasten()
        if isinstance(request, Request) and request.elsewhere:
            # Another backend may take it.
            raise self._failure(cause)
        if len(self._waiting) >= self._capacity and not self._hopeless:
            raise LoadShedError(f"backend {self._target.name}: {self._capacity} requests wait for an endpoint already")
        # A limit of the request's own may end before everybody's patience does.
        expires = time_is_up(request, now) if isinstance(request, Request) else float("inf")
        waiter = self._waiting.join(avoid, request)
        try:
            while waiter.member is None:
                await self._wait(waiter, cause, min(deadline or expires, expires))
            return waiter.member
        except FailFastError as error:
            if self._now() >= expires:
                late = StreamTimeout(f"backend {self._target.name}: no endpoint within the request timeout")
                raise caused(late, error) from error
            raise
        finally:
            self._waiting.leave(waiter, self._take)
            self._metrics.waited_total.value += 1
            self._metrics.waits.observe(self._now() - now)

    def _pick(self, avoid: Sequence[Endpoint], request: object) -> Candidate | None:
        """A ready endpoint, if there is one; one to avoid only where there is no other."""
        member = self._ready.outside(avoid) if avoid and len(self._ready) else None
        if member is not None:
            self._ready.give(member)
            return member
        return self._next(self._now(), request)

    def _take(self, waiter: Waiter) -> Candidate | None:
        """What somebody who waits is given."""
        return self._pick(waiter.avoid, waiter.request)

    @property
    def _hopeless(self) -> bool:
        """Whether waiting is of no use."""
        return self._shut or self._closed or (self._members.final and not self._members.all)

    async def _wait(self, waiter: Waiter, cause: MeshError | None, deadline: float) -> None:
        """Waits until *waiter* may have been given an endpoint."""
        if self._hopeless:
            raise self._failure(cause)
        refused = all_refused(self._target.name, self._members.all.values())
        if refused is not None:
            raise refused
        since = now = self._now()
        if not len(self._ready):
            if self._unready_since is None:
                self._unready_since = now
            since = self._unready_since
        shuts = since + self._fail_fast
        with trio.move_on_at(min(shuts, deadline)):
            await waiter.wakeup.wait()
            return
        now = self._now()
        if waiter.member is not None:
            return
        if now >= deadline:
            raise self._failure(cause)
        if not len(self._ready) and self._unready_since is not None and now >= self._unready_since + self._fail_fast:
            # The gate shuts: who waits fails with this one.
            self._shut = True
            self._metrics.shut_total.value += 1
            tell_backend(self._feed, self._target.name, available=False)
            self._waiting.wake_all()
            raise self._failure(cause)

    def _failure(self, cause: MeshError | None) -> MeshError:
        name = self._target.name
        members = self._members.all.values()
        error: MeshError
        if self._closed:
            error = LoadShedError(f"backend {name}: the proxy is shutting down")
        elif self._members.discovered and not any(member.endpoint.weight > 0 for member in members):
            error = NoEndpoints(f"backend {name}: no endpoints")
        else:
            error = FailFastError(f"backend {name}: service in fail-fast")
        seen = (member.cause for member in members)
        error.__cause__ = cause or next(filter(None, seen), None) or self._error or self._unknown()
        return error

    def _unknown(self) -> Exception | None:
        """Why nobody is known, if discovery tells."""
        told = self._members.discovery()
        problem = getattr(told, "error", "")
        return LookupError(problem) if problem else None

    def _give_up(self, member: Standing, error: MeshError) -> None:
        """An endpoint did not take what it was given."""
        self._error = error
        self._members.give_up(cast("Member", member), error)
        self.failed()

    # ----- what its endpoints tell it -----

    def wanted(self) -> bool:
        """Whether requests wait for an endpoint."""
        return len(self._waiting) > 0

    def failed(self) -> None:
        """An endpoint could not be connected: those who wait are told if that is of no use any more."""
        if self._waiting and all_refused(self._target.name, self._members.all.values()):
            self._waiting.wake_all()

    def added(self) -> None:
        """An endpoint can take requests: those who wait get it, in their order (B-11)."""
        self._unready_since = None
        if self._shut:
            self._shut = False
            self._metrics.opened_total.value += 1
            tell_backend(self._feed, self._target.name, available=True)
        self._waiting.hand_out(self._take)

    def settled(self) -> None:
        """Discovery has nothing more to say, or names nobody any more: those who wait look whether that is of use."""
        self._waiting.wake_all()

    async def run(self) -> None:
        """The balancer's task: discovery, and a task for each endpoint."""
        try:
            with self._metrics.watching(lambda: (len(self._ready), len(self._members.all), len(self._waiting))):
                await self._members.run()
        finally:
            self._closed = True
            self._waiting.wake_all()
