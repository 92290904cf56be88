"""A gRPC service in memory, written against bodies alone, and ways to reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from meshcore import Endpoint, Http, Request, Response, ServerOptions
from meshcore.abc import HttpService
from meshcore.errors import StreamReset
from meshcore.grpc.framing import MessageReader, frame
from meshcore.http.body import Body, Chunks, Empty, EndOfStream, Full, read_all
from meshcore.http.grpc import status_fields
from meshcore.http.headers import Headers
from meshcore.server.http2 import serve_http2
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection

GRPC = (b"content-type", b"application/grpc")
OK = status_fields(0)


class EchoBody(Body):
    """The bytes of a request's body, and a status after them."""

    def __init__(self, inner: Body) -> None:
        super().__init__()
        self._inner = inner

    def receive_nowait(self) -> bytes:
        if self.end is not None:
            return b""
        return self._take(self._inner.receive_nowait())

    async def receive_some(self) -> bytes:
        if self.end is not None:
            return b""
        return self._take(await self._inner.receive_some())

    def _take(self, data: bytes) -> bytes:
        if not data:
            self._finish(EndOfStream(OK))
        return data

    def _release(self, error: BaseException | None) -> None:
        self._inner.abort(error)


def answered(*messages: bytes, trailers: list[tuple[bytes, bytes]] = OK, headers: tuple = (GRPC,)) -> Response:
    """A response that is there as a whole."""
    return Response(200, Headers(headers), Full(b"".join(map(frame, messages)), trailers))


async def messages_of(request: Request) -> list[bytes]:
    """Every message of a request."""
    reader = MessageReader(1 << 30)
    reader.receive_data(await read_all(request.body, 1 << 30))
    found = []
    while (message := reader.next_message()) is not None:
        found.append(message)
    assert not reader.partial
    return found


class Echo:
    """The service; records its requests, and what became of their bodies."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled = 0
        self.reset: list[BaseException | None] = []

    async def __call__(self, request: Request, /) -> Response:
        self.requests.append(request)
        method = request.path.rpartition(b"/")[2].decode().lower()
        answer = getattr(self, method, None)
        if answer is None:
            return Response(200, Headers([GRPC, *status_fields(12, f"no method {method}")]), Empty())
        try:
            found: Response = await answer(request)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return found

    async def unary(self, request: Request) -> Response:
        return answered(*await messages_of(request), headers=(GRPC, (b"x-served-by", b"echo")))

    async def collect(self, request: Request) -> Response:
        return answered(b"%d" % len(await messages_of(request)))

    async def repeat(self, request: Request) -> Response:
        (message,) = await messages_of(request)
        return answered(*(b"%d" % index for index in range(int(message))))

    async def chat(self, request: Request) -> Response:
        request.body.on_end(lambda end: self.reset.append(end.error))
        return Response(200, Headers([GRPC]), EchoBody(request.body))

    async def hang(self, request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async def stall(self, request: Request) -> Response:
        body = Chunks()
        body.push(frame(b"one"))
        body.on_end(lambda end: self.reset.append(end.error))
        return Response(200, Headers([GRPC]), body)

    async def early(self, request: Request) -> Response:
        return answered(b"enough")

    async def fail(self, request: Request) -> Response:
        await messages_of(request)
        fields = [*status_fields(9, "not now: ünïcode %"), (b"x-why", b"because"), (b"y-bin", b"AAE")]
        fields.append((b"grpc-status-details-bin", b"CAkSA25vdA"))
        return (
            answered(trailers=fields, headers=(GRPC,))
            if request.headers.get(b"late")
            else Response(200, Headers([GRPC, *fields]), Empty())
        )

    async def none(self, request: Request) -> Response:
        return answered()

    async def two(self, request: Request) -> Response:
        return answered(b"1", b"2")

    async def half(self, request: Request) -> Response:
        return Response(200, Headers([GRPC]), Full(frame(b"a message")[:-1], OK))

    async def silent(self, request: Request) -> Response:
        return Response(200, Headers([GRPC]), Full(frame(b"a message")))

    async def zipped(self, request: Request) -> Response:
        return Response(200, Headers([GRPC, (b"grpc-encoding", b"gzip")]), Full(b"\x01\0\0\0\x01x", OK))

    async def broken(self, request: Request) -> Response:
        raise StreamReset("reset here", h2_code=0xB)

    async def html(self, request: Request) -> Response:
        status = int(request.headers.get(b"status") or b"200")
        return Response(status, Headers([(b"content-type", b"text/html")]), Full(b"<h1>"))


@asynccontextmanager
async def over_http2(service: HttpService) -> AsyncIterator[HttpService]:
    """The service behind HTTP/2, in memory."""
    async with trio.open_nursery() as nursery:

        async def connect(endpoint: Endpoint) -> Connection:
            here, there = memory_connection_pair()
            nursery.start_soon(serve_http2, there, service, ServerOptions())
            return here

        yield Http().layer(connect).new_service(Endpoint(("10.0.0.1", 50051), "h2"), nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def direct(service: HttpService) -> AsyncIterator[HttpService]:
    """The service itself."""
    yield service
