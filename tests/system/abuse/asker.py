"""Asks a route over and over on several connections: ``python -m tests.system.abuse.asker AUTHORITY PORT SECONDS``."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time


def main() -> None:
    """Eight threads, a request a connection each, answers thrown away."""
    authority, port, seconds = sys.argv[1].encode(), int(sys.argv[2]), float(sys.argv[3])
    end = time.monotonic() + seconds

    def ask() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 3) as sock:
                sock.settimeout(1)
                sock.sendall(b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % authority)
                limit = time.monotonic() + 1
                while time.monotonic() < limit and sock.recv(1 << 18):
                    pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
