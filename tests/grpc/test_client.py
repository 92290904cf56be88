"""The gRPC client against a service in memory: called itself, and over HTTP/2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from meshcore import Request, Response
from meshcore.errors import BodyAbandoned, ConnectError, ConnectionLost, GrpcError, StreamReset
from meshcore.grpc import GrpcClient, GrpcStatus, Method
from meshcore.grpc.framing import frame
from meshcore.http.body import Chunks
from meshcore.http.headers import Headers
from meshcore.layers import Rescue
from meshcore.testing import explore_schedules, mock_service
from tests.grpc.echo import GRPC, Echo, direct, over_http2

Reach = Callable[[Any], AbstractAsyncContextManager[Any]]


def method(name: str) -> Method[bytes, bytes]:
    return Method(b"/test.Echo/%b" % name.encode())


@pytest.fixture(params=[direct, over_http2], ids=["direct", "http2"])
def reach(request: pytest.FixtureRequest) -> Reach:
    found: Reach = request.param
    return found


async def test_a_unary_call_sends_what_grpc_asks_for_and_returns_the_message(reach: Reach) -> None:
    echo = Echo()
    async with reach(echo) as service:
        client = GrpcClient(service, b"echo.test:50051", metadata=((b"x-all", b"1"),))

        answer = await client.unary(method("Unary"), b"hello", timeout=0.2, metadata=[(b"x-bin", b"\x00\xff")])

    assert b"hello" == answer
    (request,) = echo.requests
    assert (b"POST", b"http", b"echo.test:50051", b"/test.Echo/Unary") == (
        request.method, request.scheme, request.authority, request.path,
    )  # fmt: skip
    assert [
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-python-meshcore/1"),
        (b"grpc-accept-encoding", b"identity"),
        (b"grpc-timeout", b"200000u"),
        (b"x-all", b"1"),
        (b"x-bin", b"AP8"),
    ] == [field for field in request.headers if field[0] != b"content-length"]


async def test_an_empty_message_is_a_message(reach: Reach) -> None:
    async with reach(Echo()) as service:
        assert b"" == await GrpcClient(service).unary(method("Unary"), b"")


async def test_messages_are_made_and_read_by_the_methods_functions(reach: Reach) -> None:
    number = Method(b"/test.Echo/Unary", lambda value: b"%d" % value, int)
    async with reach(Echo()) as service:
        assert 42 == await GrpcClient(service).unary(number, 42)
        with pytest.raises(GrpcError) as failed:
            await GrpcClient(service).unary(Method(b"/test.Echo/Unary", decode=int), b"no number")
    assert GrpcStatus.INTERNAL == failed.value.status
    assert isinstance(failed.value.__cause__, ValueError)


async def test_a_large_message_passes_both_ways_in_a_stream_and_alone(reach: Reach) -> None:
    large = b"m" * (8 << 20)
    async with reach(Echo()) as service:
        client = GrpcClient(service, largest=8 << 20)
        assert large == await client.unary(method("Unary"), large)
        async with client.stream(method("Chat")) as call:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.send, large)
                assert large == await call.receive()
            call.finish()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_a_message_beyond_the_limit_is_refused_before_it_is_read(reach: Reach) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(GrpcError, match="resource exhausted: a message of 4194305 bytes came") as failed:
            await GrpcClient(service).unary(method("Unary"), b"m" * ((4 << 20) + 1))
    assert GrpcStatus.RESOURCE_EXHAUSTED == failed.value.status


async def test_client_streaming(reach: Reach) -> None:
    async def later() -> AsyncIterator[bytes]:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
            yield b"m"

    async with reach(Echo()) as service:
        client = GrpcClient(service)
        assert b"500" == await client.client_stream(method("Collect"), [b"m" * 1_000] * 500)
        assert b"10" == await client.client_stream(method("Collect"), later())
        assert b"0" == await client.client_stream(method("Collect"), [])


async def test_what_the_messages_raise_is_raised(reach: Reach) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise KeyError("mine")

    async with reach(Echo()) as service:
        with pytest.raises(KeyError, match="mine"):
            await GrpcClient(service).client_stream(method("Collect"), broken())
        with pytest.raises(KeyError, match="mine"):
            await GrpcClient(service).client_stream(method("Chat"), broken())


async def test_messages_that_never_come_end_with_the_answer(reach: Reach, autojump_clock: MockClock) -> None:
    async def waiting() -> AsyncIterator[bytes]:
        await trio.sleep_forever()
        yield b""

    async with reach(Echo()) as service:
        with trio.fail_after(5):
            assert b"enough" == await GrpcClient(service).client_stream(method("Early"), waiting())


async def test_server_streaming(reach: Reach) -> None:
    async with reach(Echo()) as service:
        async with GrpcClient(service).server_stream(method("Repeat"), b"500") as call:
            assert [b"%d" % index for index in range(500)] == [message async for message in call]
            assert [] == call.trailing_metadata
            with pytest.raises(trio.EndOfChannel):
                await call.receive()
            with pytest.raises(trio.ClosedResourceError):
                await call.send(b"one more")


async def test_bidirectional_streaming_is_full_duplex(reach: Reach) -> None:
    async with reach(Echo()) as service:
        async with GrpcClient(service).stream(method("Chat")) as call:
            for index in range(50):
                await call.send(b"%d" % index)
                assert b"%d" % index == await call.receive()
            call.finish()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_sending_waits_for_the_other_side(reach: Reach, autojump_clock: MockClock) -> None:
    sent = 0
    async with reach(Echo()) as service:
        async with GrpcClient(service).stream(method("Chat")) as call:
            with trio.move_on_after(10):
                while sent < 10_000:
                    await call.send(b"m" * 1_000)
                    sent += 1
    # A window on each side of the echo, and as much again in buffers.
    assert 0 < sent < 600


@pytest.mark.parametrize("late", [b"", b"1"])
async def test_a_status_comes_with_its_message_metadata_and_details(reach: Reach, late: bytes) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(GrpcError) as failed:
            await GrpcClient(service).unary(method("Fail"), b"", metadata=[(b"late", late)] if late else [])
    error = failed.value
    assert GrpcStatus.FAILED_PRECONDITION == error.status
    assert "not now: ünïcode %" == error.message
    assert "failed precondition: not now: ünïcode %" == str(error)
    assert b"\x08\x09\x12\x03not" == error.details
    assert ((b"x-why", b"because"), (b"y-bin", b"\x00\x01")) == error.metadata[:2]


async def test_a_method_that_is_not_there_is_unimplemented(reach: Reach) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(GrpcError, match="unimplemented: no method nothing"):
            await GrpcClient(service).unary(method("Nothing"), b"")
        async with GrpcClient(service).stream(method("Nothing")) as call:
            with pytest.raises(GrpcError, match="unimplemented"):
                await call.receive()
            with pytest.raises(GrpcError, match="unimplemented"):
                await call.receive()


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("None", GrpcStatus.INTERNAL, "without a message"),
        ("Two", GrpcStatus.INTERNAL, "more than one message"),
        ("Half", GrpcStatus.INTERNAL, "in the middle of a message"),
        ("Silent", GrpcStatus.UNKNOWN, "without a grpc-status"),
        ("Zipped", GrpcStatus.INTERNAL, "compression was not offered"),
        ("Broken", GrpcStatus.RESOURCE_EXHAUSTED, "resource exhausted"),
        ("Html", GrpcStatus.UNKNOWN, "HTTP status 200"),
    ],
)
async def test_what_is_no_answer_of_grpc_is_an_error(reach: Reach, name: str, status: int, text: str) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(GrpcError, match=text) as failed:
            await GrpcClient(service).unary(method(name), b"")
    assert status == failed.value.status


@pytest.mark.parametrize(
    ("http", "status"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2)],
)
async def test_the_status_of_http_says_what_gRPC_does_not(reach: Reach, http: int, status: int) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(GrpcError, match=f"HTTP status {http}") as failed:
            await GrpcClient(service).unary(method("Html"), b"", metadata=[(b"status", b"%d" % http)])
    assert status == failed.value.status


async def test_what_happens_on_the_way_is_a_status_with_its_cause() -> None:
    service = mock_service(ConnectError("endpoint 10.0.0.1:1: connection refused"))

    with pytest.raises(GrpcError) as failed:
        await GrpcClient(service).unary(method("Unary"), b"")

    assert (GrpcStatus.UNAVAILABLE, True) == (failed.value.status, failed.value.retryable)
    assert isinstance(failed.value.__cause__, ConnectError)


async def test_the_deadline_ends_a_unary_call_and_cancels_it_at_the_server(
    reach: Reach, autojump_clock: MockClock
) -> None:
    echo = Echo()
    async with reach(echo) as service:
        began = trio.current_time()
        with pytest.raises(GrpcError, match="deadline exceeded") as failed:
            await GrpcClient(service).unary(method("Hang"), b"", timeout=0.3)
        assert 0.3 == pytest.approx(trio.current_time() - began)
        assert GrpcStatus.DEADLINE_EXCEEDED == failed.value.status
        await trio.sleep(0.1)
        assert 1 == echo.cancelled


async def test_the_deadline_ends_a_stream_in_whatever_waits(reach: Reach, autojump_clock: MockClock) -> None:
    echo = Echo()
    async with reach(echo) as service:
        async with GrpcClient(service).stream(method("Stall"), timeout=2) as call:
            assert b"one" == await call.receive()
            began = trio.current_time()
            for _ in range(2):
                with pytest.raises(GrpcError, match="deadline exceeded"):
                    await call.receive()
            with pytest.raises(GrpcError, match="deadline exceeded"):
                await call.send(b"")
            assert 2 == pytest.approx(trio.current_time() - began)
            await trio.sleep(0.1)
            assert 1 == len(echo.reset)


async def test_leaving_early_cancels_the_call_at_the_server(reach: Reach, autojump_clock: MockClock) -> None:
    echo = Echo()
    async with reach(echo) as service:
        async with GrpcClient(service).stream(method("Stall")) as call:
            assert b"one" == await call.receive()
        async with GrpcClient(service).stream(method("Hang")):
            await trio.sleep(1)
        await trio.sleep(0.1)
    (reset,) = echo.reset
    assert isinstance(reset, StreamReset)
    assert 8 == reset.h2_code
    assert 1 == echo.cancelled


async def test_a_cancelled_unary_call_is_cancelled_at_the_server(reach: Reach, autojump_clock: MockClock) -> None:
    echo = Echo()
    async with reach(echo) as service:
        with trio.move_on_after(1) as scope:
            await GrpcClient(service).unary(method("Hang"), b"")
        assert scope.cancelled_caught
        await trio.sleep(0.1)
        assert 1 == echo.cancelled


async def test_what_the_block_raises_passes_as_it_is(reach: Reach) -> None:
    async with reach(Echo()) as service:
        with pytest.raises(KeyError, match="mine"):
            async with GrpcClient(service).stream(method("Chat")) as call:
                await call.send(b"")
                raise KeyError("mine")


async def test_cancelling_the_block_passes_on(reach: Reach, autojump_clock: MockClock) -> None:
    async with reach(Echo()) as service:
        with trio.move_on_after(1) as scope:
            async with GrpcClient(service).stream(method("Chat")) as call:
                await call.receive()
        assert scope.cancelled_caught


async def test_a_crash_in_the_service_is_raised_as_it_is() -> None:
    async def crash(request: Request) -> Response:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await GrpcClient(crash).unary(method("Unary"), b"")
    async with GrpcClient(crash).stream(method("Chat")) as call:
        with pytest.raises(ZeroDivisionError):
            await call.receive()
    # Even if nobody asks.
    with pytest.raises(ZeroDivisionError):
        async with GrpcClient(crash).stream(method("Chat")):
            await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(KeyError):
        async with GrpcClient(crash).stream(method("Chat")):
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError


@pytest.mark.parity("E-05")
async def test_an_answer_that_breaks_on_its_way_through_a_proxy_ends_with_a_status() -> None:
    async def breaking(request: Request) -> Response:
        body = Chunks()
        body.push(frame(b"one"))
        body.on_first_data(lambda: body.push_error(ConnectionLost("endpoint 10.0.0.7:4143: connection lost")))
        return Response(200, Headers([GRPC]), body)

    async with over_http2(Rescue().wrap(breaking, None)) as service:
        async with GrpcClient(service).server_stream(method("Stall"), b"") as call:
            assert b"one" == await call.receive()
            with pytest.raises(GrpcError) as failed:
                await call.receive()
    error = failed.value
    assert (GrpcStatus.UNAVAILABLE, "endpoint 10.0.0.7:4143: connection lost") == (error.status, error.message)
    # Fields that only proxies may send are not believed in trailers.
    assert () == error.metadata


@pytest.mark.parity("E-01", "E-04")
async def test_what_nobody_expected_is_internal_without_a_word_of_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(request: Request) -> Response:
        raise ZeroDivisionError("a secret")

    async with over_http2(crash) as service:
        with pytest.raises(GrpcError) as failed:
            await GrpcClient(service).unary(method("Unary"), b"")
        plain = await service(Request(b"GET", b"http", b"a.test", b"/", version=20))
    assert (GrpcStatus.INTERNAL, "unexpected error") == (failed.value.status, failed.value.message)
    assert (b"x-meshcore-error", b"internal") in failed.value.metadata
    assert (500, b"internal") == (plain.status, plain.headers.get(b"x-meshcore-error"))
    # The log has it.
    assert "a secret" in caplog.text


async def test_an_answer_before_the_last_message_is_the_answer_all_the_same(autojump_clock: MockClock) -> None:
    async with over_http2(Echo()) as service:
        with trio.fail_after(5):
            assert b"enough" == await GrpcClient(service).client_stream(method("Early"), [b"m" * 50_000] * 100)


async def test_metadata_comes_before_and_after_the_messages(reach: Reach) -> None:
    async with reach(Echo()) as service:
        async with GrpcClient(service).server_stream(method("Unary"), b"x") as call:
            assert (b"x-served-by", b"echo") in await call.metadata()
            assert b"x" == await call.last()


@pytest.mark.parametrize(
    "field", [(b"grpc-timeout", b"1S"), (b"content-type", b"x"), (b"X-Upper", b""), (b":path", b"/"), (b"a", b"\n"),
              (b"a", b"\xff"), (b"te", b"trailers"), (b"", b"")]
)  # fmt: skip
async def test_metadata_cannot_be_what_belongs_to_the_protocol(field: tuple[bytes, bytes]) -> None:
    service = mock_service()
    with pytest.raises(ValueError, match="metadata"):
        await GrpcClient(service).unary(method("Unary"), b"", metadata=[field])
    assert [] == service.requests


@pytest.mark.parametrize("path", [b"", b"/", b"/a", b"a/b", b"/a/", b"//b", b"/a/b c", b"/a/b?c", "/a/ü".encode()])
def test_a_method_has_a_service_and_a_name(path: bytes) -> None:
    with pytest.raises(ValueError, match="path"):
        Method(path)


async def test_leaving_a_finished_call_resets_nothing(reach: Reach) -> None:
    echo = Echo()
    async with reach(echo) as service:
        async with GrpcClient(service).stream(method("Chat")) as call:
            await call.send(b"one")
            call.finish()
            assert b"one" == await call.last()
    assert [None] == echo.reset
    assert not any(isinstance(each, BodyAbandoned) for each in echo.reset)


@explore_schedules(60)
async def test_whenever_a_call_is_left_nothing_of_it_is_left() -> None:
    echo = Echo()
    async with over_http2(echo) as service:
        client = GrpcClient(service)
        for turns in range(8):
            # Left after so many turns of the scheduler, wherever the call is then.
            async with client.stream(method("Chat")) as call:
                call.send_from([b"m" * 1_000] * 3)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
            with trio.move_on_after(0):
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                await client.unary(method("Hang"), b"")
            with pytest.raises(GrpcError, match="deadline exceeded"):
                await client.unary(method("Hang"), b"", timeout=turns / 1_000)
            # Another call on the same connection is none the worse for it.
            assert b"x" == await client.unary(method("Unary"), b"x")
        await trio.sleep(1)
        http2: Any = service
        # One connection, and no stream on it.
        assert (1, 0) == (http2._http2.statistics().connections, http2._http2.statistics().streams)


@explore_schedules(60)
async def test_two_tasks_may_send_and_receive_on_one_call() -> None:
    async with over_http2(Echo()) as service:
        async with GrpcClient(service).stream(method("Chat"), timeout=100) as call:
            messages = [b"%d" % index * 200 for index in range(300)]

            async def send() -> None:
                for message in messages:
                    await call.send(message)
                call.finish()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                assert messages == [message async for message in call]
