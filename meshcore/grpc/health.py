"""Asks a service whether it is well, by gRPC's own health checking protocol (``grpc.health.v1.Health/Check``)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from meshcore.errors import GrpcError
from meshcore.grpc.client import GrpcClient
from meshcore.grpc.method import Method
from meshcore.grpc.protobuf import numbers, text
from meshcore.http.grpc import GrpcStatus

if TYPE_CHECKING:
    from meshcore.abc import HttpService

__all__ = ["HEALTH_CHECK", "ServingStatus", "check"]

_LARGEST: Final = 4_096
"""Bytes of an answer: it is a number."""


class ServingStatus(enum.IntEnum):
    """How a service says it is."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def _request(name: str) -> bytes:
    return text(1, name)


def _response(message: bytes) -> ServingStatus:
    status = numbers(message).get(1, 0)
    return ServingStatus(status) if status in (0, 1, 2, 3) else ServingStatus.UNKNOWN


HEALTH_CHECK: Final = Method(b"/grpc.health.v1.Health/Check", _request, _response)
"""The method: from the name of a service to how it is."""


async def check(
    service: HttpService,
    name: str = "",
    *,
    authority: bytes = b"localhost",
    scheme: bytes = b"http",
    timeout: float | None = 1.0,  # noqa: ASYNC109 (the server is told as well)
) -> bool:
    """Whether a gRPC service says that it is SERVING; one that it does not know is not.

    Args:
        service: how its endpoint is reached; by HTTP/2.
        name: which of its services, as in ``package.Service``; ``""`` is the server as a whole.
        authority: whom the request names.
        scheme: ``b"http"`` or ``b"https"``.
        timeout: seconds for all of it; None: no limit.

    Raises:
        GrpcError: it could not be asked, or has no health service (UNIMPLEMENTED): neither is an answer.
    """
    client = GrpcClient(service, authority, scheme, largest=_LARGEST)
    try:
        return await client.unary(HEALTH_CHECK, name, timeout=timeout) is ServingStatus.SERVING
    except GrpcError as error:
        if error.status == GrpcStatus.NOT_FOUND:
            return False
        raise
