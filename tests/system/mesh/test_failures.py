"""Breakers and retries with real servers under load: one answers with errors, one is killed, one hangs."""

from __future__ import annotations

import http.server
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.peers import python
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import config, metric
from tests.system.mesh.conftest import Sidecars
from tests.system.test_balance import Callers

Start = Callable[..., Running]

pytestmark = pytest.mark.alone

BREAKER = {"consecutive": 5, "penalty": "500ms..2s"}


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with its status of the moment."""

    protocol_version = "HTTP/1.1"
    status = 200
    asked = 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.asked += 1
        self.send_response(cls.status)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"moody")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def moody() -> Iterator[tuple[int, type[Server]]]:
    handler = type("Handler", (Server,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], handler
        finally:
            server.shutdown()
            thread.join()


def through(sidecars: Sidecars, ports: list[int], **more: Any) -> Running:
    """A destination with these endpoints, behind a listener of its own."""
    endpoints = [f"127.0.0.1:{port}" for port in ports]
    made = sidecars.run(config(to={"app:80": {"endpoints": endpoints, "listen": "127.0.0.1:0", **more}}))
    made.port = made.ports["app:80"]
    return made


@pytest.mark.parity("B-14", "B-16")
def test_an_endpoint_that_answers_with_errors_gets_out_and_comes_back(sidecars: Sidecars, start: Start) -> None:
    with moody() as (port, handler):
        steady = [start(python.origin(f"s{index}")) for index in range(2)]
        outbound = through(sidecars, [*(server.port for server in steady), port], failure_accrual=BREAKER)
        with Callers(outbound.port, 4) as callers:
            wait_until(lambda: callers.seen["moody"] > 20, 10, "all three are asked")
            handler.status = 500
            wait_until(lambda: metric(outbound, "circuit_breaker_open", target_port=str(port)) == 1, 10, "it is out")
            before, asked = len(callers.failed), handler.asked
            time.sleep(2)
            # A few that were on their way, and one for each penalty.
            assert handler.asked - asked <= 10
            assert len(callers.failed) - before <= 10
            assert before <= 30
            handler.status = 200
            after = callers.seen["moody"]
            wait_until(lambda: callers.seen["moody"] > after + 50, 10, "it has its share again")
        assert metric(outbound, "circuit_breaker_open", target_port=str(port)) == 0


def test_with_retries_nobody_sees_an_endpoint_that_answers_with_errors(sidecars: Sidecars, start: Start) -> None:
    with moody() as (port, handler):
        steady = [start(python.origin(f"s{index}")) for index in range(2)]
        retry = {"on": ["5xx", "reset", "connect-failure"], "limit": 2}
        outbound = through(sidecars, [*(server.port for server in steady), port], failure_accrual=BREAKER, retry=retry)
        handler.status = 503
        with Callers(outbound.port, 4) as callers:
            time.sleep(3)
        assert callers.failed == []
        assert sum(callers.seen.values()) > 200
        assert metric(outbound, "outbound_http_route_retry_successes_total", backend="app:80") > 0
        # The breaker keeps the retries few.
        assert handler.asked < 60


def test_an_endpoint_that_is_killed_loses_nothing(sidecars: Sidecars, start: Start) -> None:
    steady, killed = start(python.origin("s0")), start(python.origin("s1"))
    outbound = through(sidecars, [steady.port, killed.port], failure_accrual=BREAKER)
    with Callers(outbound.port, 6) as callers:
        wait_until(lambda: callers.seen["s1"] > 20, 10, "both are asked")
        killed.process.kill()
        before = callers.seen["s0"]
        wait_until(lambda: callers.seen["s0"] > before + 100, 10, "the other one carries the load")
    assert callers.failed == []


@pytest.mark.parity("R-13")
def test_an_endpoint_that_hangs_costs_a_few_requests_a_moment_and_none_an_answer(
    sidecars: Sidecars, start: Start
) -> None:
    steady, hanging = start(python.origin("s0")), start(python.origin("s1"))
    outbound = through(
        sidecars, [steady.port, hanging.port], failure_accrual=BREAKER, retry={"timeout": "300ms", "limit": 2}
    )
    with Callers(outbound.port, 4) as callers:
        wait_until(lambda: callers.seen["s1"] > 20, 10, "both are asked")
        hanging.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(3)
        finally:
            hanging.process.send_signal(signal.SIGCONT)
    assert callers.failed == []
    assert callers.slowest < 2.0
