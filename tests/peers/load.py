"""Requests in a steady stream, from threads of the test's own."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Load", "load"]


class Load:
    """What was sent until now.

    Attributes:
        sent: answers that came, by status.
    """

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}
        self._over = threading.Event()

    def _run(self, port: int, host: str, paths: list[str], pause: float) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        number = 0
        while not self._over.is_set():
            try:
                client.request("GET", paths[number % len(paths)], headers={"host": host})
                answer = client.getresponse()
                answer.read()
                self.sent[answer.status] = self.sent.get(answer.status, 0) + 1
            except (OSError, http.client.HTTPException):
                client.close()
            number += 1
            time.sleep(pause)
        client.close()


@contextmanager
def load(port: int, host: str = "localhost", *, paths: tuple[str, ...] = ("/",), pause: float = 0.01) -> Iterator[Load]:
    """One connection's worth of it until the end of the block, *pause* seconds between an answer and the next
    request."""
    made = Load()
    thread = threading.Thread(target=made._run, args=(port, host, list(paths), pause), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made._over.set()
        thread.join(15)
