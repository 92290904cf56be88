"""SIGTERM under load loses nothing; a second signal does not wait."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers import frames
from tests.peers.process import Running, wait_until

Proxy = Callable[..., Running]
Start = Callable[..., Running]


def connections_to(port: int) -> int:
    """How many connections to a port on loopback are established."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


@pytest.mark.parametrize("http2", [False, True])
def test_requests_in_flight_at_sigterm_are_answered(proxy: Proxy, origin: Running, http2: bool) -> None:
    through = proxy([origin.port], scheme="http1")
    answers: list[object] = []
    before = connections_to(origin.port)

    def ask() -> None:
        try:
            if http2:
                peer = frames.Peer.connect(through.port)
                peer.start()
                peer.get(1, path=b"/slow?2.0")
                fields, body = peer.read_answer(1)
                answers.append((dict(fields)[b":status"], body))
                peer.close()
            else:
                client = http.client.HTTPConnection("127.0.0.1", through.port, timeout=30)
                client.request("GET", "/slow?2.0")
                answer = client.getresponse()
                answers.append((b"%d" % answer.status, answer.read()))
                client.close()
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    # Each has a connection of its own to the origin.
    wait_until(lambda: connections_to(origin.port) >= before + 10, what="ten requests in flight")
    through.signal(signal.SIGTERM)
    for thread in threads:
        thread.join(30)
    assert answers == [(b"200", b"slow")] * 10
    assert through.wait(10) == 0


def test_under_load_no_accepted_request_is_lost(proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port])
    failed: list[str] = []
    done = [0]
    lock = threading.Lock()

    def ask() -> None:
        # A connection that was told to close is not used again; one that is refused was never accepted.
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", through.port), 5)
            except OSError:
                return
            with sock:
                while True:
                    try:
                        sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
                        head = b""
                        while not head.endswith(b"x\n"):
                            chunk = sock.recv(65_536)
                            if not chunk:
                                break
                            head += chunk
                    except OSError as error:
                        head, chunk = head if "head" in locals() else b"", b""
                        if head:
                            failed.append(repr(error))
                        break
                    if not head:
                        # Closed while idle, before a byte of the answer: a client tries again.
                        break
                    if not head.startswith(b"HTTP/1.1 200") or not head.endswith(b"x\n"):
                        failed.append(repr(head[:200]))
                        break
                    with lock:
                        done[0] += 1
                    if b"connection: close" in head.lower():
                        break
            if not through.alive:
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: done[0] > 500, 30, "requests")
    through.signal(signal.SIGTERM)
    assert through.wait(15) == 0
    for thread in threads:
        thread.join(10)
    assert failed == []


def test_http2_clients_are_told_to_go_and_finish_first(proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port], scheme="http1")
    before = connections_to(origin.port)
    peer = frames.Peer.connect(through.port)
    peer.start()
    peer.get(1, path=b"/slow?1.5")
    wait_until(lambda: connections_to(origin.port) > before, what="a request in flight")
    through.signal(signal.SIGTERM)
    seen = peer.read_until_closed(10)
    kinds = [each.kind for each in seen]
    assert frames.GOAWAY in kinds
    goaways = [each for each in seen if each.kind == frames.GOAWAY]
    assert {int.from_bytes(each.payload[4:8], "big") for each in goaways} == {0}
    assert any(each.kind == frames.DATA and each.flags & frames.END_STREAM for each in seen)
    assert through.wait(10) == 0
    peer.close()


def test_idle_connections_do_not_delay_the_end(proxy: Proxy, nginx: Running) -> None:
    through = proxy([nginx.port])
    idle = [socket.create_connection(("127.0.0.1", through.port), 5) for _ in range(5)]
    for sock in idle[:3]:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        sock.recv(65_536)
    time.sleep(0.2)
    began = time.monotonic()
    through.signal(signal.SIGTERM)
    assert through.wait(10) == 0
    assert time.monotonic() - began < 3
    for sock in idle:
        sock.close()


def test_a_second_signal_stops_at_once(proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port], scheme="http1")
    before = connections_to(origin.port)
    with socket.create_connection(("127.0.0.1", through.port), 5) as client:
        client.sendall(b"GET /slow?20 HTTP/1.1\r\nhost: a.test\r\n\r\n")
        wait_until(lambda: connections_to(origin.port) > before, what="a request in flight")
        through.signal(signal.SIGTERM)
        time.sleep(0.5)
        assert through.alive
        began = time.monotonic()
        through.signal(signal.SIGTERM)
        through.wait(5)
        assert time.monotonic() - began < 2


def test_the_grace_period_bounds_the_drain(proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port], "--grace-period", "1s", scheme="http1")
    before = connections_to(origin.port)
    with socket.create_connection(("127.0.0.1", through.port), 5) as client:
        client.sendall(b"GET /slow?20 HTTP/1.1\r\nhost: a.test\r\n\r\n")
        wait_until(lambda: connections_to(origin.port) > before, what="a request in flight")
        began = time.monotonic()
        through.signal(signal.SIGTERM)
        through.wait(10)
        assert 0.5 < time.monotonic() - began < 4
