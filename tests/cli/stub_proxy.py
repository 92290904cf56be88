"""An admin server that answers what a test wants, right or wrong."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATS = json.loads((Path(__file__).parent.parent / "fixtures" / "stats.json").read_text())
ENDPOINTS = {
    "backends": [
        {
            "backend": "payments:80",
            "direction": "outbound",
            "listener": "outbound",
            "policy": "p2c-ewma",
            "ready": 1,
            "waiting": 3,
            "fail_fast": True,
            "panic": True,
            "discovered": False,
            "discovery": {"source": "dns:payments", "age": 3.25, "error": ""},
            "retry_budget": 0.5,
            "endpoints": [
                {
                    "address": "10.0.0.7:4143",
                    "state": "ready",
                    "status": "open",
                    "error": "",
                    "weight": 1.0,
                    "zone": "eu-1a",
                    "labels": {"pod": "payments-6c5f"},
                    "identity": "payments.shop",
                    "secured": True,
                    "no_tls_reason": "",
                    "load": 0.0041,
                    "rtt": 2.05,
                    "pending": 2,
                    "in_flight": 3,
                    "connections": 2,
                    "successes": 100,
                    "failures": 1,
                    "age": 250.0,
                    "breaker": {"state": "shut", "failures": 0, "trips": 0, "reason": "", "remaining": 0.0},
                    "healthy": None,
                },
                {
                    "address": "10.0.0.8:4143",
                    "state": "pending",
                    "error": "circuit open \x1b[2J",
                    "load": 1.0,
                    "breaker": {"state": "open", "failures": 7, "trips": 1, "reason": "x", "remaining": 8.2},
                },
            ],
        }
    ],
    "more": 2,
}
TASKS = {
    "total": 3,
    "more": 1,
    "tasks": [
        {"depth": 0, "name": "<init>", "nursery": 0, "children": 1, "waits_at": "", "stack": []},
        {"depth": 1, "name": "sampler", "nursery": 0, "children": 0, "waits_at": "meshcore/x.py:7 run", "stack": []},
    ],
}
IDENTITY = {
    "identity": "orders.shop",
    "certified": True,
    "refused": "",
    "refreshes": {"ok": 2, "error": 0},
    "certificate": {
        "names": ["orders.shop"],
        "not_before": 1795714800.0,
        "not_after": 1795801200.0,
        "remaining": 86_000.0,
        "subject": "CN=orders",
        "issuer": "CN=ca",
        "serial": "7f",
        "sha256": "ab" * 32,
    },
    "chain": [],
    "anchors": [{"subject": "CN=ca", "issuer": "CN=ca", "not_before": 0.0, "not_after": 2e9}],
}
STACK = {
    "outbound": {
        "layers": [
            {"role": "retry", "layer": "Retry(attempts=1)", "retried": 3},
            {"role": "balance", "layer": "Balance()", "per": "endpoint"},
            {"role": "http", "layer": "Http()", "branches": {"opaque": [{"role": "x", "layer": "Forward()"}]}},
        ],
        "live": {"listen": ["127.0.0.1:4140"], "server": {"open_connections": 1}},
    }
}
PAGES = {
    "/ready": "ready from=127.0.0.1:4140\n",
    "/config": {"admin": {"password": "hunter2", "key": "/etc/x.key"}, "url": "http://u:p@x/"},
    "/stats": STATS,
    "/endpoints": ENDPOINTS,
    "/stack": STACK,
    "/identity": IDENTITY,
    "/tasks": TASKS,
    "/metrics": "# HELP up …\n",
}


class Stub:
    """What it answers, by path without its query: JSON, text, a status, or bytes that are sent as they are.

    Attributes:
        address: ``HOST:PORT``.
        asked: every path, its query included.
    """

    def __init__(self, pages: dict[str, Any]) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.address = ""


@contextmanager
def stub_proxy(pages: dict[str, Any] | None = None, context: ssl.SSLContext | None = None) -> Iterator[Stub]:
    """One that runs until the end of the block; with a *context* it speaks TLS."""
    stub = Stub(dict(PAGES) if pages is None else pages)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            stub.asked.append(self.path)
            found = stub.pages.get(self.path.partition("?")[0], 404)
            if isinstance(found, bytes):
                self.wfile.write(found)
                self.close_connection = True
                return
            status = found if isinstance(found, int) else 200
            text = "not found\n" if status != 200 else found if isinstance(found, str) else json.dumps(found)
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Not on standard error, which is looked at."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def finish_request(self, request: Any, address: Any) -> None:
            with contextlib.suppress(OSError):
                secure = request if context is None else context.wrap_socket(request, server_side=True)
                super().finish_request(secure, address)
                if context is not None:
                    secure.close()

        def handle_error(self, *_: object) -> None:
            """Clients may leave."""

    with Server(("127.0.0.1", 0), Handler) as server:
        stub.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
