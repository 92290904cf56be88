"""A relay of TCP that keeps a record of every byte, for looking at what two proxies say to each other."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self

from tests.peers.process import free_port

__all__ = ["Wire", "tls_records"]


class Wire:
    """Relays connections from ``port`` to a port on loopback while its block runs, and records them.

    Attributes:
        port: where it accepts.
        connections: for each connection what went to the server, and what came from it.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = free_port()
        self.connections: list[tuple[bytearray, bytearray]] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def recorded(self) -> bytes:
        """Everything, in both directions."""
        return b"".join(bytes(part) for connection in self.connections for part in connection)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.settimeout(0.1)
        acceptor = threading.Thread(target=self._accept)
        acceptor.start()
        self._threads.append(acceptor)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                record = (bytearray(), bytearray())
                self.connections.append(record)
                thread = threading.Thread(target=self._relay, args=(client, *record))
                thread.start()
                self._threads.append(thread)

    def _relay(self, client: socket.socket, up: bytearray, down: bytearray) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.to), 5) as server:
            ways = selectors.DefaultSelector()
            ways.register(client, selectors.EVENT_READ, (server, up))
            ways.register(server, selectors.EVENT_READ, (client, down))
            while ways.get_map() and not self._stop.is_set():
                for key, _ in ways.select(0.1):
                    onwards, record = key.data
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    record += data
                    if data:
                        onwards.sendall(data)
                    else:
                        onwards.shutdown(socket.SHUT_WR)
                        ways.unregister(key.fileobj)


def tls_records(data: bytes) -> list[tuple[int, int]]:
    """The records of one direction of a TLS connection: type and length; the last may be cut off.

    Raises:
        ValueError: something in it is no record of TLS.
    """
    found = []
    at = 0
    while at + 5 <= len(data):
        kind, version, length = data[at], data[at + 1 : at + 3], int.from_bytes(data[at + 3 : at + 5], "big")
        if kind not in (20, 21, 22, 23) or version not in (b"\3\1", b"\3\3") or length > 16_640:
            raise ValueError(f"no record of TLS at {at}: {data[at : at + 5]!r}")
        found.append((kind, length))
        at += 5 + length
    return found
