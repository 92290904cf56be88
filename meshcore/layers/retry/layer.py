"""The layer that tries again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import MeshError
from meshcore.http.headers import Headers
from meshcore.http.replay import REPLAY_LIMIT, Replay
from meshcore.layers.retry.budget import Budget, Tokens
from meshcore.layers.retry.policy import may_retry
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from meshcore.http.message import Request, Response

__all__ = ["Retry", "RetryStatistics"]

_now = trio.current_time


def _not_negative(retry: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{attribute.name} has to be at least 0: {value}")


@attrs.frozen
class Retry(ServiceLayer):
    """Tries a failed request again, on another endpoint, where that is safe.

    Safe is: no response headers came; and either nothing of the request was processed, or its method is
    idempotent; and its body can be sent again from its first byte (it is empty, or what was read of it is
    at most *replay* bytes); and the budget has a token left.  Tunnels and requests with
    ``expect: 100-continue`` are never tried again.  The last error is the one that is raised.

    Attributes:
        attempts: further tries after the first, or a function of the target; once by default.
        budget: bounds what retries add to the load; or a function of the target.
        replay: bytes of a request body kept for it (R-07: 64 KiB); or a function of the target.
    """

    attempts: Param[int] = attrs.field(default=1, validator=_not_negative)
    budget: Param[Budget] = attrs.field(factory=Budget)
    replay: Param[int] = attrs.field(default=REPLAY_LIMIT, validator=_not_negative)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where there are no attempts."""
        attempts = resolve(self.attempts, target)
        if not attempts:
            return inner
        return _Retrying(self, inner, attempts, resolve(self.budget, target), resolve(self.replay, target))


@attrs.frozen
class RetryStatistics:
    """What was retried.

    Attributes:
        requests: all that came.
        retries: further tries made.
        recovered: requests that failed first and got a response from a further try.
        no_budget: retries that the budget did not allow.
        not_replayable: retries that the size of the request's body did not allow.
        balance: tokens that the budget had when it was last asked.
    """

    requests: int
    retries: int
    recovered: int
    no_budget: int
    not_replayable: int
    balance: float


class _Retrying:
    """The retrying service of one target, with its budget."""

    __slots__ = (
        "__layer__",
        "__weakref__",
        "__wrapped__",
        "_attempts",
        "_budget",
        "_inner",
        "_limit",
        "_tokens",
        "no_budget",
        "not_replayable",
        "recovered",
        "retries",
    )

    def __init__(self, layer: Retry, inner: HttpService, attempts: int, budget: Budget, replay: int) -> None:
        self._inner = inner
        self._attempts = attempts
        self._limit = replay
        self._budget = budget
        self._tokens: Tokens | None = None
        self.retries = 0
        self.recovered = 0
        self.no_budget = 0
        self.not_replayable = 0

    def statistics(self) -> RetryStatistics:
        """What was retried until now."""
        tokens = self._tokens
        return RetryStatistics(
            tokens.requests if tokens else 0,
            self.retries,
            self.recovered,
            self.no_budget,
            self.not_replayable,
            tokens.balance if tokens else 0.0,
        )

    async def __call__(self, request: Request, /) -> Response:
        tokens = self._tokens
        if tokens is None:
            tokens = self._tokens = self._budget.start(_now())
        tokens.requests += 1
        if request.protocol is not None or request.expect_continue or request.method == b"CONNECT":
            return await self._inner(request)
        replay = None
        if request.body.end is None:
            replay = Replay(request.body, self._limit)
            if replay.replayable:
                request.body = replay.body()
            else:
                replay.commit()
        # Whatever is below edits the fields in place.
        fields = request.headers.raw.copy()
        try:
            response = await self._inner(request)
        except MeshError as error:
            if not may_retry(request.method, error):
                if replay is not None:
                    replay.commit()
                raise
            failure = error
        except BaseException:
            if replay is not None:
                replay.commit()
            raise
        else:
            if replay is not None:
                replay.commit()
            return response
        return await self._again(request, failure, replay, fields, tokens)

    async def _again(
        self,
        request: Request,
        error: MeshError,
        replay: Replay | None,
        fields: list[tuple[bytes, bytes]],
        tokens: Tokens,
    ) -> Response:
        for _ in range(self._attempts):
            if replay is not None and not replay.replayable:
                self.not_replayable += 1
                break
            if not tokens.withdraw(_now()):
                self.no_budget += 1
                break
            if request.endpoint is not None:
                request.avoid = (*request.avoid, request.endpoint)
            request.headers = Headers(fields.copy())
            if replay is not None:
                request.body = replay.body()
            self.retries += 1
            try:
                response = await self._inner(request)
            except MeshError as again:
                error = again
                if may_retry(request.method, again):
                    continue
                break
            except BaseException:
                if replay is not None:
                    replay.commit()
                raise
            if replay is not None:
                replay.commit()
            self.recovered += 1
            return response
        if replay is not None:
            replay.commit()
        raise error
