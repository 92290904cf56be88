"""A sidecar's life: certified before it serves, endpoints that come and go, an application as its child, its end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers import python
from tests.peers.process import Running, free_port, wait_until
from tests.peers.sidecar import admin, config, metric
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Curl, Sidecars, meshed
from tests.system.test_drain import connections_to
from tests.system.test_grpc import echo as grpc_client
from tests.system.test_opaque import echo, tcp_server

grpc = pytest.importorskip("grpc")
Peer = Callable[[str], str]
Start = Callable[..., Running]


# ----- discovery -----


def test_endpoints_come_and_go_within_two_seconds_and_no_request_fails(
    sidecars: Sidecars, peer: Peer, start: Start, nginx: Running, tmp_path: Path
) -> None:
    inbound = [sidecars.inbound(nginx.port) for _ in range(3)]
    file = tmp_path / "endpoints.json"

    def write(*indices: int) -> None:
        new = tmp_path / "endpoints.new"
        new.write_text(json.dumps([inbound[index].address for index in indices]))
        new.rename(file)

    def served(index: int) -> float:
        return metric(inbound[index], "request_total", direction="inbound")

    write(0, 1)
    to = {"discover": f"file:{file}", "identity": PAYMENTS, "listen": "127.0.0.1:0"}
    outbound = sidecars.outbound({"app:80": to})
    command = [peer("h2load"), "--h1", "-c", "20", "-D", "7", f"http://127.0.0.1:{outbound.ports['app:80']}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        wait_until(lambda: served(0) and served(1), 5, "both are used")
        assert served(2) == 0
        write(1, 2)
        wait_until(lambda: served(2), 2, "the new one is used")
        # The old one is asked nothing any more once its last requests are answered.
        time.sleep(0.7)
        before = served(0)
        write(1)
        time.sleep(0.7)
        assert served(0) == before
        file.write_text("[half-wri")
        time.sleep(0.7)
        assert served(1) > 0
        write(2, 1)
        said, _ = load.communicate(timeout=30)
    assert " 0 failed, 0 errored, 0 timeout" in said, said
    # The one that was there all the time was connected to once.
    assert metric(inbound[1], "inbound_tcp_detect_tls_results_total", result="terminated") == 1


# ----- readiness -----


@pytest.mark.parity("X-19", "X-20", "T-13")
def test_nothing_is_served_before_the_identity_is_certified(sidecars: Sidecars, curl: Curl, origin: Running) -> None:
    ports = {name: free_port() for name in ("inbound", "admin")}
    folder = sidecars.issuer.folder
    identity = {"cert": "late.crt", "key": "late.key", "trust_anchors": "ca.crt", "name": "late.shop"}
    told = config(
        {**identity, **{each: str(folder / identity[each]) for each in ("cert", "key", "trust_anchors")}},
        forward=origin.port,
        inbound={"listen": f"127.0.0.1:{ports['inbound']}"},
        admin={"listen": f"127.0.0.1:{ports['admin']}"},
    )
    # Whoever provides the files has not written them yet.
    late = sidecars.run(told, serving=False)
    place = ["--resolve", f"late.shop:{ports['inbound']}:127.0.0.1", "--cacert", str(sidecars.issuer.anchors)]
    url = f"https://late.shop:{ports['inbound']}/"
    status, said = admin(late, "/ready")
    assert status == 503
    assert f"waiting for the identity: {folder / 'late.crt'}: no such file" in said
    assert admin(late, "/live")[0] == 200
    # A peer's connection waits in the backlog.
    assert curl("--max-time", "1", *place, url).returncode == 28
    assert curl("--max-time", "1", f"http://127.0.0.1:{ports['inbound']}/").returncode == 28
    assert late.output().count("identity.cert: ") == 1
    # Somebody else's certificate is none.
    sidecars.issuer.issue("other.shop", stem="late")
    time.sleep(1.3)
    assert admin(late, "/ready")[0] == 503
    assert "expected late.shop, found other.shop" in late.output()
    sidecars.issuer.issue("late.shop", stem="late")
    wait_until(lambda: admin(late, "/ready")[0] == 200, 5, "ready")
    assert curl(*place, url).stdout == b"origin"


# ----- an application as its child -----

APPLICATION = """
import http.server, signal, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "7")
        self.end_headers()
        self.wfile.write(b"wrapped")

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
def stop(*_):
    print("application was told to stop", flush=True)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
server.serve_forever()
sys.exit(7)
"""


def test_a_wrapped_application_starts_behind_its_sidecar_and_gives_the_exit_code(
    sidecars: Sidecars, curl: Curl
) -> None:
    port = free_port()
    told = config(sidecars.issuer.identity(PAYMENTS), forward=port)
    wrapped = sidecars.run(told, sys.executable, "-c", APPLICATION, str(port))
    outbound = sidecars.outbound({"app:80": meshed(wrapped.port, listen="127.0.0.1:0")})
    url = f"http://127.0.0.1:{outbound.ports['app:80']}/"
    wait_until(lambda: curl(url).stdout == b"wrapped", 10, "the application answers")
    wrapped.signal(signal.SIGTERM)
    assert wrapped.wait(15) == 7
    assert "application was told to stop" in wrapped.output()


def test_the_exit_code_of_a_command_is_the_sidecars(sidecars: Sidecars, origin: Running) -> None:
    # It asks for what its sidecar offers, so: it was started when that was ready.
    port = free_port()
    inbound = sidecars.inbound(origin.port)
    told = config(
        sidecars.issuer.identity(ORDERS), to={"app:80": meshed(inbound.port)}, outbound={"listen": f"127.0.0.1:{port}"}
    )
    ask = (
        f"import http.client; c = http.client.HTTPConnection('127.0.0.1', {port}); "
        "c.request('GET', '/', headers={'host': 'app'}); raise SystemExit(c.getresponse().read() == b'origin' and 42)"
    )
    client = sidecars.run(told, sys.executable, "-c", ask)
    assert client.wait(20) == 42, client.output()


# ----- the end -----


def _slow(port: int, answers: list[object]) -> None:
    try:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/slow?1.5")
        answer = client.getresponse()
        answers.append((answer.status, answer.read()))
        client.close()
    except Exception as error:
        answers.append(error)


@pytest.mark.parametrize("ended", ["outbound", "inbound", "both"])
def test_nothing_in_flight_is_lost_when_a_sidecar_is_told_to_end(
    sidecars: Sidecars, origin: Running, grpc_origin: Running, ended: str
) -> None:
    def server(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        echo(connection)

    with tcp_server(server) as port:
        inbound = {name: sidecars.inbound(each) for name, each in
                   (("app:80", origin.port), ("grpc:80", grpc_origin.port), ("db:5432", port))}  # fmt: skip
        to = {name: meshed(each.port, listen="127.0.0.1:0") for name, each in inbound.items()}
        to["db:5432"]["protocol"] = "tcp"
        outbound = sidecars.outbound(to)
        answers: list[object] = []
        before = connections_to(origin.port)
        askers = [threading.Thread(target=_slow, args=(outbound.ports["app:80"], answers)) for _ in range(8)]
        for thread in askers:
            thread.start()
        with (
            grpc_client(outbound.ports["grpc:80"]) as client,
            socket.create_connection(("127.0.0.1", outbound.ports["db:5432"]), 10) as database,
        ):
            released = threading.Event()

            def messages() -> Any:
                yield b"first"
                released.wait(20)
                yield b"last"

            chat = client.channel.stream_stream("/test.Echo/Chat")(messages(), timeout=20)
            assert next(chat) == b"first"
            assert database.recv(100) == b"220 ready\r\n"
            wait_until(lambda: connections_to(origin.port) >= before + 8, what="requests in flight")
            told = [outbound] if ended != "inbound" else []
            told += inbound.values() if ended != "outbound" else []
            for each in told:
                each.signal(signal.SIGTERM)
            wait_until(lambda: all(admin(each, "/ready")[0] == 503 for each in told), 5, "it drains")
            database.sendall(b"bytes")
            assert database.recv(100) == b"bytes"
            for thread in askers:
                thread.join(30)
            assert answers == [(200, b"slow")] * 8
            released.set()
            assert list(chat) == [b"last"]
            database.shutdown(socket.SHUT_WR)
            assert database.recv(100) == b""
        for each in told:
            assert each.wait(10) == 0


def test_clients_move_to_another_endpoint_when_a_sidecar_ends(sidecars: Sidecars, peer: Peer, start: Start) -> None:
    applications = [start(python.origin(f"o{index}")) for index in range(2)]
    inbound = [sidecars.inbound(each.port) for each in applications]
    outbound = sidecars.outbound({"app:80": meshed(*(each.port for each in inbound), listen="127.0.0.1:0")})
    command = [peer("h2load"), "--h1", "-c", "8", "-D", "3", f"http://127.0.0.1:{outbound.ports['app:80']}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        wait_until(lambda: all(metric(each, "request_total", direction="inbound") for each in inbound), 5, "load")
        inbound[0].signal(signal.SIGTERM)
        assert inbound[0].wait(15) == 0
        said, _ = load.communicate(timeout=30)
    assert " 0 failed, 0 errored, 0 timeout" in said, said
