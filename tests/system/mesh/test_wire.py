"""What two sidecars say to each other, recorded on the way: nothing of it can be read."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from tests.peers.process import Running
from tests.peers.sidecar import metric
from tests.peers.wire import Wire, tls_records
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Curl, Sidecars, meshed
from tests.system.test_opaque import echo, tcp_server

websocket = pytest.importorskip("websockets.sync.client")
Peer = Callable[[str], str]
SECRET = os.urandom(16).hex()


def assert_unreadable(wire: Wire, *words: bytes) -> None:
    assert wire.connections
    for up, down in wire.connections:
        for way in (bytes(up), bytes(down)):
            # Records of TLS from the first byte to the last, and after the hellos encrypted ones alone (23),
            # but for the byte that middleboxes want to see (20).
            kinds = [kind for kind, _ in tls_records(way)]
            assert kinds[0] == 22
            assert set(kinds[1:]) <= {20, 23}
        # TLS 1.3 in the ClientHello's supported_versions, and the client's key share.
        assert b"\x00\x2b" in up[:2_000]
    recorded = wire.recorded.lower()
    for word in (SECRET.encode(), *words):
        assert word.lower() not in recorded, word


@pytest.mark.parity("D-24", "X-25", "T-17")
def test_http_between_sidecars_is_encrypted_and_shares_one_connection(
    sidecars: Sidecars, peer: Peer, curl: Curl, origin: Running
) -> None:
    inbound = sidecars.inbound(origin.port)
    with Wire(inbound.port) as wire:
        outbound = sidecars.outbound({"app:80": meshed(wire.port, listen="127.0.0.1:0")})
        url = f"http://127.0.0.1:{outbound.ports['app:80']}"
        for version in ("--http1.0", "--http1.1", "--http2-prior-knowledge"):
            done = curl(version, "-H", f"x-secret: {SECRET}", "-d", SECRET, f"{url}/echo?{SECRET}")
            assert done.stdout == SECRET.encode(), done.stderr
        command = [peer("h2load"), "--h1", "-c", "50", "-n", "2000", f"{url}/{SECRET}"]
        load = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert "2000 succeeded, 0 failed, 0 errored" in load, load
        assert len(wire.connections) == 1
        assert_unreadable(wire, b"x-secret", b"/echo", b"l5d-", b"HTTP/1.1", b"PRI * HTTP", ORDERS.encode())
    assert metric(inbound, "inbound_tcp_detect_http_results_total", result="http/2") == 1
    assert metric(inbound, "request_total", direction="inbound") >= 2_003
    assert metric(outbound, "request_total", tls="true", server_id=PAYMENTS) >= 2_003


@pytest.mark.parity("D-27")
def test_websockets_between_sidecars_are_encrypted(sidecars: Sidecars, websocket_origin: Running) -> None:
    inbound = sidecars.inbound(websocket_origin.port)
    with Wire(inbound.port) as wire:
        outbound = sidecars.outbound({"app:80": meshed(wire.port, listen="127.0.0.1:0")})
        with websocket.connect(f"ws://127.0.0.1:{outbound.ports['app:80']}/{SECRET}", proxy=None) as client:
            client.send(SECRET)
            assert client.recv(timeout=10) == SECRET
        assert_unreadable(wire, b"upgrade", b"websocket", b"HTTP/1.1")


@pytest.mark.parity("D-19", "X-06")
def test_bytes_between_sidecars_are_encrypted(sidecars: Sidecars) -> None:
    with tcp_server(echo) as port:
        inbound = sidecars.inbound(port)
        with Wire(inbound.port) as wire:
            to = {"db:5432": meshed(wire.port, protocol="tcp", listen="127.0.0.1:0")}
            outbound = sidecars.outbound(to)
            with socket.create_connection(("127.0.0.1", outbound.ports["db:5432"]), 10) as client:
                client.sendall(SECRET.encode())
                assert client.recv(100) == SECRET.encode()
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
            # The ALPN of the transport header stands in the hello; the header itself comes after it, encrypted.
            assert_unreadable(wire, b"transport.l5d.io/v1\r\n\r\n")
            assert b"transport.l5d.io/v1" in wire.connections[0][0]
