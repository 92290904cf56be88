"""What an operator fears, for a minute each: endpoints that die, hang, are slow or answer with errors, under load.

A destination with a breaker, retries and a limit for each try; its figures stand in docs/explanation/long-runs.md.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.peers import python
from tests.peers.process import Running, free_port
from tests.peers.sidecar import metric
from tests.system.mesh.conftest import Sidecars
from tests.system.mesh.test_failures import moody, through
from tests.system.test_balance import Callers

pytestmark = pytest.mark.long

Start = Callable[..., Running]

SECONDS = 60.0
POLICY = {
    "failure_accrual": {"consecutive": 5, "penalty": "500ms..4s"},
    "retry": {"on": ["5xx", "reset", "connect-failure"], "limit": 2, "timeout": "500ms"},
}


@contextmanager
def load(outbound: Running, what: str) -> Iterator[Callers]:
    """Six callers without a pause, none of whom may see a failure; says what came of it."""
    with Callers(outbound.port, 6) as callers:
        yield callers
    total = sum(callers.seen.values())
    took = sorted(callers.took)
    retries = metric(outbound, "outbound_http_route_retry_requests_total", backend="app:80")
    print(
        f"\n{what}: {total} requests, {len(callers.failed)} failed, p50 {statistics.median(took) * 1e3:.1f} ms, "
        f"p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms, slowest {callers.slowest * 1e3:.0f} ms, "
        f"{retries:.0f} retries, by endpoint {dict(callers.seen)}"
    )
    assert callers.failed == []
    assert total > 1_000


def test_an_endpoint_is_killed_and_started_again_for_a_minute(sidecars: Sidecars, start: Start) -> None:
    steady = [start(python.origin(f"s{index}")) for index in range(2)]
    port = free_port()
    outbound = through(sidecars, [*(server.port for server in steady), port], **POLICY)
    with load(outbound, "killed every 2 s"):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with python.origin("s2", port=port) as mortal:
                time.sleep(2)
                mortal.process.kill()


def test_an_endpoint_hangs_again_and_again_for_a_minute(sidecars: Sidecars, start: Start) -> None:
    servers = [start(python.origin(f"s{index}")) for index in range(3)]
    outbound = through(sidecars, [server.port for server in servers], **POLICY)
    hanging = servers[2].process
    with load(outbound, "stopped 3 s of every 6"):
        end = time.monotonic() + SECONDS
        try:
            while time.monotonic() < end:
                time.sleep(3)
                hanging.send_signal(signal.SIGSTOP)
                time.sleep(3)
                hanging.send_signal(signal.SIGCONT)
        finally:
            hanging.send_signal(signal.SIGCONT)


def test_an_endpoint_is_200_ms_slow_for_a_minute(sidecars: Sidecars, start: Start) -> None:
    servers = [start(python.origin(f"s{index}", delay=0.2 if index == 2 else 0.0)) for index in range(3)]
    outbound = through(sidecars, [server.port for server in servers], **POLICY)
    with load(outbound, "200 ms slow") as callers:
        time.sleep(SECONDS)
    assert callers.seen["s2"] < 0.02 * sum(callers.seen.values())


def test_an_endpoint_answers_with_errors_half_of_a_minute(sidecars: Sidecars, start: Start) -> None:
    with moody() as (port, handler):
        steady = [start(python.origin(f"s{index}")) for index in range(2)]
        outbound = through(sidecars, [*(server.port for server in steady), port], **POLICY)
        with load(outbound, "errors 5 s of every 10"):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                handler.status = 503
                time.sleep(5)
                handler.status = 200
                time.sleep(5)
