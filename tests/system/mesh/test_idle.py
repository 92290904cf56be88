"""What a sidecar holds for connections of the mesh on which nothing happens."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

import pytest

from tests.peers import frames
from tests.peers.process import Running
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Sidecars

CONNECTIONS = 400


def use_http2(sock: ssl.SSLSocket) -> None:
    peer = frames.Peer(sock)
    peer.start()
    peer.get(1)
    peer.read_answer(1)


def use_http1(sock: ssl.SSLSocket) -> None:
    sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
    got = b""
    while b"\r\n\r\n" not in got or not got.endswith(b"x\n"):
        data = sock.recv(65_536)
        assert data, got
        got += data


@pytest.mark.parametrize(("use", "bound"), [(use_http2, 80), (use_http1, 56)], ids=["http/2", "http/1.1"])
def test_an_idle_connection_of_mutual_tls_costs_no_more_than_its_bound(
    sidecars: Sidecars, nginx: Running, use: Callable[[ssl.SSLSocket], None], bound: int
) -> None:
    inbound = sidecars.inbound(nginx.port)
    context = ssl.create_default_context(cafile=str(sidecars.issuer.anchors))
    context.load_cert_chain(*sidecars.issuer.issue(ORDERS))
    held: list[ssl.SSLSocket] = []

    def hold(count: int) -> int:
        """KiB of the sidecar once *count* more connections have been used once."""
        for _ in range(count):
            plain = socket.create_connection(("127.0.0.1", inbound.port), 10)
            held.append(context.wrap_socket(plain, server_hostname=PAYMENTS))
            use(held[-1])
        time.sleep(0.2)
        # What is shared with other processes comes and goes with them.
        return inbound.memory_kib("Private_Dirty")

    try:
        # The first hundred pay for what is shared.
        before = hold(100)
        each = (hold(CONNECTIONS) - before) / CONNECTIONS
        assert metric(inbound, "tcp_open_connections", peer="src", client_id=ORDERS) == len(held)
        assert each <= bound
    finally:
        for sock in held:
            sock.close()
