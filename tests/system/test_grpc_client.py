"""The gRPC client against grpcio's server, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from meshcore import Backend, ClientOptions, Endpoint, Http, connect_tcp, layers
from meshcore.errors import GrpcError
from meshcore.grpc import GrpcClient, GrpcStatus, Method, health
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import config, metric, sidecar

pytest.importorskip("grpc")
MIB = 1 << 20


def method(name: str) -> Method[bytes, bytes]:
    return Method(b"/test.Echo/%b" % name.encode())


@pytest.fixture(params=["auto", "pure"])
def options(request: pytest.FixtureRequest) -> ClientOptions:
    return ClientOptions(engine=request.param)


@asynccontextmanager
async def calling(port: int, options: ClientOptions, largest: int = 4 * MIB) -> AsyncIterator[GrpcClient]:
    """A client whose calls are balanced over the one server that there is."""
    stack = layers.Balance().layer(Http(options).layer(connect_tcp))
    async with trio.open_nursery() as nursery:
        backend = Backend("echo", (Endpoint(("127.0.0.1", port), "h2"),))
        with trio.fail_after(60):
            yield GrpcClient(stack.new_service(backend, nursery), f"127.0.0.1:{port}".encode(), largest=largest)
        nursery.cancel_scope.cancel()


async def test_the_four_shapes_of_a_call(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        assert b"hello" == await client.unary(method("Unary"), b"hello", timeout=10)
        assert b"500" == await client.client_stream(method("Collect"), [b"m"] * 500, timeout=10)
        async with client.server_stream(method("Repeat"), b"500", timeout=10) as call:
            assert [b"%d" % index for index in range(500)] == [message async for message in call]
        async with client.stream(method("Chat"), timeout=10) as call:
            for index in range(50):
                await call.send(b"%d" % index)
                assert b"%d" % index == await call.receive()
            call.finish()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_metadata_both_ways_with_bytes(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        sent = [(b"x-text", b"a b"), (b"x-data-bin", b"\x00\xff\x80"), (b"x-data-bin", b"")]
        async with client.server_stream(method("Metadata"), b"", metadata=sent) as call:
            assert b"grpc-python-meshcore/1" == await call.last()
            assert sorted(sent) == sorted(call.trailing_metadata)
        async with client.server_stream(method("Unary"), b"x") as call:
            assert (b"x-served-by", b"grpc") in await call.metadata()
            assert b"x" == await call.last()
            assert [(b"x-trailer", b"t")] == call.trailing_metadata


async def test_a_deadline_is_told_and_ends_the_call_at_the_server(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        assert 4 < float(await client.unary(method("Deadline"), b"", timeout=5)) <= 5
        # Without one, grpcio says that there are some hundred billion years left.
        assert float(await client.unary(method("Deadline"), b"")) > 1e9
        before = int(await client.unary(method("Cancelled"), b""))
        began = trio.current_time()
        with pytest.raises(GrpcError) as late:
            await client.unary(method("Hang"), b"", timeout=0.3)
        assert GrpcStatus.DEADLINE_EXCEEDED == late.value.status
        assert trio.current_time() - began < 2
        await heard(client, before + 1)


async def test_cancellation_reaches_the_server(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        before = int(await client.unary(method("Cancelled"), b""))
        with trio.move_on_after(0.3):
            await client.unary(method("Hang"), b"")
        await heard(client, before + 1)
        async with client.server_stream(method("Forever"), b"m" * 1_000) as call:
            for _ in range(100):
                assert b"m" * 1_000 == await call.receive()
        await heard(client, before + 2)


async def heard(client: GrpcClient, count: int) -> None:
    """Waits until the server has heard of so many cancellations."""
    with trio.fail_after(5):
        while int(await client.unary(method("Cancelled"), b"")) < count:
            await trio.sleep(0.01)


async def test_messages_of_8_mib_pass_both_ways(grpc_origin: Running, options: ClientOptions) -> None:
    large = b"m" * (8 * MIB)
    async with calling(grpc_origin.port, options, 8 * MIB) as client:
        assert large == await client.unary(method("Unary"), large)
        async with client.stream(method("Chat")) as call:
            for _ in range(2):
                await call.send(large)
                assert large == await call.receive()
            call.finish()
    async with calling(grpc_origin.port, options) as client:
        with pytest.raises(GrpcError, match="limit is 4194304") as failed:
            await client.unary(method("Unary"), large)
        assert GrpcStatus.RESOURCE_EXHAUSTED == failed.value.status
        # The connection is fit for more.
        assert b"x" == await client.unary(method("Unary"), b"x")


async def test_statuses_with_messages_metadata_and_details(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        with pytest.raises(GrpcError) as failed:
            await client.unary(method("Fail"), b"")
        error = failed.value
        assert (GrpcStatus.FAILED_PRECONDITION, "not now: ünïcode %") == (error.status, error.message)
        assert (b"x-why", b"because") in error.metadata
        with pytest.raises(GrpcError) as failed:
            await client.unary(method("Details"), b"\x08\x05\x12\x07details")
        assert (GrpcStatus.NOT_FOUND, b"\x08\x05\x12\x07details") == (failed.value.status, failed.value.details)
        with pytest.raises(GrpcError) as failed:
            await client.unary(method("NoSuchMethod"), b"")
        assert GrpcStatus.UNIMPLEMENTED == failed.value.status


async def test_a_compressed_message_is_refused_cleanly(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        # The server was told that this client takes none, and sends it all the same.
        with pytest.raises(GrpcError, match="compression was not offered") as failed:
            await client.unary(method("Zipped"), b"a" * 10_000)
        assert GrpcStatus.INTERNAL == failed.value.status
        assert b"x" == await client.unary(method("Unary"), b"x")


async def test_an_answer_before_the_last_message_ends_the_call(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        assert b"m" * 100_000 == await client.client_stream(method("Early"), [b"m" * 100_000] * 200)


async def test_a_server_is_asked_for_its_health(grpc_origin: Running, options: ClientOptions) -> None:
    async with calling(grpc_origin.port, options) as client:
        names = ["", "test.Echo", "test.Sick", "test.Nobody"]
        assert [True, True, False, False] == [await health.check(client.service, name) for name in names]


@pytest.mark.parametrize(("service", "well"), [("", 1), ("test.Echo", 1), ("test.Sick", 0), ("test.Nobody", 0)])
def test_an_endpoint_of_a_gateway_is_well_as_its_server_says(grpc_origin: Running, service: str, well: int) -> None:
    told = config(
        listen={"public": {"bind": "127.0.0.1:0", "to": [{"backend": "echo"}]}},
        backend={
            "echo": {
                "endpoints": [f"127.0.0.1:{grpc_origin.port}"],
                "protocol": "h2c",
                "health_check": {"grpc": service, "interval": "1s"},
            }
        },
    )
    with sidecar(told) as gateway, socket.create_connection(("127.0.0.1", gateway.ports["public"])) as client:
        # Endpoints are checked once somebody asks for them.
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        result = "success" if well else "failure"
        wait_until(lambda: metric(gateway, "health_checks_total", result=result) > 0, 10, "it was checked")
        assert well == metric(gateway, "endpoint_healthy")


async def test_nobody_there_is_unavailable(options: ClientOptions) -> None:
    client = Http(options).layer(connect_tcp)
    async with trio.open_nursery() as nursery:
        service = client.new_service(Endpoint(("127.0.0.1", 1), "h2"), nursery)
        with pytest.raises(GrpcError) as failed:
            await GrpcClient(service).unary(method("Unary"), b"")
        assert (GrpcStatus.UNAVAILABLE, True) == (failed.value.status, failed.value.retryable)
        nursery.cancel_scope.cancel()
