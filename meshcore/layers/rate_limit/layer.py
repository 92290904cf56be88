"""The layer that refuses what comes too fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from meshcore._wakeup import clock
from meshcore.abc import HttpService, NewHttp, link
from meshcore.errors import RateLimitError
from meshcore.layers.rate_limit.limits import Limiter, RateLimits
from meshcore.metrics.rate_limits import RateLimitCounts
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import trio

    from meshcore.http.message import Request, Response

__all__ = ["RateLimit", "RateLimitStatistics"]

T = TypeVar("T")

_MOST = 10_000
"""Limits of different targets that are kept account of."""


@attrs.frozen
class RateLimit:
    """Refuses requests that come faster than they may (R-36): 429, or RESOURCE_EXHAUSTED for gRPC, with
    ``retry-after``; the connection is kept.

    Nobody waits and nothing is queued: it is one look at a number or two.  It stands below ``Rescue``, below whatever
    refuses requests that are not to count, and above ``Retry``, since the tries of a request count once.

    Attributes:
        limits: what is let in; or a function of the target (None: everything).  Targets that are given the same
            object share it, others have limits of their own.
        registry: where refusals are counted; None: nowhere.
        direction: ``"inbound"`` or ``"outbound"``.
        name: the role, where a stack has more than one.
        of: whose limit it is, for metrics; or a function of the target.
    """

    limits: Param[RateLimits | None] = attrs.field(repr=str)
    registry: Registry | None = attrs.field(default=None, repr=False)
    direction: str = attrs.field(default="inbound", repr=False, validator=attrs.validators.in_(("inbound", "outbound")))
    name: str = attrs.field(default="", repr=False, kw_only=True)
    of: Param[str] = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]:
        """Limits what the services of *inner* get."""
        return _NewLimited(self, inner)


@attrs.frozen
class RateLimitStatistics:
    """What a limit has done.

    Attributes:
        admitted: requests let in.
        refused: those that were not.
        identities: identities that are kept account of.
        values: values of the header, likewise.
        forgotten: of both, those that were too many.
    """

    admitted: int
    refused: int
    identities: int
    values: int
    forgotten: int


class _State:
    """A limiter and what it has done."""

    __slots__ = ("admitted", "limiter", "limits", "refused")

    def __init__(self, limits: RateLimits) -> None:
        # Held, so that no other object has its id while this is known.
        self.limits = limits
        self.limiter = Limiter(limits)
        self.admitted = 0
        self.refused = 0


class _NewLimited(Generic[T]):
    """Makes limited services."""

    __slots__ = ("_counts", "_inner", "_layer", "_states")

    def __init__(self, layer: RateLimit, inner: NewHttp[T]) -> None:
        self._layer = layer
        self._inner = inner
        # By what they limit, the very object: equal limits of two routes are two.
        self._states: dict[int, _State] = {}
        self._counts = None if layer.registry is None else RateLimitCounts(layer.registry, layer.direction)

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> HttpService:
        """The limited service for *target*; the service under it, where nothing is limited."""
        inner = self._inner.new_service(target, nursery)
        limits = resolve(self._layer.limits, target)
        if limits is None:
            return inner
        state = self._states.get(id(limits))
        if state is None:
            if len(self._states) >= _MOST:
                # A function that makes them anew each time: what is forgotten here goes on where it is in use.
                del self._states[next(iter(self._states))]
            state = self._states[id(limits)] = _State(limits)
        name = resolve(self._layer.of, target)
        return link(_Limited(inner, state, target, name, self._counts), inner, self._layer)


class _Limited:
    """A limited service; no coroutine of its own."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_counts", "_inner", "_name", "_now", "_state", "_target")

    def __init__(
        self, inner: HttpService, state: _State, target: Any, name: str, counts: RateLimitCounts | None
    ) -> None:
        self._inner = inner
        self._state = state
        self._target = target
        self._name = name
        self._counts = counts
        self._now = clock()

    def statistics(self) -> RateLimitStatistics:
        """What was let in and what was not until now."""
        state = self._state
        identities, values = state.limiter.identities, state.limiter.values
        return RateLimitStatistics(
            state.admitted,
            state.refused,
            0 if identities is None else len(identities),
            0 if values is None else len(values),
            sum(each.forgotten for each in (identities, values) if each is not None),
        )

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        connection = request.connection
        identity = None if connection is None else connection.identity
        state = self._state
        exceeded = state.limiter.check(self._now(), identity, request.headers)
        if exceeded is None:
            state.admitted += 1
            return self._inner(request)
        state.refused += 1
        if self._counts is not None:
            self._counts.refused(self._target, connection, exceeded.what, self._name).value += 1
        raise RateLimitError(f"{exceeded.what} rate limit exceeded: {exceeded.rate}", retry_after=exceeded.seconds)
