"""Streams that are reset behind a sidecar: what its client sees of it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.peers import frames
from tests.peers.process import Running
from tests.peers.sidecar import Issuer
from tests.system.mesh.conftest import PAYMENTS, Curl, Sidecars, meshed
from tests.system.test_opaque import tcp_server

CALM = 0xB


@contextmanager
def resetting(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server of HTTP/2 that answers no request, over TLS with *context*; its port."""
    accepted: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        sock = connection if context is None else context.wrap_socket(connection, server_side=True)
        with sock:
            accepted.append(sock)
            peer = frames.Peer(sock)
            assert peer.read_exactly(len(frames.PREFACE)) == frames.PREFACE
            peer.send(frames.settings())
            while True:
                got = peer.read()
                peer.obey(got)
                if got.kind == frames.HEADERS:
                    peer.send(frames.rst_stream(got.stream, CALM))

    with tcp_server(serve) as port:
        yield port
        for each in accepted:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def as_proxy(issuer: Issuer) -> ssl.SSLContext:
    """What the inbound side of somebody else's sidecar secures its connections with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issuer.issue(PAYMENTS))
    context.load_verify_locations(issuer.anchors)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parity("X-69", "D-28")
def test_a_reset_of_a_request_that_came_by_http_1_is_a_502(sidecars: Sidecars, curl: Curl) -> None:
    with resetting(as_proxy(sidecars.issuer)) as port:
        outbound = sidecars.outbound({"app:80": meshed(port, listen="127.0.0.1:0")})
        url = f"http://127.0.0.1:{outbound.ports['app:80']}/"
        for version in ("--http1.1", "--http1.0"):
            done = curl(version, "-i", url)
            assert re.match(rb"HTTP/1.[01] 502", done.stdout), done
            assert b"x-meshcore-error: stream-reset" in done.stdout
            assert b"stream was reset with code 11" in done.stdout


@pytest.mark.parity("D-28")
def test_a_reset_of_a_request_of_http_2_is_one_with_its_code_at_the_other_end_of_the_mesh(sidecars: Sidecars) -> None:
    with resetting() as port:
        outbound, _ = sidecars.pair(port)
        client = frames.Peer.connect(outbound.port)
        client.start()
        # The stream alone: the second one is on the same connection.
        for stream in (1, 3):
            client.get(stream)
            with pytest.raises(ConnectionError, match=f"^RST_STREAM {CALM}$"):
                client.read_answer(stream)
        client.close()


@pytest.mark.parity("X-23")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_a_plaintext_endpoint_is_nobody_who_could_be_required(
    sidecars: Sidecars, curl: Curl, origin: Running, version: str
) -> None:
    outbound = sidecars.outbound({"app:80": {"endpoints": [origin.address], "listen": "127.0.0.1:0"}})
    url = f"http://127.0.0.1:{outbound.ports['app:80']}/"
    assert curl(version, url).stdout == b"origin"
    done = curl(version, "-i", "-H", f"l5d-require-id: {PAYMENTS}", url)
    assert re.match(rb"HTTP/[\d.]+ 502", done.stdout), done
    assert PAYMENTS.encode() in done.stdout
    assert not done.stdout.endswith(b"origin")
