"""PreventLoop: no connection from the proxy to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from meshcore.errors import LoopDetected
from meshcore.transport.target import Address

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["PreventLoop"]

_ANY = ("", "0.0.0.0", "::")


@attrs.frozen
class PreventLoop:
    """Refuses connections that end at one of the proxy's own listeners (D-40); a layer over ``Connect``.

    What came back would be sent on again, until descriptors run out.  It is judged after the connect, by the
    address that was really reached: a name, or an interface's own address, leads here as well.

    Attributes:
        own: the addresses that the proxy accepts at, asked at each connect; a host of ``0.0.0.0`` or ``::`` stands
            for every address of this host.
        name: the role, where a stack has more than one.

    Raises:
        LoopDetected: when called, for such an endpoint.
    """

    own: Callable[[], Iterable[Address]] = attrs.field(repr=False)
    name: str = attrs.field(default="", repr=False, kw_only=True)

    def layer(self, inner: Connect, /) -> Connect:
        """A ``Connect`` that closes what leads back."""
        own = self.own

        async def connect(endpoint: Endpoint) -> Connection:
            connection = await inner(endpoint)
            host, port = connection.peer
            for ours, number in own():
                if number == port and (ours == host or (ours in _ANY and connection.local[0] == host)):
                    connection.close()
                    raise LoopDetected(f"endpoint {endpoint}: it is this proxy itself")
            return connection

        return connect
