"""Bytes that are not HTTP pass as they are, whoever speaks first."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.peers.process import Running, free_port

Proxy = Callable[..., Running]


@contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server on a thread a connection; its port."""
    port = free_port()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        # close() does not wake accept(): look at the flag now and then.
        listener.settimeout(0.1)
        stop = threading.Event()

        def guarded(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(20)
                try:
                    serve(connection)
                except OSError:
                    return

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                thread = threading.Thread(target=guarded, args=(connection,))
                thread.start()
                threads.append(thread)

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield port
        finally:
            stop.set()
            acceptor.join(5)
            for thread in threads:
                thread.join(5)


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while chunk := sock.recv(1 << 20):
        parts.append(chunk)
    return b"".join(parts)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "tcp://127.0.0.1:0"])
def test_bytes_that_are_not_http_are_echoed_and_half_close_is_kept(proxy: Proxy, listen: str) -> None:
    # \x16 would be TLS, letters would be HTTP.
    data = b"\x00\x01\x02" + os.urandom(3 << 20)

    def serve(connection: socket.socket) -> None:
        digest = hashlib.sha256(read_all(connection)).digest()
        # The client has ended its side; this side still goes on.
        time.sleep(0.2)
        connection.sendall(digest)

    with tcp_server(serve) as port:
        through = proxy([port], scheme="tcp", listen=listen)
        with socket.create_connection(("127.0.0.1", through.port), 20) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == hashlib.sha256(data).digest()


def test_a_server_that_speaks_first_is_heard_at_once_on_a_forced_listener(proxy: Proxy) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        echo(connection)

    with tcp_server(serve) as port:
        through = proxy([port], scheme="tcp", listen="tcp://127.0.0.1:0")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", through.port), 5) as client:
            assert client.recv(100) == b"220 ready\r\n"
            assert time.monotonic() - began < 0.5
            client.sendall(b"EHLO a\r\n")
            assert client.recv(100) == b"EHLO a\r\n"


def test_a_server_that_speaks_first_is_heard_after_a_second_where_the_protocol_is_detected(proxy: Proxy) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        echo(connection)

    with tcp_server(serve) as port:
        through = proxy([port], scheme="http")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", through.port), 5) as client:
            assert client.recv(100) == b"220 ready\r\n"
            assert 0.5 < time.monotonic() - began < 2.5


def test_http_in_pieces_is_http_still(proxy: Proxy, origin: Running) -> None:
    through = proxy([origin.port])
    with socket.create_connection(("127.0.0.1", through.port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n":
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")


def test_a_reset_from_the_server_ends_the_client(proxy: Proxy) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with tcp_server(serve) as port:
        through = proxy([port], scheme="tcp", listen="tcp://127.0.0.1:0")
        with socket.create_connection(("127.0.0.1", through.port), 5) as client:
            client.sendall(b"\x00\x01\x02")
            try:
                assert client.recv(10) == b""
            except ConnectionResetError:
                pass


def test_many_opaque_connections_leave_no_descriptor_behind(proxy: Proxy) -> None:
    with tcp_server(echo) as port:
        through = proxy([port], scheme="tcp", listen="tcp://127.0.0.1:0")
        before = None
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", through.port), 5) as client:
                client.sendall(b"\x00" * 10)
                assert client.recv(10)
            if before is None:
                time.sleep(0.3)
                before = through.descriptors()
        time.sleep(0.5)
        assert through.descriptors() <= before + 2
