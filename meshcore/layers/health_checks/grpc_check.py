"""A health check by gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.errors import NotReady
from meshcore.grpc import health

if TYPE_CHECKING:
    from meshcore.transport.target import Endpoint

__all__ = ["GrpcCheck"]


@attrs.frozen
class GrpcCheck:
    """``grpc.health.v1.Health/Check`` over the connections that requests use, mutual TLS included; SERVING is well.

    Attributes:
        service: which service, as in ``package.Service``; ``""``: the server as a whole.
        host: the authority; ``""``: the endpoint's address.
    """

    service: str = ""
    host: str = ""

    async def check(self, endpoint: Endpoint, service: Any, /) -> None:
        """See :class:`meshcore.abc.HealthCheck`."""
        secured = endpoint.tls is not None and not endpoint.tls.mesh
        authority = (self.host or str(endpoint)).encode()
        scheme = b"https" if secured else b"http"
        # Whoever asks has a limit.
        if not await health.check(service, self.service, authority=authority, scheme=scheme, timeout=None):
            raise NotReady(f"{self.service or 'server'} is not serving")
