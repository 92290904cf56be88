"""ConnectTimeout: bounds how long a connection may take to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from meshcore import errors
from meshcore.durations import format_duration

if TYPE_CHECKING:
    from meshcore.abc import Connect
    from meshcore.transport.connection import Connection
    from meshcore.transport.target import Endpoint

__all__ = ["ConnectTimeout"]


@attrs.frozen
class ConnectTimeout:
    """Gives up connecting to an endpoint after a while (B-19); a layer over ``Connect``.

    What is under it is bounded: the TCP connection alone, or with ``Tls`` under it the handshake as well.

    Attributes:
        seconds: the limit.
        name: the role, where a stack has more than one.
    """
    name: str = attrs.field(default="", repr=False, kw_only=True)

    seconds: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

    def layer(self, inner: Connect, /) -> Connect:
        """A ``Connect`` that raises :class:`meshcore.errors.ConnectTimeout` where *inner* takes longer."""
        seconds, limit = self.seconds, format_duration(self.seconds)

        async def connect(endpoint: Endpoint) -> Connection:
            with trio.move_on_after(seconds):
                return await inner(endpoint)
            raise errors.ConnectTimeout(f"endpoint {endpoint}: connect timed out after {limit}")

        return connect
