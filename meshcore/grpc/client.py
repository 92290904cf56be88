"""The client: calls methods of a gRPC service through any HTTP service."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from meshcore.abc import HttpService
from meshcore.grpc.answer import ask
from meshcore.grpc.call import Call, decoded, only, within
from meshcore.grpc.framing import LARGEST, frame
from meshcore.grpc.metadata import encode_metadata
from meshcore.grpc.outgoing import Outgoing
from meshcore.http.body import Full
from meshcore.http.grpc import format_timeout
from meshcore.http.headers import Headers
from meshcore.http.message import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from meshcore.codec.events import Fields
    from meshcore.grpc.method import Method
    from meshcore.http.body import Body

__all__ = ["GrpcClient", "Metadata"]

Req = TypeVar("Req")
Rsp = TypeVar("Rsp")
Metadata = Iterable[tuple[bytes, bytes]]

_FIELDS: Final[Fields] = [
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python-meshcore/1"),
    (b"grpc-accept-encoding", b"identity"),
]


@attrs.frozen
class GrpcClient:
    """Calls a gRPC service by sending requests to an HTTP service: a stack with ``Balance`` and ``Http``, or anything.

    Endpoints have to speak HTTP/2 (``Endpoint(address, "h2")``).  What a call cannot be answered by is raised as
    ``GrpcError``, with what caused it chained: there is no other error for what happens on the way.  It has no
    tasks and no connections of its own.

    Attributes:
        service: where requests go.
        authority: whom they name, ``HOST`` or ``HOST:PORT``.
        scheme: ``b"http"`` or ``b"https"``.
        largest: bytes of a message that are taken; 4 MiB by default, as everywhere.
        metadata: sent with every call.
    """

    service: HttpService = attrs.field(repr=False)
    authority: bytes = b"localhost"
    scheme: bytes = b"http"
    largest: int = attrs.field(default=LARGEST, validator=attrs.validators.gt(0))
    metadata: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), repr=False)

    async def unary(
        self,
        method: Method[Req, Rsp],
        message: Req,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the server is told as well)
        metadata: Metadata = (),
    ) -> Rsp:
        """One message there, one back; costs no task.

        Args:
            method: what is called.
            message: its request.
            timeout: seconds for all of it, also told to the server (``grpc-timeout``); None: no limit.
            metadata: names in lower case; values of ``-bin`` names are any bytes.

        Raises:
            GrpcError: the status with which it ended, DEADLINE_EXCEEDED after *timeout*.
            ValueError: metadata that cannot be sent.
        """
        request = self._request(method, Full(frame(method.encode(message))), timeout, metadata)

        async def call() -> bytes:
            answer = await ask(self.service, request, self.largest)
            try:
                return await only(answer)
            finally:
                answer.abort()

        if timeout is None:
            return decoded(method, await call())
        return decoded(method, await within(trio.current_time() + timeout, call))

    async def client_stream(
        self,
        method: Method[Req, Rsp],
        messages: Iterable[Req] | AsyncIterable[Req],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the server is told as well)
        metadata: Metadata = (),
    ) -> Rsp:
        """Many messages there, one back; arguments and errors as for :meth:`unary`, and what *messages* raises.

        An answer that comes before the last message was sent is the answer all the same.
        """
        async with self.stream(method, timeout=timeout, metadata=metadata) as call:
            call.send_from(messages)
            return await call.last()

    def server_stream(
        self, method: Method[Req, Rsp], message: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Call[Req, Rsp]:
        """One message there, many back: ``async with client.server_stream(…) as call: async for message in call``."""
        return self._call(method, Full(frame(method.encode(message))), timeout, metadata)

    def stream(
        self, method: Method[Req, Rsp], *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Call[Req, Rsp]:
        """Many messages there, and many back, in any order."""
        return self._call(method, Outgoing(), timeout, metadata)

    def _call(self, method: Method[Req, Rsp], body: Body, timeout: float | None, metadata: Metadata) -> Call[Req, Rsp]:
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        return Call(self.service, method, self._request(method, body, timeout, metadata), deadline, self.largest)

    def _request(self, method: Method[Req, Rsp], body: Body, timeout: float | None, metadata: Metadata) -> Request:
        fields = _FIELDS.copy()
        if timeout is not None:
            fields.append((b"grpc-timeout", format_timeout(timeout)))
        if self.metadata:
            fields += encode_metadata(self.metadata)
        if metadata:
            fields += encode_metadata(metadata)
        return Request(b"POST", self.scheme, self.authority, method.path, Headers(fields), body, version=20)
