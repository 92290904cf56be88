"""A health check by a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore._unwrap import find

if TYPE_CHECKING:
    from meshcore.transport.target import Endpoint

__all__ = ["TcpCheck"]


@attrs.frozen
class TcpCheck:
    """A connection of its own, secured as those of requests are, and closed at once: somebody listens there."""

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        """See :class:`meshcore.abc.HealthCheck`."""
        # What keeps connections has `probe()`, since its `ready()` is content with one that it has.
        connect = find(service, "probe") or find(service, "ready")
        if connect is not None:
            await connect()
