"""HTTP/2 by hand: frames as bytes, and a peer that says whatever it likes.

For tests only: it checks nothing, so that it can do what no library would.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

import hpack

__all__ = [
    "CONTINUATION",
    "DATA",
    "GOAWAY",
    "HEADERS",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Frame",
    "Peer",
    "frame",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream: int, code: int = 8) -> bytes:
    """A RST_STREAM frame; CANCEL unless told."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def literal(name: bytes, value: bytes) -> bytes:
    """A header field never indexed, without Huffman; both parts shorter than 127 bytes."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


@dataclass
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """One end of an HTTP/2 connection on a blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.buffer = b""

    @classmethod
    def connect(cls, port: int, seconds: float = 10.0, receive_buffer: int | None = None) -> Peer:
        """A client's end; *receive_buffer* bounds what the kernel takes for us when we do not read."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(seconds)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.sock.sendall(data)

    def start(self, *pairs: tuple[int, int]) -> None:
        """The client's preface and settings."""
        self.send(PREFACE + settings(*pairs))

    def block(self, *extra: tuple[bytes, bytes], method: bytes = b"GET", path: bytes = b"/") -> bytes:
        """A request's header block."""
        fields = [(b":method", method), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", path), *extra]
        return self.encoder.encode(fields)

    def get(self, stream: int, *extra: tuple[bytes, bytes], path: bytes = b"/") -> None:
        """A whole GET request."""
        self.send(self.headers(stream, *extra, path=path, end=True))

    def headers(
        self,
        stream: int,
        *extra: tuple[bytes, bytes],
        method: bytes = b"GET",
        path: bytes = b"/",
        end: bool = False,
    ) -> bytes:
        """A request's HEADERS frame."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream, self.block(*extra, method=method, path=path))

    def response(self, stream: int, *fields: tuple[bytes, bytes], status: bytes = b"200", end: bool = False) -> bytes:
        """A response's HEADERS frame, for an upstream."""
        block = self.encoder.encode([(b":status", status), *fields])
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def read_exactly(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            ConnectionError: the other end closed before.
        """
        while len(self.buffer) < count:
            chunk = self.sock.recv(65_536)
            if not chunk:
                raise ConnectionError("closed")
            self.buffer += chunk
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def read(self) -> Frame:
        """The next frame; raises ConnectionError at the end."""
        head = self.read_exactly(9)
        length = int.from_bytes(head[:3], "big")
        return Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF, self.read_exactly(length))

    def read_answer(self, stream: int, *, credit: bool = True) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The fields and the body of the answer on a stream; settings and pings are acknowledged.

        Raises:
            ConnectionError: the connection ended, or the stream was reset, before.
        """
        fields: list[tuple[bytes, bytes]] = []
        body = b""
        while True:
            got = self.read()
            self.obey(got)
            if got.kind == GOAWAY and int.from_bytes(got.payload[:4], "big") & 0x7FFFFFFF < stream:
                raise ConnectionError(f"GOAWAY {int.from_bytes(got.payload[4:8], 'big')}")
            if got.kind == HEADERS:
                decoded = [(bytes(name), bytes(value)) for name, value in self.decoder.decode(got.payload, raw=True)]
                if got.stream == stream:
                    fields += decoded
            elif got.kind == DATA and got.stream == stream:
                body += got.payload
                if credit and got.payload:
                    self.send(window_update(0, len(got.payload)) + window_update(stream, len(got.payload)))
            elif got.kind == RST_STREAM and got.stream == stream:
                raise ConnectionError(f"RST_STREAM {int.from_bytes(got.payload, 'big')}")
            if got.stream == stream and got.kind in (DATA, HEADERS) and got.flags & END_STREAM:
                return fields, body

    def obey(self, got: Frame) -> None:
        """Acknowledges settings and pings."""
        if got.kind == SETTINGS and not got.flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif got.kind == PING and not got.flags & ACK:
            self.send(frame(PING, ACK, 0, got.payload))

    def read_until_closed(self, seconds: float = 5.0) -> list[Frame]:
        """Every frame until the other end closes, or for so long."""
        end = time.monotonic() + seconds
        found: list[Frame] = []
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                got = self.read()
                found.append(got)
                self.obey(got)
            except OSError:
                break
        return found

    def close(self) -> None:
        self.sock.close()
