"""LocalEndpoint: endpoints on this host are spoken to in plaintext, as their own applications are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    import trio

    from meshcore.abc import NewService, Service
    from meshcore.transport.target import Endpoint

__all__ = ["LocalEndpoint"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")


@attrs.frozen
class LocalEndpoint:
    """Takes TLS, transport header and translation from endpoints whose address is this host's (D-23); a layer
    over anything that is made for an endpoint.

    There is no other proxy on the way to them, only the application.  Its place is above what secures and
    what translates.

    Attributes:
        own: the host's IP addresses; asked once for each endpoint.
        name: the role, where a stack has more than one.
    """

    name: str = attrs.field(default="", repr=False, kw_only=True)

    own: Callable[[], Iterable[str]]

    def layer(self, inner: NewService[Endpoint, Req, Rsp], /) -> NewService[Endpoint, Req, Rsp]:
        """Services of *inner* for the endpoints as they are to be spoken to."""
        return _NewLocal(self, inner)


class _NewLocal(Generic[Req, Rsp]):
    """Makes the services of changed endpoints."""

    __slots__ = ("_inner", "_layer")

    def __init__(self, layer: LocalEndpoint, inner: NewService[Endpoint, Req, Rsp]) -> None:
        self._layer = layer
        self._inner = inner

    def __repr__(self) -> str:
        return f"{self._layer!r} over {self._inner!r}"

    def new_service(self, target: Endpoint, nursery: trio.Nursery, /) -> Service[Req, Rsp]:
        """The service for *target*, or for what it is where it is local."""
        if target.address[0] in self._layer.own():
            changes: dict[str, Any] = {"tls": None, "transport_header": None, "mesh_proxy": False, "no_tls": "loopback"}
            target = attrs.evolve(target, **changes)
        return self._inner.new_service(target, nursery)
