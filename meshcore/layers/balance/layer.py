"""The layer that spreads requests over a backend's endpoints."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import attrs

from meshcore.abc import NewAccept, NewHttp, NewService, Resolve, Service
from meshcore.layers.balance.balancer import Balancer
from meshcore.layers.balance.balancing import Balancing, PolicyName, known_policy
from meshcore.layers.balance.load import Load, PeakEwma
from meshcore.layers.balance.ready import Policy
from meshcore.metrics.feed import Feed
from meshcore.metrics.registry import Registry
from meshcore.resolve.static import Static
from meshcore.stack import Param
from meshcore.transport.backoff import Backoff
from meshcore.transport.connection import Owner
from meshcore.transport.target import Backend, Endpoint

if TYPE_CHECKING:
    import trio

__all__ = ["Balance"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


@attrs.frozen
class Balance:
    """Spreads requests (or connections) over the endpoints that discovery names, each by itself.

    New endpoints are connected before they are picked (B-06).  One that cannot be connected is taken out
    and probed with backoff; the request goes to another one at once, or waits for one (B-21) behind those that
    wait already (B-11), at most *fail_fast* seconds: then everyone who waits, and everyone who comes, fails at
    once with ``FailFastError`` until an endpoint is ready (B-09).  Endpoints in ``request.avoid`` are taken only where
    there is no other.  A removed endpoint finishes what it has in flight.  What stands below may shut an endpoint:
    see :class:`meshcore.abc.Gate`.

    Attributes:
        resolve: who the endpoints are; by default the backend's own fixed set.
        load: how load is measured, where *policy* does not say it.
        policy: ``"p2c-ewma"``, ``"round-robin"``, ``"least-request"``, a policy of your own, a :class:`Balancing` for
            all that there is to choose, or a function of the target that gives one of these.
        fail_fast: seconds that a request waits for an endpoint (B-08).
        capacity: requests that may wait; more are shed (B-08).
        backoff: between probes of an endpoint that is out (B-20).
        drain: seconds that a removed endpoint's exchanges are given.
        rng: randomness, for tests.
        owner: who is told of crashes; None: they are only logged.
        registry: where the metrics are; None: nowhere.
        scope: what the metrics' names begin with.
        name: the role, where a stack has more than one.
        feed: is told of endpoints that come, go and fail; None: nobody is.
    """

    per: ClassVar[str] = "endpoint"

    resolve: Resolve[Backend] = attrs.field(factory=Static)
    load: Load = attrs.field(factory=PeakEwma)
    policy: Param[PolicyName | Policy | Balancing] = attrs.field(default="p2c-ewma", validator=known_policy)
    fail_fast: float = attrs.field(default=3.0, validator=attrs.validators.gt(0))
    capacity: int = attrs.field(default=10_000, validator=attrs.validators.ge(0))
    backoff: Backoff = attrs.field(factory=Backoff, repr=False)
    drain: float = attrs.field(default=120.0, validator=attrs.validators.ge(0), repr=False)
    rng: random.Random = attrs.field(factory=random.Random, repr=False, eq=False)
    owner: Owner | None = attrs.field(default=None, repr=False)
    registry: Registry | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)
    scope: str = attrs.field(default="outbound_http", repr=False, kw_only=True)
    name: str = attrs.field(default="", repr=False, kw_only=True)
    feed: Feed | None = attrs.field(default=None, repr=False, eq=False, kw_only=True)

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
        balancer: Balancer[Req, Rsp] = Balancer(self._layer, self._inner, target)
        nursery.start_soon(balancer.run, name=f"balancer of {target.name}")
        return balancer
