"""The layer that tries again."""

from __future__ import annotations

import random
from typing import Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.hedge import Hedge
from meshcore.http.replay import REPLAY_LIMIT
from meshcore.http.retry_on import RetryOn
from meshcore.layers.retry.budget import Budget
from meshcore.layers.retry.retrying import Plan, Retrying
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve
from meshcore.transport.backoff import Backoff

__all__ = ["Retry"]


def _not_negative(retry: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, int) and value < 0:
        raise ValueError(f"{attribute.name} has to be at least 0: {value}")


def _positive(retry: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{attribute.name} has to be above 0: {value}")


@attrs.frozen
class Retry(ServiceLayer):
    """Tries a failed request again, on another endpoint, where that is safe.

    Safe is: nothing of a response was passed on; and either nothing of the request was processed, or its method is
    idempotent, or *on* names the status that came; and its body can be sent again from its first byte (it is empty, or
    what was read of it is at most *replay* bytes); and the budget has a token left; and an endpoint is ready (R-12).
    Tunnels and requests with ``expect: 100-continue`` are never tried again.  The last error, or the last response, is
    the one that is passed on.

    Attributes:
        attempts: further tries after the first, or a function of the target; once by default.
        budget: bounds what retries add to the load; or a function of the target.
        replay: bytes of a request body kept for it (R-07: 64 KiB); or a function of the target.
        on: what is tried again, or a function of the target; by default what ends without a response.
        backoff: the pause before each further try; None: there is none, since another endpoint is tried.
        try_timeout: seconds that a try has for its response headers; the last one has no such limit (R-13).  None:
            none has.
        hedge: begins a second try beside the first of requests without a body that may be carried out twice; None:
            does not.
        overrides: whether ``request.overrides`` is heeded (R-15).
        registry: where ``…_route_retry_…`` metrics go; None: nowhere.
        rng: randomness of the pauses, for tests.
    """

    attempts: Param[int] = attrs.field(default=1, validator=_not_negative)
    budget: Param[Budget] = attrs.field(factory=Budget)
    replay: Param[int] = attrs.field(default=REPLAY_LIMIT, validator=_not_negative)
    on: Param[RetryOn] = attrs.field(factory=RetryOn, repr=False)
    backoff: Param[Backoff | None] = attrs.field(default=None, repr=False)
    try_timeout: Param[float | None] = attrs.field(default=None, validator=_positive, repr=False)
    hedge: Param[Hedge | None] = attrs.field(default=None, repr=False)
    overrides: Param[bool] = attrs.field(default=False, repr=False)
    registry: Registry | None = attrs.field(default=None, repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where nothing is ever tried again."""
        attempts = resolve(self.attempts, target)
        hedge = resolve(self.hedge, target)
        overrides = resolve(self.overrides, target)
        if not attempts and hedge is None and not overrides:
            return inner
        plan = Plan(
            attempts, resolve(self.on, target), resolve(self.try_timeout, target), resolve(self.backoff, target)
        )
        return Retrying(
            inner,
            plan,
            resolve(self.budget, target),
            resolve(self.replay, target),
            hedge=hedge,
            overrides=overrides,
            registry=self.registry,
            target=target,
            rng=self.rng,
        )
