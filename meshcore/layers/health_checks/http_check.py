"""A health check by a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from meshcore.errors import NotReady
from meshcore.http.headers import Headers
from meshcore.http.message import Request

if TYPE_CHECKING:
    from meshcore.transport.target import Endpoint

__all__ = ["HttpCheck"]

_LARGEST: Final = 65_536


@attrs.frozen
class HttpCheck:
    """``GET`` over the connections that requests use, mutual TLS included; a status from 200 to 299 is well.

    Attributes:
        path: what is asked for.
        host: the authority; ``""``: the endpoint's address.
        statuses: the lowest and the highest status that is well.
    """

    path: str = "/healthz"
    host: str = ""
    statuses: tuple[int, int] = (200, 299)

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        """See :class:`meshcore.abc.HealthCheck`."""
        secured = endpoint.tls is not None and not endpoint.tls.mesh
        request = Request(
            b"GET",
            b"https" if secured else b"http",
            (self.host or str(endpoint)).encode(),
            self.path.encode(),
            Headers([(b"user-agent", b"meshcore-health-check"), (b"accept", b"*/*")]),
        )
        request.endpoint = endpoint
        response = await service(request)
        size = 0
        try:
            # To its end, so that the connection can be used again; nobody has that much to say of its health.
            while size <= _LARGEST and (part := await response.body.receive_some()):
                size += len(part)
        finally:
            response.body.abort()
        low, high = self.statuses
        if not low <= response.status <= high:
            raise NotReady(f"{self.path} answers {response.status}")
