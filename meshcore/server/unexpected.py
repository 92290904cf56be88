"""The answer to a request whose service raised what nobody expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import MeshError
from meshcore.http.grpc import is_grpc, status_fields
from meshcore.http.headers import Headers
from meshcore.http.message import Response

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = ["unexpected"]


def unexpected(request: Request) -> Response:
    """500, or for gRPC the status INTERNAL, without a word of what it was (E-01): that stands in the log."""
    fields = [(b"content-length", b"0"), (b"x-meshcore-error", MeshError.code.encode("ascii"))]
    if request.version == 20 and is_grpc(request.headers.raw):
        grpc = [(b"content-type", b"application/grpc"), *status_fields(MeshError.grpc_hint, "unexpected error")]
        return Response(200, Headers([*grpc, *fields]))
    return Response(500, Headers(fields))
