"""Authorize: which clients are let in at all."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

import attrs

from meshcore.abc import NewAccept, NewHttp, NewService, Service, link
from meshcore.errors import AuthorizationError
from meshcore.http.message import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import trio

    from meshcore.transport.connection import Connection

__all__ = ["Authorize", "DefaultPolicy"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Req = TypeVar("Req")
Rsp = TypeVar("Rsp")

DefaultPolicy: TypeAlias = Literal[
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "audit",
    "deny",
]
"""linkerd's names (R-33)."""

_POLICIES = (
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "audit",
    "deny",
)

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(texts: tuple[str, ...] | list[str]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


@attrs.frozen
class Authorize:
    """Lets clients in by a default policy (R-33): over HTTP, request by request; over connections, once for each.

    ``all-unauthenticated`` lets everybody in, ``all-authenticated`` those with a verified identity (R-29);
    ``cluster-…`` the same, from *networks* alone; ``audit`` lets everybody in and logs whom ``all-authenticated``
    would not; ``deny`` nobody.

    Over HTTP a refusal is a 403, or PERMISSION_DENIED for gRPC, and the connection is kept (R-31); it stands below
    ``Rescue`` there.  Over connections it is above ``Forward``, and a refused one is closed.

    Attributes:
        policy: its name.
        networks: the cluster's, as in ``10.0.0.0/8``; needed by ``cluster-…``.
        loopback: whether clients on this very host are let in always (R-30).
        name: the role, where a stack has more than one.

    Raises:
        AuthorizationError: when called, for a client that is not let in.
    """

    policy: DefaultPolicy = attrs.field(default="all-unauthenticated", validator=attrs.validators.in_(_POLICIES))
    networks: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    loopback: bool = True
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not _networks(self.networks) and self.policy.startswith("cluster-"):
            raise ValueError(f"policy {self.policy!r} needs networks")

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

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: Authorize, inner: NewService[T, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: T, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The guarded service for *target*; no frame of its own."""
        inner = self._inner.new_service(target, nursery)
        if self._layer.policy == "all-unauthenticated":
            return inner
        check = _Check(self._layer)

        def authorize(request: Req) -> Awaitable[Rsp]:
            connection = cast("Connection | None", request.connection if isinstance(request, Request) else request)
            check(connection)
            return inner(request)

        return cast("Service[Req, Rsp]", link(cast("Any", authorize), inner, self._layer))


class _Check:
    """A policy, ready to be applied."""

    __slots__ = ("_anonymous", "_audit", "_deny", "_loopback", "_networks", "_policy")

    def __init__(self, layer: Authorize) -> None:
        self._policy = layer.policy
        self._anonymous = layer.policy == "cluster-unauthenticated"
        self._audit = layer.policy == "audit"
        self._deny = layer.policy == "deny"
        self._loopback = layer.loopback
        self._networks = _networks(layer.networks) if layer.policy.startswith("cluster-") else None

    def __call__(self, connection: Connection | None) -> None:
        if connection is not None and self._permits(connection):
            return
        who = "of the proxy itself" if connection is None else f"from {connection.peer[0] or 'an unknown address'}"
        if self._audit:
            log.info("unauthorized request %s let in: policy audit", who)
            return
        raise AuthorizationError(f"unauthorized request {who}: policy {self._policy}")

    def _permits(self, connection: Connection) -> bool:
        identified = connection.identity is not None
        if self._networks is None and not self._deny and identified:
            return True
        address = _address(connection.peer[0])
        if address is None:
            # Nobody knows where it comes from.
            return False
        if self._loopback and address.is_loopback:
            return True
        if self._deny or not (identified or self._anonymous) or self._networks is None:
            return False
        return any(address in network for network in self._networks)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
