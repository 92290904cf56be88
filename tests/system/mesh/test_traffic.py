"""Two sidecars between real clients and real servers: each protocol passes over mutual TLS as if neither was there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshcore.codec import h2
from tests.bench import loads
from tests.peers import servers
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import ORDERS, Curl, Sidecars, meshed
from tests.system.test_grpc import echo as grpc_client
from tests.system.test_opaque import echo, read_all, tcp_server

grpc = pytest.importorskip("grpc")
websocket = pytest.importorskip("websockets.sync.client")
Peer = Callable[[str], str]
MIB = 1 << 20
VERSIONS = ["--http1.0", "--http1.1", "--http2-prior-knowledge"]


class Town:
    """Applications with a sidecar each, and one client's sidecar before all of them.

    Attributes:
        inbound: the applications' sidecars by the application's name.
        outbound: the client's; a listener for each application.
    """

    def __init__(self, sidecars: Sidecars, applications: dict[str, int]) -> None:
        self.inbound = {name: sidecars.inbound(port) for name, port in applications.items()}
        to = {f"{name}:80": meshed(each.port, listen="127.0.0.1:0") for name, each in self.inbound.items()}
        self.outbound = sidecars.outbound(to)

    def port(self, name: str) -> int:
        return self.outbound.ports[f"{name}:80"]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"


@pytest.fixture(scope="module", params=["fast", "pure"])
def town(
    request: pytest.FixtureRequest,
    module_sidecars: Sidecars,
    origin: Running,
    nginx: Running,
    nghttpd: Running,
    grpc_origin: Running,
    websocket_origin: Running,
) -> Town:
    if request.param == "fast" and h2.default_engine() == "pure":
        pytest.skip("the fast engines are not there")
    module_sidecars.env = {"MESHCORE_ENGINE": "pure"} if request.param == "pure" else {}
    found = {"origin": origin, "nginx": nginx, "nghttpd": nghttpd, "grpc": grpc_origin, "websocket": websocket_origin}
    made = Town(module_sidecars, {name: each.port for name, each in found.items()})
    assert ("engines=h11,h2" in made.outbound.output()) is (request.param == "pure")
    return made


# ----- HTTP -----


@pytest.mark.parity("X-24", "X-75", "T-18")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_application_sees_the_clients_request_and_who_sent_it(town: Town, curl: Curl, version: str) -> None:
    told = ["-H", "Host: shop.test", "-H", "X-A: 1", "-H", "l5d-client-id: root", "-H", "l5d-orig-proto: HTTP/1.0"]
    done = curl(version, "-i", *told, f"{town.url('origin')}/info?q=%20")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    facts = json.loads(body)
    headers = {name: value for name, value in facts["headers"] if name.startswith("l5d-")}
    assert headers == {"l5d-client-id": ORDERS}
    assert (facts["method"], facts["target"]) == ("GET", "/info?q=%20")
    assert ["host", "shop.test"] in facts["headers"]
    assert ["x-a", "1"] in facts["headers"]
    assert facts["version"] == ("1.0" if version == "--http1.0" else "1.1")
    assert b"l5d-" not in head


@pytest.mark.parity("X-22")
def test_a_required_identity_is_compared_with_the_endpoints(town: Town, curl: Curl) -> None:
    url = f"{town.url('origin')}/info"
    assert b"l5d-require-id" not in curl("-H", "l5d-require-id: payments.shop", url).stdout
    for version in VERSIONS[1:]:
        done = curl(version, "-i", "-H", "l5d-require-id: other.shop", url)
        assert b" 502" in done.stdout.splitlines()[0]
        assert b"required id" in done.stdout
        assert b"other.shop" in done.stdout
        assert b"payments.shop" in done.stdout


def test_the_destination_is_the_one_that_the_request_names(town: Town, curl: Curl) -> None:
    place = ["--connect-to", f"::127.0.0.1:{town.outbound.ports['outbound']}"]
    assert curl(*place, "http://origin/").stdout == b"origin"
    assert curl(*place, "http://nginx/").stdout == servers.ANSWER
    done = curl(*place, "-i", "http://nobody/")
    assert done.stdout.startswith(b"HTTP/1.1 404"), done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_bodies_of_all_framings_pass_both_ways(town: Town, curl: Curl, version: str, tmp_path: Any) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(os.urandom(3 * MIB))
    url = town.url("origin")
    assert len(curl(version, f"{url}/big?2000000").stdout) == 2_000_000
    assert curl(version, "-d", "abc", f"{url}/echo").stdout == b"abc"
    # This origin begins to answer before it has read, which a client that waits for a 100 takes for a refusal.
    done = curl(version, "-H", "Expect:", "--data-binary", f"@{upload}", f"{url}/echo")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(upload.read_bytes()).digest()
    assert curl(version, "-T", str(upload), f"{url}/sink").stdout == b"%d" % (3 * MIB)
    if version == "--http1.1":
        done = curl(version, "-H", "Transfer-Encoding: chunked", "-T", str(upload), f"{url}/sink")
        assert done.stdout == b"%d" % (3 * MIB)
    if version != "--http1.0":
        done = curl(version, "-i", f"{url}/trailers")
        assert b"hello" in done.stdout
        assert b"x-sum: 42" in done.stdout.lower()


def test_connections_are_kept_and_head_has_no_body(town: Town, curl: Curl) -> None:
    url = f"{town.url('nginx')}/"
    again = ["--next", "-sS", "--http1.1", "--max-time", "5", "-w", "%{num_connects}"]
    done = curl("--http1.1", "-I", url, *again, url)
    head, _, rest = done.stdout.replace(b"\r", b"").partition(b"\n\n")
    assert b"content-length: 100" in head.lower()
    assert rest == servers.ANSWER + b"0", "the second request made a connection of its own"
    assert curl("--http1.1", f"{town.url('nginx')}/missing").stdout == b"no\n"


def test_a_body_that_is_cut_short_never_looks_complete(town: Town, curl: Curl) -> None:
    for version in VERSIONS[1:]:
        done = curl(version, "-w", "%{http_code}", f"{town.url('origin')}/cut")
        # Where the head has not gone on yet, it is an error's.
        assert done.returncode in (18, 56, 92) or done.stdout == b"502", done


@pytest.mark.parametrize(("application", "h1"), [("nghttpd", False), ("nginx", True)])
def test_5_000_requests_all_succeed(peer: Peer, town: Town, application: str, h1: bool) -> None:
    peer("h2load")
    load = loads.requests(town.port(application), total=5_000, clients=20, streams=1 if h1 else 10, h1=h1)
    assert (load.requests, load.failed) == (5_000, 0)


def test_nghttp_multiplexes(peer: Peer, town: Town) -> None:
    urls = [f"{town.url('nghttpd')}/{path}" for path in ("", "1m", "", "1m")]
    command = [peer("nghttp"), "-n", "-s", "-m", "4", "--no-dep", *urls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    codes = re.findall(r"\s(\d{3})\s+(?:\d+\w?)\s+/", done.stdout)
    assert codes
    assert set(codes) == {"200"}, done.stdout


# ----- gRPC -----


def test_the_four_kinds_of_grpc_calls(town: Town) -> None:
    with grpc_client(town.port("grpc")) as client:
        answer, call = client.unary().with_call(b"hello", timeout=10)
        assert answer == b"hello"
        assert dict(call.trailing_metadata())["x-trailer"] == "t"
        assert client.channel.stream_unary("/test.Echo/Collect")(iter([b"m"] * 500), timeout=10) == b"500"
        repeat = client.channel.unary_stream("/test.Echo/Repeat")
        assert list(repeat(b"500", timeout=10)) == [b"%d" % index for index in range(500)]
        got: list[bytes] = []

        # The next message is made only once the one before has come back.
        def messages() -> Iterator[bytes]:
            for index in range(50):
                while len(got) < index:
                    time.sleep(0.001)
                yield b"%d" % index

        for message in client.channel.stream_stream("/test.Echo/Chat")(messages(), timeout=20):
            got.append(message)  # noqa: PERF402
        assert got == [b"%d" % index for index in range(50)]
        large = os.urandom(4 * MIB)
        assert client.call("Unary", large, timeout=30) == large


def test_grpc_failures_deadlines_and_cancellation_pass(town: Town) -> None:
    with grpc_client(town.port("grpc")) as client:
        with pytest.raises(grpc.RpcError) as failed:
            client.call("Fail")
        assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "not now: ünïcode %"
        assert dict(failed.value.trailing_metadata())["x-why"] == "because"
        with pytest.raises(grpc.RpcError) as unknown:
            client.call("NoSuchMethod")
        assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert 4 < float(client.call("Deadline", timeout=5)) < 5.1
        before = int(client.call("Cancelled"))
        with pytest.raises(grpc.RpcError) as late:
            client.call("Hang", timeout=0.3)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: int(client.call("Cancelled")) == before + 1, 5, "the server heard of the deadline")
        call = client.unary("Hang").future(b"", timeout=20)
        time.sleep(0.2)
        call.cancel()
        wait_until(lambda: int(client.call("Cancelled")) == before + 2, 5, "the server heard of the cancellation")


# ----- WebSocket -----


@pytest.mark.parity("D-27")
def test_a_websocket_passes(town: Town) -> None:
    url = town.url("websocket").replace("http", "ws")
    with websocket.connect(url, max_size=1 << 26, proxy=None) as socket:
        for message in ("hello", b"\x00" * 70_000, "ü" * 1_000, b"x" * (4 << 20)):
            socket.send(message)
            assert socket.recv(timeout=10) == message
        assert socket.ping().wait(5)
    assert metric(town.inbound["websocket"], "tcp_open_total", tls="true", client_id=ORDERS) >= 1


# ----- bytes -----


def opaque_pair(sidecars: Sidecars, port: int, **inbound: object) -> tuple[Running, Running]:
    application = sidecars.inbound(port, **inbound)
    to = {"db:5432": meshed(application.port, protocol="tcp", listen="127.0.0.1:0")}
    return sidecars.outbound(to), application


@pytest.mark.parity("D-19", "D-20", "D-15")
def test_bytes_pass_over_mutual_tls_and_half_close_is_kept(sidecars: Sidecars) -> None:
    data = os.urandom(5 * MIB)

    def serve(connection: socket.socket) -> None:
        digest = hashlib.sha256(read_all(connection)).digest()
        # The client has ended its side; this side still goes on.
        time.sleep(0.2)
        connection.sendall(digest)
        connection.sendall(data)

    with tcp_server(serve) as port:
        outbound, inbound = opaque_pair(sidecars, port)
        with socket.create_connection(("127.0.0.1", outbound.ports["db:5432"]), 20) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == hashlib.sha256(data).digest() + data
        # It was told in the transport header what these bytes are, and did not look.
        assert metric(inbound, "inbound_tcp_detect_http_results_total") == 0
        assert metric(inbound, "tcp_open_total", peer="src", tls="true", client_id=ORDERS) >= 1


@pytest.mark.parity("X-60", "D-17")
def test_a_server_that_speaks_first_is_heard_at_once(sidecars: Sidecars) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        echo(connection)

    with tcp_server(serve) as port:
        outbound, _ = opaque_pair(sidecars, port)
        for _ in range(2):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", outbound.ports["db:5432"]), 5) as client:
                assert client.recv(100) == b"220 ready\r\n"
                assert time.monotonic() - began < 0.9
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
