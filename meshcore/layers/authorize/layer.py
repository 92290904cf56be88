"""The layer that lets clients in, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

import attrs

from meshcore.abc import NewAccept, NewHttp, NewService, Service, link
from meshcore.layers.authorize.guard import Guard, Guarded
from meshcore.layers.authorize.policies import Policies
from meshcore.layers.authorize.policy import DefaultPolicy, ServerPolicy
from meshcore.metrics.authorization import AuthorizationCounts
from meshcore.metrics.registry import Registry
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    import trio

__all__ = ["Authorize"]

T = TypeVar("T")
Req = TypeVar("Req")
Rsp = TypeVar("Rsp")

Policy: TypeAlias = DefaultPolicy | ServerPolicy | Policies


@attrs.frozen
class Authorize:
    """Lets clients in by a policy (R-28 to R-33): over HTTP, request by request; over connections, once for each, and
    again whenever the policy changes.

    Over HTTP a refusal is a 403, or PERMISSION_DENIED for gRPC, and the connection is kept (R-31); it stands below
    ``Rescue`` there.  What a request has become by an upgrade or CONNECT is judged as a connection is.  Over
    connections it is above ``Forward``, and a refused one is closed; one that is not permitted any more is reset, as
    what was cut must not seem complete (R-32).  What a policy says of a connection is found out once, and anew when
    the policy changes.

    Attributes:
        policy: the name of a default policy (R-33); a ``ServerPolicy``; or a ``Policies``, which can be changed while
            all this runs; or a function of the target that gives one of them.
        networks: the cluster's, as in ``10.0.0.0/8``, where *policy* is the name of a ``cluster-…``.
        loopback: whether clients on this very host are let in always (R-30), where *policy* is a name.
        route: the name of the route that requests are for, or a function of the target; ``""``: none.
        registry: where it is counted; None: nowhere.
        name: the role, where a stack has more than one.

    Raises:
        AuthorizationError: when called, for a client that is not let in; or that is not any more.
    """

    policy: Param[Policy] = attrs.field(default="all-unauthenticated", repr=str)
    networks: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...], repr=False)
    loopback: bool = attrs.field(default=True, repr=False)
    route: Param[str] = attrs.field(default="", repr=False)
    registry: Registry | None = attrs.field(default=None, repr=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.policy, str):
            # Judges the name, and whether networks are there.
            self._held(cast("Policy", self.policy))

    def _held(self, policy: Policy) -> Policies:
        if isinstance(policy, Policies):
            return policy
        if not isinstance(policy, ServerPolicy):
            policy = ServerPolicy(policy, self.networks, self.loopback)
        return Policies(policy)

    # The first says it all; pyright's inference needs the two that are used.
    @overload
    def layer(self, inner: NewService[T, Req, Rsp], /) -> NewService[T, Req, Rsp]: ...  # type: ignore[overload-overlap]
    @overload
    def layer(self, inner: NewHttp[T], /) -> NewHttp[T]: ...
    @overload
    def layer(self, inner: NewAccept[T], /) -> NewAccept[T]: ...
    def layer(self, inner: NewService[T, Any, Any], /) -> NewService[T, Any, Any]:
        """Guards the services that *inner* makes."""
        return _NewAuthorized(self, inner)


class _NewAuthorized(Generic[T, Req, Rsp]):
    """Makes guarded services."""

    __slots__ = ("_counts", "_held", "_inner", "_layer")

    def __init__(self, layer: Authorize, inner: NewService[T, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner
        self._held = None if callable(layer.policy) else layer._held(layer.policy)
        self._counts = None if layer.registry is None else AuthorizationCounts(layer.registry)

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The guarded service for *target*; the service under it, where everybody is let in for good and nobody
        counts."""
        inner = self._inner.new_service(target, nursery)
        layer = self._layer
        held = self._held if self._held is not None else layer._held(resolve(layer.policy, target))
        if held.current.open and self._counts is None and not isinstance(layer.policy, Policies):
            return inner
        guard = Guard(held, resolve(layer.route, target), target, self._counts)
        guarded = Guarded(cast("Any", inner), guard)
        return cast("Service[Req, Rsp]", link(cast("Any", guarded), inner, layer))
