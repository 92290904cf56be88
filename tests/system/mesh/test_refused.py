"""Whoever does not belong to the mesh is refused, told why, counted, and disturbs nobody else."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from OpenSSL import SSL

from tests.peers.process import Running, wait_until
from tests.peers.sidecar import DAY, Issuer, config, metric
from tests.system.mesh.conftest import PAYMENTS, Sidecars, meshed

Peer = Callable[[str], str]
REQUEST = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"


class Neighbour:
    """A well-behaved client on one kept connection, who asks all the time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            while not self._stop.wait(0.01):
                client.request("GET", "/")
                answer = client.getresponse()
                body = answer.read()
                if answer.status != 200 or body != b"origin" or answer.will_close:
                    self.failed.append(f"{answer.status} {body!r}")
                self.answered += 1
        except Exception as error:
            self.failed.append(repr(error))
        finally:
            client.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)


class Place:
    """A sidecar that only lets in who is known, and a neighbour whose requests it serves meanwhile."""

    def __init__(self, sidecars: Sidecars, application: int) -> None:
        self.sidecars = sidecars
        self.issuer = sidecars.issuer
        self.inbound = sidecars.run(
            config(
                sidecars.issuer.identity(PAYMENTS),
                forward=application,
                inbound={"default_policy": "all-authenticated", "detect_timeout": "1s"},
                proxy={"log_level": "debug"},
            )
        )
        outbound = sidecars.outbound({"app:80": meshed(self.inbound.port, listen="127.0.0.1:0")})
        self.neighbour = Neighbour(outbound.ports["app:80"])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.inbound.port), 20)

    def count(self, reason: str) -> float:
        return metric(self.inbound, "tls_handshake_errors_total", side="server", reason=reason)


@pytest.fixture(scope="module")
def lasting(module_sidecars: Sidecars, origin: Running) -> Iterator[Place]:
    made = Place(module_sidecars, origin.port)
    with made.neighbour:
        yield made


@pytest.fixture
def place(lasting: Place) -> Iterator[Place]:
    neighbour = lasting.neighbour
    yield lasting
    before = neighbour.answered
    wait_until(lambda: neighbour.answered > before + 2 or neighbour.failed, 10, "the neighbour is served")
    assert neighbour.failed == []


def hello() -> bytes:
    """The first message of an ordinary client of this mesh."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    client = SSL.Connection(context, None)
    client.set_tlsext_host_name(PAYMENTS.encode())
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return bytes(client.bio_read(1 << 16))


def rest(sock: socket.socket) -> bytes:
    """What comes until the other end closes."""
    got = b""
    try:
        while data := sock.recv(1 << 16):
            got += data
    except ConnectionResetError:
        pass
    return got


def s_client(peer: Peer, place: Place, *options: str, stdin: bytes = REQUEST) -> Any:
    command = [peer("openssl"), "s_client", "-connect", place.inbound.address, "-servername", PAYMENTS, "-quiet",
               "-ign_eof", "-CAfile", str(place.issuer.anchors)]  # fmt: skip
    return subprocess.run([*command, *options], input=stdin, capture_output=True, timeout=30, check=False)


# ----- certificates -----


WRONG = {
    "expired": (-9 * DAY, b"alert certificate expired", "client certificate has expired: it is valid from"),
    "not valid yet": (9 * DAY, b"alert bad certificate", "client certificate is not valid yet: it is valid from"),
    "unknown issuer": (0.0, b"alert unknown ca", "client certificate is not trusted: unknown issuer (CN=elsewhere)"),
}


@pytest.mark.parity("T-03")
@pytest.mark.parametrize("reason", list(WRONG))
def test_a_client_whose_certificate_is_not_valid_is_told_so(peer: Peer, place: Place, reason: str) -> None:
    shift, alert, said = WRONG[reason]
    elsewhere = Issuer(place.issuer.folder / "elsewhere", "elsewhere")
    issuer = elsewhere if reason == "unknown issuer" else place.issuer
    cert, key = issuer.issue("x.shop", now=time.time() + shift)
    done = s_client(peer, place, "-cert", str(cert), "-key", str(key))
    assert alert in done.stderr
    assert done.stdout == b""
    assert place.count(reason) == 1
    assert said in place.inbound.output()


@pytest.mark.parity("T-01")
def test_tls_1_2_is_refused_in_the_mesh(peer: Peer, place: Place) -> None:
    done = s_client(peer, place, "-tls1_2")
    assert b"alert protocol version" in done.stderr
    assert done.stdout == b""
    assert place.count("version") == 1
    assert "TLS handshake failed: unsupported protocol" in place.inbound.output()


def test_a_client_without_a_certificate_is_forbidden_what_needs_one(peer: Peer, place: Place) -> None:
    done = s_client(peer, place)
    assert done.stdout.startswith(b"HTTP/1.1 403 ")
    with place.connect() as sock:
        sock.sendall(REQUEST)
        answer = rest(sock)
    assert answer.startswith(b"HTTP/1.1 403 ")
    # A stranger hears nothing of why (E-06).
    assert b"l5d-proxy-error" not in answer
    assert metric(place.inbound, "response_total", status_code="403") == 2
    with place.connect() as sock:
        sock.sendall(b"\x00\x01\x02")
        assert rest(sock) == b""
    assert "policy all-authenticated" in place.inbound.output()


@pytest.mark.parity("T-04", "T-17")
def test_a_server_with_another_name_is_not_spoken_to(place: Place) -> None:
    to = meshed(place.inbound.port, identity="other.shop", server_name=PAYMENTS, listen="127.0.0.1:0")
    outbound = place.sidecars.outbound({"app:80": to}, outbound={"fail_fast": "1s"}, proxy={"log_level": "debug"})
    client = http.client.HTTPConnection("127.0.0.1", outbound.ports["app:80"], timeout=10)
    client.request("GET", "/")
    answer = client.getresponse()
    client.close()
    assert (answer.status, answer.headers["x-meshcore-error"]) == (502, "identity-mismatch")
    said = f"certificate does not match TLS identity: expected other.shop, found {PAYMENTS}"
    assert said in answer.headers["l5d-proxy-error"]
    assert metric(outbound, "tls_handshake_errors_total", side="client", reason="name") >= 1
    assert place.count("refused by peer") + place.count("alert") >= 1


# ----- hellos -----


@pytest.mark.parity("D-13", "X-56", "X-18")
def test_a_client_that_stalls_in_its_hello_is_closed_and_counted(place: Place) -> None:
    began = time.monotonic()
    with place.connect() as sock:
        sock.sendall(hello()[:100])
        assert rest(sock) == b""
    assert 0.8 < time.monotonic() - began < 5
    assert metric(place.inbound, "inbound_tcp_errors_total", error="tls detection timeout") == 1
    assert metric(place.inbound, "inbound_tcp_detect_tls_results_total", result="timeout") == 1
    assert "TLS detection timed out after 1 s" in place.inbound.output()


def test_garbage_after_the_hello_ends_the_handshake(place: Place) -> None:
    for garbage in (os.urandom(2_000), b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x40" + os.urandom(64)):
        before = place.count("malformed") + place.count("failed")
        with place.connect() as sock:
            sock.sendall(hello())
            # The answer's hello first, so that the garbage is not taken for a part of ours.
            sock.recv(1 << 16)
            sock.sendall(garbage)
            rest(sock)
        assert place.count("malformed") + place.count("failed") == before + 1


@pytest.mark.parity("D-11")
def test_an_oversized_hello_is_refused_without_being_kept(place: Place) -> None:
    body = b"\x03\x03" + os.urandom(32) + b"\0\0\x02\x13\x01\1\0\xff\xff" + bytes(60_000)
    message = b"\x01" + (200_000).to_bytes(3, "big") + body
    pieces = [message[start : start + 16_000] for start in range(0, len(message), 16_000)]
    before = metric(place.inbound, "inbound_tcp_detect_tls_results_total", result="refused")
    with place.connect() as sock:
        try:
            sock.sendall(b"".join(b"\x16\3\1" + len(piece).to_bytes(2, "big") + piece for piece in pieces))
        except OSError:
            pass
        assert rest(sock) == b""
    assert metric(place.inbound, "inbound_tcp_detect_tls_results_total", result="refused") == before + 1


def test_nobody_renegotiates(place: Place) -> None:
    # TLS 1.3, and so the mesh, has nothing of the kind; a gateway lets TLS 1.2 in.
    cert, key = place.issuer.issue("site.test")
    gateway = place.sidecars.run(
        {
            "admin": {"listen": "127.0.0.1:0"},
            "listen": {"public": {"bind": "127.0.0.1:0", "tls": {"cert": str(cert), "key": str(key)},
                                  "to": [{"backend": "app"}]}},
            "backend": {"app": {"endpoints": [f"127.0.0.1:{place.neighbour.port}"]}},
        }
    )  # fmt: skip
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as sock:
        sock.settimeout(None)
        client = SSL.Connection(context, sock)
        client.set_connect_state()
        client.do_handshake()
        assert client.get_protocol_version_name() == "TLSv1.2"
        client.sendall(REQUEST.replace(b"connection: close\r\n", b""))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert client.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            client.do_handshake()


def test_a_client_that_stalls_in_its_handshake_is_closed_and_counted(place: Place) -> None:
    began = time.monotonic()
    with place.connect() as sock:
        sock.sendall(hello())
        # The answer's hello and an end: nobody was told what to do with it.
        rest(sock)
    assert 0.8 < time.monotonic() - began < 5
    assert place.count("timeout") == 1
    assert "TLS handshake timed out after 1 s" in place.inbound.output()
