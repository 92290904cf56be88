"""Clients that others wrote, through detection of TLS: terminated, passed through, or in plaintext."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.peers import servers
from tests.peers.meshcore import detecting
from tests.peers.process import Running, free_port, running

Peer = Callable[[str], str]
OWN, FOREIGN, CLIENT = "web.default.mesh.test", "other.mesh.test", "client.default.mesh.test"
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture
def foreign(pki: Any, peer: Peer, start: Callable[..., Running]) -> Running:
    """A TLS server of OpenSSL's that answers every request with what it knows of the handshake."""
    cert, key = pki.issue(FOREIGN)
    port = free_port()
    command = [peer("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-www"]
    command += ["-cert", str(cert), "-key", str(key)]

    def ready(program: Running) -> bool:
        program.port = port
        return "ACCEPT" in program.output()

    return start(running("s_server", command, ready=ready))


@pytest.fixture
def through(pki: Any, start: Callable[..., Running], nginx: Running, foreign: Running) -> Running:
    return start(detecting(*pki.issue(OWN), pki.ca_file, nginx.port, foreign.port))


def s_client(peer: Peer, port: int, pki: Any, name: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [peer("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-quiet"]
    command += ["-CAfile", str(pki.ca_file), "-verify_return_error", "-verify_hostname", name, *options]
    return subprocess.run(command, input=REQUEST, capture_output=True, timeout=30, check=False)


@pytest.mark.parity("D-12")
@pytest.mark.parametrize("options", [(), ("-alpn", "http/1.1"), ("-max_send_frag", "512", "-split_send_frag", "512")])
def test_openssl_is_terminated_for_the_own_name(
    peer: Peer, through: Running, pki: Any, options: tuple[str, ...]
) -> None:
    done = s_client(peer, through.port, pki, OWN, *options)
    assert done.stdout.endswith(servers.ANSWER), done.stderr
    assert "crash in" not in through.output()


@pytest.mark.parity("D-12", "T-03")
def test_openssl_with_a_client_certificate_is_terminated(peer: Peer, through: Running, pki: Any) -> None:
    cert, key = pki.issue(CLIENT)
    done = s_client(peer, through.port, pki, OWN, "-cert", str(cert), "-key", str(key))
    assert done.stdout.endswith(servers.ANSWER), done.stderr


@pytest.mark.parity("D-12")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_reaches_the_server_of_another_name(peer: Peer, through: Running, pki: Any, version: str) -> None:
    done = s_client(peer, through.port, pki, FOREIGN, version)
    assert b"s_server" in done.stdout, done.stderr
    assert {"-tls1_2": b"TLSv1.2", "-tls1_3": b"TLSv1.3"}[version] in done.stdout


@pytest.mark.parity("T-01")
def test_openssl_with_tls_1_2_is_refused_for_the_own_name(peer: Peer, through: Running, pki: Any) -> None:
    done = s_client(peer, through.port, pki, OWN, "-tls1_2")
    assert done.stdout == b""
    assert b"protocol version" in done.stderr


@pytest.mark.parity("D-12")
@pytest.mark.parametrize(
    ("scheme", "name", "options"),
    [("https", OWN, ("--http1.1",)), ("https", FOREIGN, ("--http1.1",)), ("http", OWN, ()), ("http", FOREIGN, ())],
)
def test_curl_goes_each_way(
    peer: Peer, through: Running, pki: Any, scheme: str, name: str, options: tuple[str, ...]
) -> None:
    command = [peer("curl"), "-sS", "--max-time", "20", "--cacert", str(pki.ca_file), *options]
    command += ["--connect-to", f"{name}::127.0.0.1:{through.port}", f"{scheme}://{name}/"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if (scheme, name) == ("https", FOREIGN):
        assert b"s_server" in done.stdout, done.stderr
    else:
        assert done.stdout == servers.ANSWER, done.stderr


@pytest.mark.parity("D-13")
def test_stalled_hellos_cost_next_to_nothing_and_hold_nobody_up(peer: Peer, through: Running, pki: Any) -> None:
    stalled = []
    for _ in range(100):
        client = socket.create_connection(("127.0.0.1", through.port), 10)
        client.sendall(b"\x16\3\1\2\0\1\0\1\xfc\3\3")
        stalled.append(client)
    before = through.cpu_seconds()
    time.sleep(2)
    assert through.cpu_seconds() - before < 0.3
    assert s_client(peer, through.port, pki, OWN).stdout.endswith(servers.ANSWER)
    for client in stalled:
        client.close()
