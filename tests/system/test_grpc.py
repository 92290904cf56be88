"""grpcio on both ends of the proxy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers import python
from tests.peers.process import Running, wait_until

grpc = pytest.importorskip("grpc")
Proxy = Callable[..., Running]
Start = Callable[..., Running]
MIB = 1 << 20


class Echo:
    """A client of ``test.Echo``; messages are bytes."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                   ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]  # fmt: skip
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)

    def unary(self, method: str = "Unary") -> Any:
        return self.channel.unary_unary(f"/test.Echo/{method}")

    def call(self, method: str, message: bytes = b"", timeout: float = 10.0) -> bytes:
        answer: bytes = self.unary(method)(message, timeout=timeout)
        return answer


@contextmanager
def echo(port: int) -> Iterator[Echo]:
    client = Echo(port)
    try:
        yield client
    finally:
        client.channel.close()


@pytest.fixture(params=["auto", "pure"])
def through(request: pytest.FixtureRequest, proxy: Proxy, grpc_origin: Running) -> Running:
    return proxy([grpc_origin.port], scheme="h2c", engine=request.param)


def test_unary_calls_carry_messages_and_metadata_both_ways(through: Running) -> None:
    with echo(through.port) as client:
        answer, call = client.unary().with_call(b"hello", timeout=10)
        assert answer == b"hello"
        assert dict(call.initial_metadata())["x-served-by"] == "grpc"
        assert dict(call.trailing_metadata())["x-trailer"] == "t"


def test_client_streaming(through: Running) -> None:
    with echo(through.port) as client:
        collect = client.channel.stream_unary("/test.Echo/Collect")
        assert collect(iter([b"m"] * 500), timeout=10) == b"500"


def test_server_streaming(through: Running) -> None:
    with echo(through.port) as client:
        repeat = client.channel.unary_stream("/test.Echo/Repeat")
        assert list(repeat(b"500", timeout=10)) == [b"%d" % index for index in range(500)]


def test_bidirectional_streaming_is_full_duplex(through: Running) -> None:
    with echo(through.port) as client:
        chat = client.channel.stream_stream("/test.Echo/Chat")
        sent: list[bytes] = []

        # The next message is made only once the one before has come back.
        def messages() -> Iterator[bytes]:
            for index in range(50):
                while len(got) < index:
                    time.sleep(0.001)
                sent.append(b"%d" % index)
                yield sent[-1]

        got: list[bytes] = []
        # Not list(): the sender looks at what has come so far.
        for message in chat(messages(), timeout=20):
            got.append(message)  # noqa: PERF402
        assert got == sent == [b"%d" % index for index in range(50)]


def test_messages_of_8_mib_pass_both_ways(through: Running) -> None:
    message = b"m" * (8 * MIB)
    with echo(through.port) as client:
        assert client.call("Unary", message, timeout=30) == message
        chat = client.channel.stream_stream("/test.Echo/Chat")
        assert list(chat(iter([message, message]), timeout=30)) == [message, message]


def test_a_status_with_message_and_metadata_arrives_unchanged(through: Running) -> None:
    with echo(through.port) as client:
        with pytest.raises(grpc.RpcError) as failed:
            client.call("Fail")
        assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "not now: ünïcode %"
        assert dict(failed.value.trailing_metadata())["x-why"] == "because"
        with pytest.raises(grpc.RpcError) as unknown:
            client.call("NoSuchMethod")
        assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_cancellation_reaches_the_server(through: Running) -> None:
    with echo(through.port) as client:
        before = int(client.call("Cancelled"))
        call = client.unary("Hang").future(b"", timeout=20)
        time.sleep(0.2)
        call.cancel()
        wait_until(lambda: int(client.call("Cancelled")) == before + 1, 5, "the server heard of it")


def test_deadlines_are_passed_on_and_end_the_call(through: Running) -> None:
    with echo(through.port) as client:
        # grpcio rounds what is left up, to a little more than was asked for.
        assert 4 < float(client.call("Deadline", timeout=5)) <= 5.1
        before = int(client.call("Cancelled"))
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as late:
            client.call("Hang", timeout=0.3)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 2
        wait_until(lambda: int(client.call("Cancelled")) == before + 1, 5, "the server heard of it")


def test_nobody_upstream_is_unavailable(proxy: Proxy) -> None:
    with echo(proxy([1], scheme="h2c").port) as client:
        with pytest.raises(grpc.RpcError) as failed:
            client.call("Unary")
        # Which of the two depends on whether the call waited for an endpoint (fail fast) or not.
        assert failed.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


# ----- one channel, three servers: balanced per request -----


def _spread(client: Echo, calls: int, at_once: int = 16) -> Counter[bytes]:
    unary = client.unary()
    seen: Counter[bytes] = Counter()
    flying: list[Any] = []
    for _ in range(calls):
        if len(flying) >= at_once:
            seen[flying.pop(0).result()] += 1
        flying.append(unary.future(b"", timeout=20))
    for call in flying:
        seen[call.result()] += 1
    return seen


def test_one_channel_spreads_its_calls_evenly_over_three_servers(start: Start, proxy: Proxy) -> None:
    servers = [start(python.grpc_server(f"s{index}")) for index in range(3)]
    with echo(proxy([server.port for server in servers], scheme="h2c").port) as client:
        _spread(client, 200)
        seen = _spread(client, 3_000)
    shares = {name.decode(): count / 3_000 for name, count in seen.items()}
    assert len(shares) == 3
    assert all(abs(share - 1 / 3) < 0.05 for share in shares.values()), shares


@pytest.mark.alone
def test_a_server_200_ms_slow_gets_less_than_2_percent(start: Start, proxy: Proxy) -> None:
    servers = [start(python.grpc_server(f"s{index}", delay=0.2 if index == 0 else 0.0)) for index in range(3)]
    with echo(proxy([server.port for server in servers], scheme="h2c").port) as client:
        # A few at a time: where the machine is busy, sixteen at once make the quick ones slow, too.
        seen = _spread(client, 3_000, at_once=4)
    assert seen[b"s0"] < 60, seen
    assert sum(seen.values()) == 3_000


@pytest.mark.alone
def test_a_server_that_comes_back_gets_its_share_within_2_seconds(start: Start, proxy: Proxy) -> None:
    from tests.peers.process import free_port

    port = free_port()
    servers = [start(python.grpc_server(f"s{index}")) for index in range(2)]
    with echo(proxy([*(server.port for server in servers), port], scheme="h2c").port) as client:
        assert set(_spread(client, 300)) == {b"s0", b"s1"}
        start(python.grpc_server("s2", port=port))
        began = time.monotonic()
        share = 0.0
        while share < 0.2 and time.monotonic() - began < 5:
            seen = _spread(client, 150)
            share = seen[b"s2"] / 150
        assert time.monotonic() - began < 2.5, share
