"""Endpoints that die, come back, or are slow: no idempotent request fails."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

import httpx
import pytest

from tests.peers import python
from tests.peers.process import Running

pytestmark = pytest.mark.alone

Proxy = Callable[..., Running]
Start = Callable[..., Running]


class Callers:
    """Threads that send GETs without a pause, and what came of them."""

    def __init__(self, port: int, threads: int) -> None:
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self.slowest = 0.0
        self.took: list[float] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    answer = client.get(f"http://127.0.0.1:{self._port}/")
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                took = time.monotonic() - began
                self.slowest = max(self.slowest, took)
                self.took.append(took)
                if answer.status_code == 200:
                    self.seen[answer.text] += 1
                else:
                    self.failed.append(f"{answer.status_code} {dict(answer.headers)}")


@contextmanager
def restarted(name: str, port: int, every: float, seconds: float) -> Iterator[Callable[[], int]]:
    """An origin that is killed and started again, over and over; ``run()`` does it and counts."""

    def run() -> int:
        end = time.monotonic() + seconds
        kills = 0
        while time.monotonic() < end:
            with python.origin(name, port=port):
                time.sleep(every)
            kills += 1
        return kills

    yield run


def _kill_and_restart(start: Start, proxy: Proxy, seconds: float) -> None:
    from tests.peers.process import free_port

    steady = [start(python.origin(f"s{index}")) for index in range(2)]
    port = free_port()
    through = proxy([*(server.port for server in steady), port])
    with Callers(through.port, 6) as callers, restarted("s2", port, 1.0, seconds) as run:
        kills = run()
    assert callers.failed == []
    assert kills >= 2
    assert sum(callers.seen.values()) > 100
    # Whether a second of life is enough to be noticed depends on the backoff; the others carry the load.
    assert {"s0", "s1"} <= set(callers.seen)


def test_no_get_fails_while_one_of_three_endpoints_is_killed_every_second(start: Start, proxy: Proxy) -> None:
    _kill_and_restart(start, proxy, 6)


@pytest.mark.long
def test_no_get_fails_while_one_of_three_endpoints_is_killed_every_second_for_30_s(start: Start, proxy: Proxy) -> None:
    _kill_and_restart(start, proxy, 30)


def test_an_endpoint_200_ms_slow_gets_less_than_2_percent(start: Start, proxy: Proxy) -> None:
    servers = [start(python.origin(f"s{index}", delay=0.2 if index == 0 else 0.0)) for index in range(3)]
    through = proxy([server.port for server in servers])
    with Callers(through.port, 3) as callers:
        time.sleep(4)
    assert callers.failed == []
    total = sum(callers.seen.values())
    assert callers.seen["s0"] < 0.02 * total, callers.seen


def test_three_equal_endpoints_share_the_load(start: Start, proxy: Proxy) -> None:
    servers = [start(python.origin(f"s{index}")) for index in range(3)]
    through = proxy([server.port for server in servers])
    with Callers(through.port, 8) as callers:
        time.sleep(4)
    total = sum(callers.seen.values())
    assert callers.failed == []
    assert all(0.2 * total < callers.seen[f"s{index}"] < 0.5 * total for index in range(3)), callers.seen


def test_an_endpoint_that_stops_in_an_orderly_way_loses_nothing(start: Start, proxy: Proxy) -> None:
    with ExitStack() as going:
        steady = start(python.origin("s0"))
        leaving = going.enter_context(python.origin("s1"))
        through = proxy([steady.port, leaving.port])
        with Callers(through.port, 6) as callers:
            time.sleep(1)
            going.close()
            time.sleep(1.5)
    assert callers.failed == []
    assert callers.seen["s0"] > callers.seen["s1"] > 0
