"""Hostile upstreams: ``python -m tests.peers.hostile_upstream KIND PORT`` abuses whoever connects.

Each connection is served by one function in a thread of its own until it is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

from tests.peers import frames
from tests.peers.frames import (
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Peer,
    frame,
    literal,
    rst_stream,
    settings,
    window_update,
)

__all__ = ["HTTP1", "HTTP2"]

Serve = Callable[[socket.socket], None]
HTTP1: dict[str, Serve] = {}
HTTP2: dict[str, Serve] = {}
OK = b"\x88"


def http1(serve: Serve) -> Serve:
    HTTP1[serve.__name__] = serve
    return serve


def http2(serve: Serve) -> Serve:
    HTTP2[serve.__name__] = serve
    return serve


# ----- HTTP/2 -----


def _accepted(sock: socket.socket) -> tuple[Peer, int]:
    """After the preface, the settings, and the first request's head: the peer and the stream."""
    peer = Peer(sock)
    assert peer.read_exactly(len(PREFACE)) == PREFACE
    peer.send(settings())
    while True:
        got = peer.read()
        peer.obey(got)
        if got.kind == frames.HEADERS:
            return peer, got.stream


def _flood(sock: socket.socket, data: bytes, times: int = 5_000, *, drain: bool = True) -> None:
    for _ in range(times):
        sock.sendall(data)
        if drain:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while sock.recv(1 << 18):
                    pass
            sock.settimeout(5)


@http2
def pings(sock: socket.socket) -> None:
    _accepted(sock)
    _flood(sock, frame(frames.PING, 0, 0, b"12345678") * 1_000)


@http2
def pings_never_read(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    _accepted(sock)
    _flood(sock, frame(frames.PING, 0, 0, b"12345678") * 1_000, drain=False)


@http2
def settings_again_and_again(sock: socket.socket) -> None:
    _accepted(sock)
    _flood(sock, settings((4, 65_535)) * 1_000)


@http2
def priorities(sock: socket.socket) -> None:
    _accepted(sock)
    _flood(sock, b"".join(frame(frames.PRIORITY, 0, n, struct.pack(">IB", 0, 1)) for n in range(1, 2_001, 2)))


@http2
def empty_data(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    sock.sendall(frame(frames.HEADERS, END_HEADERS, stream, OK))
    _flood(sock, frame(frames.DATA, 0, stream) * 1_000)


@http2
def tiny_data(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    sock.sendall(frame(frames.HEADERS, END_HEADERS, stream, OK))
    _flood(sock, frame(frames.DATA, frames.PADDED, stream, bytes([200]) + b"x" + bytes(200)) * 100)


@http2
def continuations(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    sock.sendall(frame(frames.HEADERS, 0, stream, OK))
    _flood(sock, frame(frames.CONTINUATION, 0, stream, literal(b"a", b"b" * 100) * 100) * 4)


@http2
def hpack_bomb(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    value = b"x" * 4_000
    bomb = b"\x40\x01a\x7f" + b"\xa1\x1e" + value + b"\xbe" * 12_000
    _flood(sock, frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, OK + bomb[:16_000]), 3)
    time.sleep(1)


@http2
def informational_flood(sock: socket.socket) -> None:
    peer, stream = _accepted(sock)
    early = peer.response(stream, (b"link", b"</a>"), status=b"103")
    again = frame(frames.HEADERS, END_HEADERS, stream, b"\x08\x03103")
    sock.sendall(early)
    _flood(sock, again * 1_000)


@http2
def connection_window_overflow(sock: socket.socket) -> None:
    _accepted(sock)
    sock.sendall(window_update(0, 0x7FFFFFFF) * 2)
    time.sleep(1)


@http2
def zero_window_updates(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    _flood(sock, window_update(stream, 0) * 100, 200)


@http2
def more_data_than_the_window(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    sock.sendall(frame(frames.HEADERS, END_HEADERS, stream, OK))
    for _ in range(2_000):
        sock.sendall(frame(frames.DATA, 0, stream, bytes(16_384)))


@http2
def reset_then_goaway(sock: socket.socket) -> None:
    """CVE-2023-35945."""
    _, stream = _accepted(sock)
    sock.sendall(rst_stream(stream, 7) + frame(frames.GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
    time.sleep(0.05)


@http2
def goaway_before_the_stream(sock: socket.socket) -> None:
    _accepted(sock)
    sock.sendall(frame(frames.GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
    time.sleep(0.05)


@http2
def always_refused(sock: socket.socket) -> None:
    peer, stream = _accepted(sock)
    while True:
        sock.sendall(rst_stream(stream, 7))
        got = peer.read()
        peer.obey(got)
        stream = got.stream if got.kind == frames.HEADERS else stream


@http2
def push_promises(sock: socket.socket) -> None:
    _, stream = _accepted(sock)
    sock.sendall(frame(frames.PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + b"\x82\x86\x84"))
    time.sleep(0.5)


@http2
def no_streams_allowed(sock: socket.socket) -> None:
    peer = Peer(sock)
    peer.read_exactly(len(PREFACE))
    peer.send(settings((3, 0)))
    time.sleep(2)


@http2
def silent(sock: socket.socket) -> None:
    time.sleep(2)


@http2
def noise(sock: socket.socket) -> None:
    sock.sendall(os.urandom(100_000))
    time.sleep(0.1)


@http2
def http1_in_answer(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    time.sleep(0.1)


# ----- HTTP/1 -----


def _asked(sock: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65_536)
        if not chunk:
            raise ConnectionError
        data += chunk


@http1
def no_answer(sock: socket.socket) -> None:
    _asked(sock)
    time.sleep(2)


@http1
def closed_at_once(sock: socket.socket) -> None:
    _asked(sock)


@http1
def reset_at_once(sock: socket.socket) -> None:
    _asked(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@http1
def endless_head(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2_000):
        sock.sendall(b"a: b\r\n" * 1_000)


@http1
def huge_field(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\na: " + b"x" * (32 << 20))


@http1
def continues_for_ever(sock: socket.socket) -> None:
    _asked(sock)
    for _ in range(2_000):
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)


@http1
def hints_for_ever(sock: socket.socket) -> None:
    _asked(sock)
    for _ in range(2_000):
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1_000)


@http1
def endless_body(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(b"x" * 65_536)


@http1
def tiny_chunks(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"1\r\nx\r\n" * 1_000)


@http1
def endless_trailers(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    while True:
        sock.sendall(b"a: b\r\n" * 1_000)


@http1
def more_than_was_asked_for(sock: socket.socket) -> None:
    """A second answer behind the first, for whoever comes next (response splitting)."""
    while True:
        _asked(sock)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
        )


@http1
def drips(sock: socket.socket) -> None:
    _asked(sock)
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 100:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


@http1
def garbage(sock: socket.socket) -> None:
    _asked(sock)
    sock.sendall(os.urandom(100_000))


def main() -> None:
    """Accepts until it is killed."""
    serve = {**HTTP1, **HTTP2}[sys.argv[1]]

    def guarded(sock: socket.socket) -> None:
        sock.settimeout(5)
        with sock, contextlib.suppress(OSError, AssertionError):
            serve(sock)

    with socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=512) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=guarded, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
