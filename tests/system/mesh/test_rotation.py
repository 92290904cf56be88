"""Certificates and authorities are replaced under load, and nobody notices."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshcore.identity import Authority
from tests.peers.meshcore import command_line
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import DAY, config, metric
from tests.system.mesh.conftest import ORDERS, PAYMENTS, Sidecars, meshed

Peer = Callable[[str], str]


class Handshakes:
    """A client of a port that carries bytes: each of its connections is a handshake of the mesh."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.done = 0
        self.failed: list[str] = []
        self.stop = threading.Event()

    def one(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            got = b""
            while data := sock.recv(1 << 16):
                got += data
        if not got.startswith(b"HTTP/1.1 200") or not got.endswith(b"x\n"):
            self.failed.append(repr(got[:200]))
        self.done += 1

    def run(self, pause: float = 0.01) -> None:
        while not self.stop.wait(pause):
            try:
                self.one()
            except OSError as error:
                self.failed.append(repr(error))


def pair(sidecars: Sidecars, to: int, **inbound: Any) -> tuple[Running, Running]:
    behind = sidecars.run(config(sidecars.issuer.identity(PAYMENTS), forward=to, **inbound))
    front = sidecars.outbound(
        {
            "app:80": meshed(behind.port, listen="127.0.0.1:0"),
            "db:5432": meshed(behind.port, protocol="tcp", listen="127.0.0.1:0"),
        }
    )
    return front, behind


def rotate(sidecars: Sidecars, seconds: int) -> int:
    """New certificates every second; half-way the mesh gets another authority.  How often there were some."""
    issuer = sidecars.issuer
    old, new = issuer.authority, Authority.make("another", now=time.time() - DAY)
    both, only = old.cert_pem() + new.cert_pem(), new.cert_pem()
    end, step = time.monotonic() + seconds, seconds / 4
    times = 0
    while (left := end - time.monotonic()) > 0:
        stage = int((seconds - left) / step)
        # Each step is given the time that both need to see it.
        if stage == 1:
            issuer.write("ca.crt", both)
        elif stage == 2:
            issuer.authority = new
        elif stage == 3:
            issuer.write("ca.crt", only)
        for name in (ORDERS, PAYMENTS):
            issuer.issue(name)
        times += 1
        time.sleep(1)
    return times


def _nothing_fails_while_it_is_rotated(sidecars: Sidecars, peer: Peer, nginx: Running, seconds: int) -> None:
    old = sidecars.issuer.authority
    # The connections between the sidecars are made anew all the time, too.
    front, behind = pair(sidecars, nginx.port, proxy={"max_connection_age": "500ms"})
    url = f"http://127.0.0.1:{front.ports['app:80']}/"
    handshakes = Handshakes(front.ports["db:5432"])
    bytes_thread = threading.Thread(target=handshakes.run)
    bytes_thread.start()
    command = [peer("h2load"), "--h1", "-c", "10", "-D", str(seconds + 1), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        times = rotate(sidecars, seconds)
        said, _ = load.communicate(timeout=30)
    handshakes.stop.set()
    bytes_thread.join(20)
    assert " 0 failed, 0 errored, 0 timeout" in said, said
    assert handshakes.failed == []
    assert handshakes.done > 20 * seconds
    for each in (front, behind):
        assert metric(each, "control_identity_cert_refreshes_total", result="ok") >= times - 2
        assert metric(each, "tls_handshake_errors_total") == 0
    assert metric(behind, "inbound_tcp_detect_http_results_total", result="http/2") >= seconds
    # The old authority's word is worth nothing any more.
    sidecars.issuer.authority = old
    cert, key = sidecars.issuer.issue("late.shop")
    command = [peer("openssl"), "s_client", "-connect", behind.address, "-servername", PAYMENTS, "-ign_eof", "-quiet"]
    done = subprocess.run([*command, "-cert", cert, "-key", key], capture_output=True, timeout=20, check=False)
    assert b"alert unknown ca" in done.stderr


@pytest.mark.parity("T-06", "X-21", "T-14")
def test_no_request_fails_while_certificates_and_authority_are_replaced_every_second(
    sidecars: Sidecars, peer: Peer, nginx: Running
) -> None:
    _nothing_fails_while_it_is_rotated(sidecars, peer, nginx, 8)


@pytest.mark.long
def test_no_request_fails_in_a_minute_of_rotation(sidecars: Sidecars, peer: Peer, nginx: Running) -> None:
    _nothing_fails_while_it_is_rotated(sidecars, peer, nginx, 60)


def test_what_the_command_line_issues_is_taken_without_a_restart(
    sidecars: Sidecars, nginx: Running, tmp_path: Path
) -> None:
    def issue(*words: str) -> None:
        command = [*command_line(), "identity", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    pki = tmp_path / "cli"
    issue("dev-ca", "--out", str(pki))
    for name in (ORDERS, PAYMENTS):
        issue("issue", name, "--ca", str(pki), "--out", str(pki))
    told = {"cert": str(pki / f"{PAYMENTS}.crt"), "key": str(pki / f"{PAYMENTS}.key")}
    told["trust_anchors"] = str(pki / "ca.crt")
    behind = sidecars.run(config(dict(told), forward=nginx.port))
    told.update(cert=str(pki / f"{ORDERS}.crt"), key=str(pki / f"{ORDERS}.key"))
    front = sidecars.run(config(told, to={"app:80": meshed(behind.port, listen="127.0.0.1:0")}))
    taken = metric(behind, "control_identity_cert_refreshes_total", result="ok")
    before = metric(behind, "control_identity_cert_expiration_timestamp_seconds")
    issue("issue", PAYMENTS, "--ca", str(pki), "--out", str(pki), "--force", "--days", "2")
    wait_until(lambda: metric(behind, "control_identity_cert_refreshes_total", result="ok") > taken, 5, "taken")
    assert metric(behind, "control_identity_cert_expiration_timestamp_seconds") - before > 0.9 * DAY
    client = http.client.HTTPConnection("127.0.0.1", front.ports["app:80"], timeout=10)
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()


@pytest.mark.parity("T-06")
def test_a_pair_that_does_not_fit_is_warned_of_and_the_old_one_kept(sidecars: Sidecars, nginx: Running) -> None:
    front, behind = pair(sidecars, nginx.port)
    handshakes = Handshakes(front.ports["db:5432"])
    for name, text in ((f"{PAYMENTS}.key", b"no key"), (f"{PAYMENTS}.crt", b"")):
        before = metric(behind, "control_identity_cert_refreshes_total", result="error")
        sidecars.issuer.write(name, text)
        wait_until(
            lambda before=before: metric(behind, "control_identity_cert_refreshes_total", result="error") > before,
            5,
            "it was refused",
        )
        handshakes.one()
    assert "the old one stays" in behind.output()
    sidecars.issuer.issue(PAYMENTS)
    wait_until(lambda: metric(behind, "control_identity_cert_refreshes_total", result="ok") == 2, 5, "taken")
    handshakes.one()
    assert (handshakes.done, handshakes.failed) == (3, [])


# ----- nothing is left behind -----


def _handshakes_leave_nothing_behind(sidecars: Sidecars, nginx: Running, count: int) -> None:
    front, behind = pair(sidecars, nginx.port)
    handshakes = Handshakes(front.ports["db:5432"])
    for _ in range(150):
        handshakes.one()
    time.sleep(0.5)
    before = [(each.descriptors(), each.memory_kib()) for each in (front, behind)]
    for _ in range(count):
        handshakes.one()
    time.sleep(0.5)
    assert handshakes.failed == []
    for each, (descriptors, memory) in zip((front, behind), before, strict=True):
        assert each.descriptors() <= descriptors + 3
        assert each.memory_kib() - memory < 2 * 1024
    assert metric(behind, "tcp_open_total", peer="src", tls="true") >= count


def test_300_handshakes_leave_descriptors_and_memory_where_they_were(sidecars: Sidecars, nginx: Running) -> None:
    _handshakes_leave_nothing_behind(sidecars, nginx, 300)


@pytest.mark.long
def test_2_000_handshakes_leave_descriptors_and_memory_where_they_were(sidecars: Sidecars, nginx: Running) -> None:
    _handshakes_leave_nothing_behind(sidecars, nginx, 2_000)
