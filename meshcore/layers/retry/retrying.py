"""The retrying service of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from meshcore._native import mypyc_attr
from meshcore._unwrap import status_source
from meshcore._wakeup import Wakeup
from meshcore.abc import HttpService, Status
from meshcore.errors import FailFastError, MeshError, ResponseTimeout
from meshcore.http.body import Chunks, Full
from meshcore.http.grpc import is_grpc, pass_on_deadline, status_of
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.http.replay import Replay, Whole
from meshcore.http.retry_on import RetryOn
from meshcore.http.timeouts import time_is_up
from meshcore.layers.retry.latencies import Latencies
from meshcore.layers.retry.peek import Peeked, peek
from meshcore.layers.retry.policy import may_repeat, may_retry
from meshcore.layers.retry.statistics import RetryCounts, RetryStatistics
from meshcore.transport.backoff import Backoff

if TYPE_CHECKING:
    import random

    from meshcore.codec.events import Fields
    from meshcore.http.hedge import Hedge
    from meshcore.http.overrides import Overrides
    from meshcore.layers.retry.budget import Budget, Tokens
    from meshcore.metrics.registry import Registry

__all__ = ["Plan", "Retrying"]

_now = trio.current_time
_PIECES = 4
"""Pieces of a response that is thrown away that are read, so that an HTTP/1 connection can be kept."""
_PAUSES = Backoff(0.025, 0.25, 1.0)
_NOTHING = RetryOn(connect_failure=False, reset=False, refused=False, timeout=False)


@attrs.frozen
class Plan:
    """How a request is tried again.

    Attributes:
        attempts: further tries.
        on: what is tried again.
        timeout: seconds for each try but the last one; None: no limit.
        backoff: the pause before a further try; None: none.
    """

    attempts: int
    on: RetryOn
    timeout: float | None
    backoff: Backoff | None

    def overridden(self, overrides: Overrides) -> Plan:
        """The plan of a request that has wishes of its own (R-15)."""
        if not overrides.retries:
            return self
        on = self.on if self.attempts else _NOTHING
        if overrides.statuses is not None:
            on = attrs.evolve(on, statuses=overrides.statuses)
        if overrides.grpc is not None:
            on = attrs.evolve(on, grpc=overrides.grpc)
        timeout = self.timeout if overrides.timeout is None else overrides.timeout
        if overrides.timeout is not None:
            on = attrs.evolve(on, timeout=True)
        attempts = overrides.limit
        if attempts is None:
            attempts = self.attempts or 1
        return Plan(attempts, on, timeout, self.backoff or _PAUSES)


@mypyc_attr(native_class=False)
class Retrying:
    """The service that :class:`~meshcore.layers.Retry` makes for one target, with its budget."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "__wrapped__",
        "_budget",
        "_counts",
        "_hedge",
        "_inner",
        "_latencies",
        "_limit",
        "_overrides",
        "_peeks",
        "_plan",
        "_random",
        "_status",
        "_statuses",
        "_timeout",
        "_tokens",
    )

    def __init__(
        self,
        inner: HttpService,
        plan: Plan,
        budget: Budget,
        replay: int,
        *,
        hedge: Hedge | None,
        overrides: bool,
        registry: Registry | None,
        target: object,
        rng: random.Random,
    ) -> None:
        self._inner = inner
        self._plan = plan
        # What every request asks, at hand.
        self._statuses = plan.on.statuses
        self._peeks = bool(plan.on.grpc)
        self._timeout = plan.timeout if plan.attempts else None
        self._limit = replay
        self._budget = budget
        self._hedge = hedge
        self._latencies = Latencies()
        self._overrides = overrides
        self._status = status_source(inner)
        self._random = rng
        self._counts = RetryCounts(registry, target)
        self._tokens: Tokens | None = None

    def statistics(self) -> RetryStatistics:
        """What was retried until now."""
        tokens, counts = self._tokens, self._counts
        return RetryStatistics(
            tokens.requests if tokens else 0,
            counts.retries,
            counts.recovered,
            counts.no_budget,
            counts.not_replayable,
            tokens.balance if tokens else 0.0,
            counts.limit_exceeded,
            counts.overflow,
            counts.hedges,
            counts.hedges_won,
            tokens.left(_now()) if tokens else 1.0,
        )

    async def __call__(self, request: Request, /) -> Response:
        tokens = self._tokens
        if tokens is None:
            tokens = self._tokens = self._budget.start(_now())
        tokens.requests += 1
        if request.protocol is not None or request.expect_continue or request.method == b"CONNECT":
            return await self._inner(request)
        plan = self._plan
        timeout, judged, peeks = self._timeout, self._statuses, self._peeks
        if self._overrides:
            if request.overrides is not None:
                plan = plan.overridden(request.overrides)
                timeout, judged, peeks = plan.timeout if plan.attempts else None, plan.on.statuses, bool(plan.on.grpc)
            if not plan.attempts and self._hedge is None:
                return await self._inner(request)
        replay: Replay | Whole | None = None
        body = request.body
        if body.end is None:
            limit = self._limit
            # What has come whole (a unary call of gRPC, mostly) needs nobody to keep it while it is read.
            data = body.take_whole(limit) if isinstance(body, Chunks) else None
            if data is not None:
                request.body = Full(data)
                replay = Whole(data)
            else:
                replay = Replay(body, limit)
                if replay.replayable:
                    request.body = replay.body()
                else:
                    replay.commit()
        # Whatever is below edits the fields in place.
        fields = request.headers.raw.copy()
        try:
            if self._hedge is not None:
                response = await self._hedged(request, fields, plan, tokens)
            elif timeout is None:
                response = await self._inner(request)
            else:
                response = await self._limited(request, timeout)
        except MeshError as error:
            failure = error
        except BaseException:
            if replay is not None:
                replay.commit()
            raise
        else:
            # Calls of gRPC are all POST.
            if response.status in judged or (
                peeks and request.version == 20 and request.method == b"POST" and is_grpc(fields)
            ):
                return await self._judged(request, response, replay, fields, tokens, plan)
            if replay is not None:
                replay.commit()
            return response
        grpc = request.version == 20 and is_grpc(fields)
        if not plan.attempts or not self._wanted(request, failure, plan, grpc):
            if replay is not None:
                replay.commit()
            raise failure
        return await self._again(request, failure, replay, fields, tokens, plan, grpc)

    async def _judged(
        self,
        request: Request,
        response: Response,
        replay: Replay | Whole | None,
        fields: Fields,
        tokens: Tokens,
        plan: Plan,
    ) -> Response:
        """A response that may be none to be passed on."""
        grpc = request.version == 20 and is_grpc(fields)
        try:
            failed = plan.attempts > 0 and await self._failed(response, plan, grpc)
        except BaseException:
            if replay is not None:
                replay.commit()
            raise
        if failed:
            return await self._again(request, response, replay, fields, tokens, plan, grpc)
        if replay is not None:
            replay.commit()
        return response

    async def _again(
        self,
        request: Request,
        outcome: MeshError | Response,
        replay: Replay | Whole | None,
        fields: Fields,
        tokens: Tokens,
        plan: Plan,
        grpc: bool,
    ) -> Response:
        """Further tries after *outcome*, which is to be tried again; the last outcome."""
        try:
            for attempt in range(1, plan.attempts + 1):
                if not await self._may(request, outcome, replay, tokens, plan, attempt, grpc):
                    break
                if isinstance(outcome, Response):
                    _discard(outcome)
                if request.endpoint is not None:
                    request.avoid = (*request.avoid, request.endpoint)
                request.headers = Headers(fields.copy())
                if grpc:
                    pass_on_deadline(request, _now())
                if replay is not None:
                    request.body = replay.body()
                self._counts.tried(grpc)
                try:
                    if plan.timeout is None or attempt == plan.attempts:
                        request.try_until = None
                        outcome = await self._inner(request)
                    else:
                        outcome = await self._limited(request, plan.timeout)
                except MeshError as error:
                    outcome = error
                    if self._wanted(request, error, plan, grpc):
                        continue
                    break
                if not await self._failed(outcome, plan, grpc):
                    self._counts.won(grpc)
                    break
            else:
                self._counts.exceeded(grpc)
        except BaseException:
            if isinstance(outcome, Response):
                outcome.body.abort()
            if replay is not None:
                replay.commit()
            raise
        if replay is not None:
            replay.commit()
        if isinstance(outcome, Response):
            return outcome
        raise outcome

    async def _may(
        self,
        request: Request,
        outcome: MeshError | Response,
        replay: Replay | Whole | None,
        tokens: Tokens,
        plan: Plan,
        attempt: int,
        grpc: bool,
    ) -> bool:
        """Whether there may be one more try, after the pause before it."""
        counts = self._counts
        if replay is not None and (not replay.replayable or (isinstance(outcome, Response) and not replay.complete)):
            counts.skipped("body")
            return False
        if plan.backoff is not None:
            pause = plan.backoff.delay(attempt, self._random)
            now = _now()
            if now + pause >= time_is_up(request, now):
                # Before it would begin: what there is to tell is told now.
                return False
            await trio.sleep(pause)
        if self._status is not None and self._status() is not Status.OPEN:
            counts.overflowed(grpc)
            return False
        if not tokens.withdraw(_now()):
            counts.skipped("no_budget")
            return False
        return True

    def _wanted(self, request: Request, error: MeshError, plan: Plan, grpc: bool) -> bool:
        """Whether an error is followed by another try."""
        if isinstance(error, FailFastError):
            # That of another backend than the one that failed fast; without one there is no use in it.
            return self._status is not None and self._status() is Status.OPEN
        if isinstance(error, TryTimeout):
            return may_repeat(request.method, plan.on, grpc=grpc)
        return may_retry(request.method, error, plan.on, grpc=grpc)

    async def _failed(self, response: Response, plan: Plan, grpc: bool) -> bool:
        """Whether a response is followed by another try (R-10)."""
        on = plan.on
        if not grpc or not on.grpc:
            return response.status in on.statuses
        fields = response.headers.raw
        code = status_of(fields)
        if code is None:
            body = response.body = await peek(response.body)
            end = body.known if isinstance(body, Peeked) else body.end
            if end is None or end.error is not None:
                return response.status in on.statuses
            fields = end.trailers
            code = status_of(fields)
        return code in on.grpc and not _never(fields)

    async def _limited(self, request: Request, seconds: float) -> Response:
        """A try that has a limit of its own (R-13)."""
        with trio.move_on_after(seconds) as scope:
            # Whoever is cancelled by it below knows that the endpoint was too slow.
            request.try_until = scope.deadline
            return await self._inner(request)
        where = "" if request.endpoint is None else f"endpoint {request.endpoint}: "
        raise TryTimeout(f"{where}no response headers within {seconds:g} s")

    async def _hedged(self, request: Request, fields: Fields, plan: Plan, tokens: Tokens) -> Response:
        """A try beside which a second one is begun if it takes long."""
        hedge = self._hedge
        grpc = request.version == 20 and is_grpc(fields)
        if hedge is None or request.body.end is None or not may_repeat(request.method, plan.on, grpc=grpc):
            return await self._inner(request)
        started = _now()
        race = _Race(self._inner)
        try:
            async with trio.open_nursery() as nursery:
                race.begin(nursery, request)
                with trio.move_on_after(self._latencies.delay(hedge)):
                    await race.wait()
                if not race.over and self._status is not None and self._status() is not Status.OPEN:
                    self._counts.overflowed(grpc)
                elif not race.over and not tokens.withdraw(_now()):
                    self._counts.skipped("no_budget")
                elif not race.over:
                    second = request.variant(Headers(fields.copy()), request.version)
                    if request.endpoint is not None:
                        second.avoid = (*request.avoid, request.endpoint)
                    self._counts.hedges += 1
                    race.begin(nursery, second)
                while not race.over:
                    await race.wait()
                nursery.cancel_scope.cancel()
        except BaseException:
            if race.response is not None:
                race.response.body.abort()
            raise
        if race.response is None:
            assert race.error is not None
            raise race.error
        self._latencies.add(_now() - started)
        if race.winner is not request:
            self._counts.hedges_won += 1
            request.endpoint = None if race.winner is None else race.winner.endpoint
        return race.response


class TryTimeout(ResponseTimeout):
    """A try had no response headers in time, and there are further ones (R-13)."""


class _Race:
    """Tries of one request beside each other."""

    __slots__ = ("_inner", "_running", "_wakeup", "error", "response", "winner")

    def __init__(self, inner: HttpService) -> None:
        self._inner = inner
        self._running = 0
        self._wakeup = Wakeup()
        self.response: Response | None = None
        self.winner: Request | None = None
        self.error: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether somebody has won, or everybody lost."""
        return self.response is not None or not self._running

    def begin(self, nursery: trio.Nursery, request: Request) -> None:
        """One more try."""
        self._running += 1
        nursery.start_soon(self._run, request)

    async def wait(self) -> None:
        """Waits for the end of a try."""
        if not self.over:
            await self._wakeup.wait()

    async def _run(self, request: Request) -> None:
        try:
            response = await self._inner(request)
        except Exception as error:
            # Raised by whoever began the race, so that no group of errors leaves it.
            self.error = error
        else:
            if self.response is None:
                self.response, self.winner = response, request
            else:
                response.body.abort()
        finally:
            self._running -= 1
            self._wakeup.wake()


def _never(fields: Fields) -> bool:
    """Whether a gRPC server says that a call is not to be tried again: a pushback below 0."""
    return any(name == b"grpc-retry-pushback-ms" and value.startswith(b"-") for name, value in fields)


def _discard(response: Response) -> None:
    """Gives a response up; one that is short and has come whole is read, so that its connection can be kept."""
    body = response.body
    try:
        for _ in range(_PIECES):
            if body.end is not None or not body.receive_nowait():
                break
    except (trio.WouldBlock, MeshError):
        pass
    body.abort()
