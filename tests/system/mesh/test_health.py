"""Active health checks with real servers: one that says it is ill, and bytes that nobody takes."""

from __future__ import annotations

import http.server
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.peers.process import Running, free_port, wait_until
from tests.peers.sidecar import admin, config, metric
from tests.system.mesh.conftest import Curl, Sidecars, meshed

Start = Callable[..., Running]
QUICK = {"interval": "200ms", "timeout": "150ms", "healthy": 2, "unhealthy": 2}


class Moody(http.server.BaseHTTPRequestHandler):
    """Says of itself at ``/host`` what the test wants, and answers everything else with its name."""

    protocol_version = "HTTP/1.1"
    status = 200
    checks: Counter[str]

    def do_GET(self) -> None:
        status = type(self).status if self.path == "/host" else 200
        self.checks[self.headers.get("user-agent", "")] += 1
        self.send_response(status)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"moody")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def moody() -> Iterator[tuple[int, type[Moody]]]:
    handler = type("Handler", (Moody,), {"checks": Counter()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1], handler
        finally:
            server.shutdown()
            thread.join()


def test_an_endpoint_that_says_it_is_ill_is_left_alone_until_it_is_well(
    sidecars: Sidecars, curl: Curl, nginx: Running
) -> None:
    with moody() as (port, handler):
        to = {
            "app:80": {
                "endpoints": [nginx.address, f"127.0.0.1:{port}"],
                "balance": "round-robin",
                "health_check": {"path": "/host", **QUICK},
            }
        }
        outbound = sidecars.run(config(to=to))
        url = f"http://127.0.0.1:{outbound.port}/"

        def seen() -> set[bytes]:
            return {curl("-H", "host: app:80", url).stdout[:5] for _ in range(6)}

        def healthy() -> float:
            return metric(outbound, "endpoint_healthy", target_addr=f"127.0.0.1:{port}")

        assert seen() == {b"xxxxx", b"moody"}
        handler.status = 503
        wait_until(lambda: healthy() == 0, 5, "it is found ill")
        assert seen() == {b"xxxxx"}
        assert '"error": "/host answers 503"' in admin(outbound, "/stack")[1]
        handler.status = 200
        wait_until(lambda: healthy() == 1, 5, "it is well again")
        assert seen() == {b"xxxxx", b"moody"}
        # Checks are nobody's traffic.
        asked = handler.checks["meshcore-health-check"]
        assert asked >= 4
        assert metric(outbound, "health_checks_total", target_addr=f"127.0.0.1:{port}") >= asked - 1
        assert metric(outbound, "request_total", direction="outbound") == 18


def test_an_application_behind_its_own_sidecar_is_asked_over_mutual_tls(
    sidecars: Sidecars, curl: Curl, nginx: Running
) -> None:
    with moody() as (port, handler):
        ill, well = sidecars.inbound(port), sidecars.inbound(nginx.port)
        destination = meshed(ill.port, well.port, balance="round-robin", health_check={"path": "/host", **QUICK})
        outbound = sidecars.outbound({"app:80": destination})

        def seen() -> set[bytes]:
            return {curl("-H", "host: app:80", f"http://127.0.0.1:{outbound.port}/").stdout[:5] for _ in range(6)}

        assert seen() == {b"xxxxx", b"moody"}
        handler.status = 500
        wait_until(
            lambda: metric(outbound, "endpoint_healthy", target_addr=f"127.0.0.1:{ill.port}") == 0, 5, "it is found ill"
        )

        assert seen() == {b"xxxxx"}


def test_who_takes_no_connections_any_more_is_found_without_traffic(sidecars: Sidecars) -> None:
    quiet = free_port()
    to = {
        "db:5432": {
            "endpoints": [f"127.0.0.1:{quiet}"],
            "protocol": "tcp",
            "listen": "127.0.0.1:0",
            "health_check": QUICK,
        }
    }
    with socket.create_server(("127.0.0.1", quiet), backlog=64) as server:
        outbound = sidecars.run(config(to=to))
        with socket.create_connection(("127.0.0.1", outbound.ports["db:5432"])):
            wait_until(lambda: metric(outbound, "endpoint_healthy") == 1, 5, "it is found well")
            server.close()
            wait_until(lambda: metric(outbound, "health_checks_total", result="failure") >= 2, 5, "checks fail")
            assert metric(outbound, "endpoint_healthy") == 0
