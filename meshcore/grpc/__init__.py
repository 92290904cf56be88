"""A gRPC client on the project's own HTTP/2: for what the proxy asks of other services."""

from __future__ import annotations

from meshcore.errors import GrpcError
from meshcore.grpc.call import Call
from meshcore.grpc.client import GrpcClient
from meshcore.grpc.method import Method
from meshcore.http.grpc import GrpcStatus

__all__ = ["Call", "GrpcClient", "GrpcError", "GrpcStatus", "Method"]
