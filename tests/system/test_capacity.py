"""Many connections, large bodies, slow readers: nothing grows, nobody waits for another."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tests.bench import loads
from tests.peers import frames, python
from tests.peers.process import Running

pytestmark = pytest.mark.alone

Proxy = Callable[..., Running]
Start = Callable[..., Running]
Peer = Callable[[str], str]
MIB = 1 << 20
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


def _ask(sock: socket.socket, request: bytes = GET) -> bytes:
    sock.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got or not got.endswith(b"x\n"):
        chunk = sock.recv(65_536)
        if not chunk:
            raise ConnectionError(f"closed after {got!r}")
        got += chunk
    return got


def test_1_000_idle_and_200_busy_connections_at_once(peer: Peer, proxy: Proxy, nginx: Running) -> None:
    peer("wrk")
    through = proxy([nginx.port])
    idle = [socket.create_connection(("127.0.0.1", through.port), 10) for _ in range(1_000)]
    try:
        for sock in idle[::2]:
            _ask(sock)
        load = loads.wrk(through.port, connections=200, seconds=3)
        assert load.failed == 0
        assert load.requests > 500
        # Those that waited all the while are served as if nothing had been.
        for sock in idle[::100]:
            assert _ask(sock).startswith(b"HTTP/1.1 200")
    finally:
        for sock in idle:
            sock.close()
    time.sleep(1.5)
    assert through.descriptors() < 300


def _churn(through: Running, count: int, per_turn: int = 100) -> None:
    for index in range(count // per_turn):
        socks = [socket.create_connection(("127.0.0.1", through.port), 10) for _ in range(per_turn)]
        for number, sock in enumerate(socks):
            # Some leave without a word, some after a request, some in the middle of one.
            if number % 3 == 1:
                _ask(sock)
            elif number % 3 == 2:
                sock.sendall(GET[: (index * 7 + number) % len(GET)])
            sock.close()


def _descriptors_and_memory_stay(through: Running, count: int) -> None:
    _churn(through, 500)
    time.sleep(2)
    descriptors, memory = through.descriptors(), through.memory_kib()
    _churn(through, count)
    time.sleep(2)
    assert through.descriptors() <= descriptors + 5
    assert through.memory_kib() - memory < 4 * 1024


def test_2_000_connects_and_closes_leave_descriptors_and_memory_where_they_were(proxy: Proxy, nginx: Running) -> None:
    _descriptors_and_memory_stay(proxy([nginx.port]), 2_000)


@pytest.mark.long
def test_10_000_connects_and_closes_leave_descriptors_and_memory_where_they_were(proxy: Proxy, nginx: Running) -> None:
    _descriptors_and_memory_stay(proxy([nginx.port]), 10_000)


class Highest:
    """Samples a process's memory while a block runs; ``grown`` is the most it grew, in MiB."""

    def __init__(self, program: Running) -> None:
        self.program = program
        self.grown = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._start = self.program.memory_kib()
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            self.grown = max(self.grown, (self.program.memory_kib() - self._start) / 1024)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)


def _download(curl: str, through: Running, version: str, size: int) -> None:
    done = subprocess.run(
        [curl, "-sS", version, "-o", "/dev/null", "-w", "%{size_download}", f"http://{through.address}/big?{size}"],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == b"%d" % size, done.stderr


def _upload(curl: str, through: Running, version: str, size: int) -> None:
    with subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            [curl, "-sS", version, "-T", "-", f"http://{through.address}/sink"],
            stdin=source.stdout,
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert done.stdout == b"%d" % size, done.stderr


VERSIONS = ["--http1.1", "--http2-prior-knowledge"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_body_of_128_mib_passes_in_flat_memory(
    peer: Peer, proxy: Proxy, origin: Running, version: str, direction: str
) -> None:
    through = proxy([origin.port], scheme="http1")
    move = _download if direction == "down" else _upload
    move(peer("curl"), through, version, 4 * MIB)
    with Highest(through) as highest:
        move(peer("curl"), through, version, 128 * MIB)
    assert highest.grown < 8


@pytest.mark.long
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_body_of_2_gib_passes_in_flat_memory(
    peer: Peer, proxy: Proxy, origin: Running, version: str, direction: str
) -> None:
    through = proxy([origin.port], scheme="http1")
    move = _download if direction == "down" else _upload
    move(peer("curl"), through, version, 4 * MIB)
    with Highest(through) as highest:
        move(peer("curl"), through, version, 2048 * MIB)
    assert highest.grown < 8


def _slow_h1(through: Running) -> Iterator[socket.socket]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", through.port))
    sock.sendall(b"GET /big?%d HTTP/1.1\r\nhost: a.test\r\n\r\n" % (64 * MIB))
    yield sock
    sock.close()


def _quick(through: Running) -> float:
    """Seconds that somebody else's request takes."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", through.port), 5) as sock:
        sock.sendall(GET)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
    return time.monotonic() - began


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_a_client_that_reads_a_byte_a_second_holds_nobody_up(proxy: Proxy, origin: Running, version: str) -> None:
    through = proxy([origin.port], scheme="http1")
    slow: list[socket.socket] = []
    for _ in range(5):
        if version == "h1":
            slow.append(next(_slow_h1(through)))
        else:
            peer = frames.Peer.connect(through.port, receive_buffer=4_096)
            peer.start()
            peer.get(1, path=b"/big?%d" % (64 * MIB))
            slow.append(peer.sock)
    with Highest(through) as highest:
        for _ in range(4):
            for sock in slow:
                sock.recv(1)
            # Who is held up is so each time; who waits for a CPU is not.
            assert min(_quick(through) for _ in range(3)) < 0.25
            time.sleep(0.5)
    assert highest.grown < 8
    for sock in slow:
        sock.close()


def test_a_slow_stream_does_not_hold_up_its_siblings_on_one_connection(proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port], scheme="http1")
    peer = frames.Peer.connect(through.port)
    # The connection's window is large, the stream's is what it is: never opened.
    peer.start()
    peer.send(frames.window_update(0, 1 << 30))
    peer.get(1, path=b"/big?%d" % (16 * MIB))
    time.sleep(0.5)
    for stream in range(3, 23, 2):
        peer.get(stream)
        fields, body = peer.read_answer(stream, credit=False)
        assert (dict(fields)[b":status"], body) == (b"200", b"origin")
    peer.close()


def test_a_slow_reader_holds_its_origin_at_the_windows(start: Start, proxy: Proxy) -> None:
    source = start(python.origin("source"))
    through = proxy([source.port], scheme="http1")
    with Highest(through) as highest:
        sock = next(_slow_h1(through))
        time.sleep(1.5)
    assert highest.grown < 4
    sock.close()
