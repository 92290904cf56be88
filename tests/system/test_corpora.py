"""The shared corpora, end to end through a running proxy: nothing is smuggled, nothing looks complete that is not."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import python
from tests.peers.process import Running, free_port

Proxy = Callable[..., Running]
Start = Callable[..., Any]
FIXTURES = Path(__file__).parent.parent / "fixtures"


def rows(name: str) -> list[Any]:
    found = []
    for line in (FIXTURES / name).read_text().splitlines():
        row = json.loads(line)
        found.append(pytest.param(base64.b64decode(row["b64"]), row["expect"], id=row["id"]))
    return found


def converse(port: int, data: bytes, quiet: float) -> bytes:
    """Everything that is answered to *data*, until the connection closes or is quiet for so long."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        sock.settimeout(quiet)
        with contextlib.suppress(OSError):
            while chunk := sock.recv(65_536):
                got += chunk
    return got


def answers(data: bytes) -> list[tuple[int, bytes, bool]]:
    """Status, body and completeness of each final answer, by their framing."""
    found: list[tuple[int, bytes, bool]] = []
    while data.startswith(b"HTTP/1."):
        head, end, data = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
        if status < 200:
            continue
        if b"content-length" in fields:
            length = int(fields[b"content-length"])
            found.append((status, data[:length], len(data) >= length))
            data = data[length:]
        elif b"transfer-encoding" in fields:
            body, last, data = data.partition(b"0\r\n\r\n")
            found.append((status, body, bool(last)))
        else:
            found.append((status, data, bool(end)))
            data = b""
    return found


def statuses(data: bytes) -> list[int]:
    """Those of final answers."""
    return [status for status, _, _ in answers(data)]


@pytest.fixture(scope="module", params=["auto", "pure"])
def recorded(request: pytest.FixtureRequest, session_start: Start) -> tuple[Running, Path]:
    from tests.peers.meshcore import meshcore

    server, file = session_start(python.recorder())
    return session_start(
        meshcore([server.port], scheme="http1", listen="http1://127.0.0.1:0", engine=request.param)
    ), file


@pytest.mark.parametrize(("data", "expect"), rows("http1_requests.jsonl"))
def test_no_request_is_smuggled(recorded: tuple[Running, Path], data: bytes, expect: str) -> None:
    through, file = recorded
    start = file.stat().st_size
    answer = converse(through.port, data, 0.4)
    time.sleep(0.02)
    with file.open() as seen_file:
        seen_file.seek(start)
        seen = seen_file.read()
    assert through.alive
    assert "crash in" not in through.output()
    # What went upstream means the same to everybody: the recorder, strict, found nothing wrong …
    assert "AMBIGUOUS" not in seen
    # … and nothing that was body, or behind a refusal, became a request of its own: "/smuggled" is always inside
    # something else, but where a corpus row says that it is an honest second request.
    requests = [line.split(" ", 3)[2:] for line in seen.splitlines() if " REQUEST " in line]
    if expect == "reject":
        assert all(status >= 400 for status in statuses(answer)[-1:]), answer[:300]
        assert ["GET", "/smuggled"] not in [request[:2] for request in requests]
    if expect == "accept":
        assert statuses(answer)
        assert all(status == 200 for status in statuses(answer)), answer[:300]
        assert ["GET", "/smuggled"] not in [request[:2] for request in requests]
    # As many answers at most as there were requests: none for somebody else.
    assert len([status for status in statuses(answer) if status < 400]) <= len(requests) + 1


@contextlib.contextmanager
def answering() -> Iterator[tuple[int, list[bytes]]]:
    """An upstream that says, to each request, the first of a list; ``<CLOSE>`` at the end closes."""
    said: list[bytes] = [b"", b""]
    port = free_port()
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def serve(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(2)
            data = b""
            poisoned = False
            while True:
                while b"\r\n\r\n" not in data:
                    chunk = sock.recv(65_536)
                    if not chunk:
                        return
                    data += chunk
                data = b""
                if poisoned:
                    # A connection whose answer had to be refused must not be used again.
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON")
                    return
                poisoned = said[1] == b"reject"
                sock.sendall(said[0].removesuffix(b"<CLOSE>"))
                if said[0].endswith(b"<CLOSE>"):
                    return

    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        listener.settimeout(0.1)

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    sock, _ = listener.accept()
                    thread = threading.Thread(target=serve, args=(sock,))
                    thread.start()
                    threads.append(thread)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield port, said
        finally:
            stop.set()
            for thread in [acceptor, *threads]:
                thread.join(5)


@pytest.fixture(scope="module", params=["auto", "pure"])
def answered(request: pytest.FixtureRequest, session_start: Start) -> tuple[Running, list[bytes]]:
    from tests.peers.meshcore import meshcore

    port, said = session_start(answering())
    return session_start(meshcore([port], scheme="http1", engine=request.param)), said


@pytest.mark.parametrize(("data", "expect"), rows("http1_responses.jsonl"))
def test_no_answer_is_taken_for_another(answered: tuple[Running, list[bytes]], data: bytes, expect: str) -> None:
    through, said = answered
    said[:] = [data, expect.encode()]
    answer = converse(through.port, b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n", 1.5)
    assert through.alive
    assert "crash in" not in through.output()
    found = statuses(answer)
    assert len(found) <= 1, answer[:300]
    if expect == "reject":
        # Refused before the head was sent on, or broken off in the body: never a complete 2xx.
        assert not complete(answer), answer[:300]
    elif expect == "accept":
        assert found == [200]
        assert complete(answer)
        assert answer.endswith(b"ok")
    if data.endswith(b"<CLOSE>") and b"20\r\n\r\n" in data:
        assert not complete(answer), "a body that was cut short looks complete"
    # The next one gets its own answer, not what was left over from this one.
    said[:] = [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine<CLOSE>", b""]
    after = converse(through.port, b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n", 1.5)
    assert after.endswith(b"mine"), after[:300]
    assert b"POISON" not in after


def complete(data: bytes) -> bool:
    """Whether the first answer is a success whose body is as long as its framing says."""
    found = answers(data)
    return bool(found) and found[0][0] < 400 and found[0][2]
