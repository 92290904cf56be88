"""A proxy's admin server that nothing stands behind: values that move, as a busy sidecar's do, for the dashboard.

``python -m tests.admin.lively [PORT [TOKEN]]`` serves it, for whoever works on the dashboard.
"""

from __future__ import annotations

import json
import math
import random
import sys
from functools import partial
from typing import Any

import trio

from meshcore.admin import Admin
from meshcore.admin.dashboard import dashboard_pages
from meshcore.admin.events import Events
from meshcore.admin.page import response_of, text_page
from meshcore.http.body import Chunks
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.balance import Balance
from meshcore.layers.classify import Classify
from meshcore.layers.failure_accrual import FailureAccrual
from meshcore.layers.retry import Retry
from meshcore.layers.stream_timeouts import StreamTimeouts
from meshcore.metrics.feed import Feed
from meshcore.metrics.happenings import (
    tell_breaker,
    tell_certificate,
    tell_config,
    tell_endpoint,
    tell_endpoints,
    tell_health,
    tell_ready,
)
from meshcore.server.http import ServeHttp
from meshcore.server.serve import serve
from meshcore.stack import accept, role, stack
from meshcore.transport.drain import Drain
from meshcore.transport.target import Accepted, Backend

HOSTILE = "<img src=x onerror=alert(1)>"
BEGAN = 1_795_700_000.0
OWN = "orders.shop.serviceaccount.identity.linkerd.shop.local"


class Lively:
    """Its values, by the clock of Trio."""

    def __init__(self, seed: int = 7) -> None:
        self.rng = random.Random(seed)
        self.began = trio.current_time()
        self.asked = 0
        self.ago = 3_000.0
        self.feed = Feed(self.now)
        tell_certificate(self.feed, "identity_certified", OWN, "certified until 2026-11-27T15:30:00Z")
        tell_endpoints(self.feed, "payments:80", ["10.0.0.7:4143", "10.0.0.8:4143", "10.0.0.9:4143"], [], first=True)
        tell_ready(self.feed, "0.0.0.0:4143,127.0.0.1:4140")
        tell_config(self.feed, 2, "+1 route, changed: outbound.to.payments:80.timeout", (), "orders.toml has changed")
        tell_endpoints(self.feed, "stock:80", ["10.0.1.14:4143"], ["10.0.1.3:4143"])
        tell_health(self.feed, "10.0.1.14:4143", "no answer within 1 s")
        tell_health(self.feed, "10.0.1.14:4143", None)
        tell_config(self.feed, 2, "", ["orders.toml:14: outbound.to.payments:80.tiemout: unknown key"], "SIGHUP")
        tell_endpoint(self.feed, "mail:25", "10.0.2.2:25", ConnectionRefusedError("connection refused"))
        tell_breaker(self.feed, "tripped", "payments:80", "10.0.0.9:4143", "is left alone for 2.1 s: success rate")
        self.ago = 0.0

    def now(self) -> float:
        # What has been told at the start was some time ago, one after the other.
        self.ago *= 0.83
        return BEGAN + 14_800.0 - self.ago + trio.current_time() - self.began

    def golden(self, rps: float, success: float | None, p50: float, spread: float = 1.0) -> dict[str, Any]:
        wave = 1 + 0.25 * math.sin(self.asked / 9 + p50) + self.rng.uniform(-0.06, 0.06)
        if not rps:
            return {"requests": 0, "rps": 0.0, "success": None, "p50": None, "p95": None, "p99": None}
        slow = 1 + 0.15 * math.sin(self.asked / 5) + self.rng.uniform(-0.1, 0.1)
        return {
            "requests": int(rps * wave * 5),
            "rps": rps * wave,
            "success": None if success is None else min(1.0, success + self.rng.uniform(-0.0006, 0.0006)),
            "p50": p50 * slow,
            "p95": p50 * 4.6 * slow * spread,
            "p99": p50 * 11.2 * slow * spread,
        }

    async def stats(self, window: int) -> dict[str, Any]:
        self.asked += 1
        golden = self.golden

        def endpoint(backend: str, address: str, pod: str, figures: dict[str, Any], **more: Any) -> dict[str, Any]:
            return {
                "backend": backend,
                "direction": "outbound",
                "address": address,
                "labels": {"pod": pod, "zone": "eu-1a" if address[-6] in "78" else "eu-1b"},
                "identity": f"{backend.partition(':')[0]}.shop",
                "secured": True,
                "state": "ready",
                "breaker": "shut",
                "load": 0.0041 * self.rng.uniform(0.9, 1.1),
                "pending": self.rng.randrange(4),
                "age": 4_210.0 + self.asked,
                **figures,
                **more,
            }

        def edge(direction: str, source: str, target: str, secured: bool, why: str, figures: dict[str, Any]) -> Any:
            return {
                "direction": direction,
                "source": source,
                "target": target,
                "source_identity": source if secured else None,
                "target_identity": target.partition(":")[0] + ".shop" if secured else None,
                "secured": secured,
                "no_tls_reason": why,
                "connections": self.rng.randrange(2, 9),
                **figures,
            }

        return {
            "time": self.now(),
            "window": float(window),
            "proxy": {
                "name": "orders",
                "namespace": "shop",
                "identity": OWN,
                "version": "0.1.0",
                "state": "ready",
                "uptime": self.now() - BEGAN,
            },
            "total": {"inbound": golden(812, 0.9988, 3.4), "outbound": golden(1234, 0.9704, 1.9, 1.4)},
            "routes": [
                {"direction": direction, "parent": parent, "route": route, **figures}
                for direction, parent, route, figures in (
                    ("outbound", "payments:80", "authorize", golden(800, 0.9999, 2.1)),
                    ("outbound", "payments:80", f"refund {HOSTILE}", golden(1.2, 0.75, 41.0)),
                    ("outbound", "stock:80", "reserve", golden(310, 0.972, 1.6)),
                    ("outbound", "stock:80", "default", golden(41, 1.0, 0.9)),
                    ("outbound", "mail:25", "default", golden(0, None, 0)),
                    ("inbound", "inbound", "checkout", golden(590, 0.9991, 3.9)),
                    ("inbound", "inbound", "cart", golden(221, 0.998, 2.2)),
                )
            ],
            "backends": [
                {
                    "backend": name,
                    "direction": "inbound" if name == "application" else "outbound",
                    "ready": ready,
                    "pending": pending,
                    "waiting": 0,
                    "retry_budget": budget,
                    **figures,
                }
                for name, ready, pending, budget, figures in (
                    ("payments:80", 2, 1, 0.6134, golden(801, 0.9704, 1.9)),
                    ("stock:80", 3, 0, 0.98, golden(351, 0.975, 1.5)),
                    ("mail:25", 0, 1, None, golden(0, None, 0)),
                    ("application", 1, 0, None, golden(812, 0.9988, 3.4)),
                )
            ],
            "endpoints": [
                endpoint("payments:80", "10.0.0.7:4143", "payments-6c5f", golden(401, 1.0, 1.9)),
                endpoint("payments:80", "10.0.0.8:4143", "payments-77ab", golden(387, 0.9999, 1.91)),
                endpoint(
                    "payments:80", "10.0.0.9:4143", "payments-9d21", golden(13, 0.02, 150), breaker="open", load=0.81
                ),
                endpoint("stock:80", "10.0.1.12:4143", "stock-0", golden(118, 0.99, 1.5)),
                endpoint("stock:80", "10.0.1.13:4143", "stock-1", golden(115, 0.965, 1.5), breaker="probation"),
                endpoint("stock:80", "10.0.1.14:4143", "stock-2", golden(117, 0.995, 1.5)),
                endpoint(
                    "mail:25",
                    "10.0.2.2:25",
                    HOSTILE,
                    golden(0, None, 0),
                    state="failed",
                    breaker="none",
                    secured=False,
                    identity=None,
                    load=None,
                ),
                endpoint(
                    "application",
                    "127.0.0.1:8000",
                    "-",
                    golden(812, 0.9988, 3.4),
                    breaker="none",
                    secured=False,
                    identity=None,
                    labels={},
                ),
            ],
            "edges": [
                edge("inbound", "web.shop", "orders.shop", True, "", golden(640, 0.9991, 3.4)),
                edge("inbound", "mobile-api.shop", "orders.shop", True, "", golden(168, 0.998, 3.1)),
                edge("inbound", "unknown", "orders.shop", False, "no_tls_from_remote", golden(4, 1.0, 4.0)),
                edge("outbound", "orders.shop", "payments:80", True, "", golden(801, 0.9704, 1.9)),
                edge("outbound", "orders.shop", "stock:80", True, "", golden(351, 0.995, 1.5)),
                edge("outbound", "orders.shop", "postgres:5432", True, "", golden(62, 1.0, 0.4)),
                edge(
                    "outbound",
                    "orders.shop",
                    "mail:25",
                    False,
                    "not_provided_by_service_discovery",
                    golden(0, None, 0),
                ),
            ],
            "more": {"routes": 0, "backends": 0, "endpoints": 0, "edges": 0},
        }

    def stack(self) -> dict[str, Any]:
        """The value of ``/stack``: the layers of a pipeline with what they are said to have done."""
        layers = stack(Backend).then(Classify()).then(StreamTimeouts()).then(Retry(2)).then(Balance())
        found = []
        for index, layer in enumerate((*layers.layers, FailureAccrual())):
            calls = 1_238_000 + self.asked * 1_200 + index
            outcomes = {"success": calls - 3_100, "failure": 3_100}
            found.append(
                {
                    "role": role(layer),
                    "layer": repr(layer),
                    "account": {
                        "calls": calls,
                        "in_flight": self.rng.randrange(6),
                        "mean_us": 2_310.0 - 90.0 * index,
                        "self_us": (18.0, 3.1, 41.5, 66.0, 9.4)[index] * self.rng.uniform(0.95, 1.05),
                        "outcomes": outcomes,
                        "answered": 0,
                        "repeated": 412 + self.asked if role(layer) == "retry" else 0,
                        "raised": 3,
                    },
                    **({"per": "endpoint"} if role(layer) == "balance" else {}),
                }
            )
        http = {"role": "detect", "layer": "Detect()", "branches": {"http": found, "opaque": [
            {"role": "opaque_forward", "layer": "Forward()"}
        ]}}  # fmt: skip
        live = {
            "listen": ["127.0.0.1:4140"],
            "server": {"open": 6, "accepted": 4_211},
            "services": [
                [
                    {"role": "retry", "statistics": {"retries": 412 + self.asked, "budget": 0.6134}},
                    {
                        "role": "balance",
                        "statistics": {
                            "backend": "payments:80",
                            "waiting": 0,
                            "endpoints": [
                                {"address": ["10.0.0.7", 4143], "state": "ready", "load": 0.0041, "in_flight": 2},
                                {"address": ["10.0.0.9", 4143], "state": "ready", "load": 0.81, "error": HOSTILE},
                            ],
                        },
                    },
                ]
            ],
        }
        return {
            "outbound": {"layers": [{"role": "tcp_metrics", "layer": "TcpMetrics()"}, http], "live": live},
            "inbound": {"layers": found[:3]},
        }

    # ----- tap -----

    def exchange(self, number: int) -> list[dict[str, Any]]:
        """The lines of one request."""
        rng = self.rng
        path = rng.choice(["/v1/charges", "/v1/charges/8812", "/v1/refunds", f"/search?q={HOSTILE}"])
        status = rng.choices([200, 201, 404, 503], [80, 10, 6, 4])[0]
        base = {
            "id": number,
            "time": self.now(),
            "direction": "outbound" if number % 3 else "inbound",
            "source": {"addr": f"10.0.3.{number % 7}:51{number % 900:03}", "identity": "web.shop", "secured": True},
            "target": {"addr": "10.0.0.7:4143", "identity": "payments.shop", "secured": True, "labels": {"pod": "p-1"}},
            "route": "authorize",
            "backend": "payments:80",
            "method": "POST" if "charges" in path else "GET",
            "authority": "payments:80",
            "path": path,
        }
        asked = [["user-agent", HOSTILE], ["authorization", "***"], ["accept", "application/json"]]
        told = [["content-type", "application/json"]]
        took = rng.lognormvariate(1.2, 0.8)
        end = {"since_ms": took, "first_byte_ms": took * 0.9, "response_bytes": 512, "failed": status >= 500}
        return [
            {**base, "event": "request_init", "headers": asked},
            {**base, "event": "response_init", "status": status, "response_headers": told},
            {**base, "event": "response_end", "status": status, "grpc_status": None, "error": None, **end},
        ]


async def tap(lively: Lively, nursery: trio.Nursery, request: Request) -> Response:
    body = Chunks()

    async def speak() -> None:
        number = 0
        while body.end is None:
            number += 1
            for line in lively.exchange(number):
                body.push(json.dumps(line).encode() + b"\n")
            await trio.sleep(0.15)

    nursery.start_soon(speak)
    return Response(200, Headers([(b"content-type", b"application/x-ndjson")]), body)


class _Always:
    """The same service for every connection."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        return self._service


def guarded(page: Any, token: str) -> Any:
    """The page for who shows the token, where there is one."""

    async def guard(request: Request) -> Response:
        if token and request.headers.get(b"authorization") != b"Bearer " + token.encode():
            return text_page(401, "a token is needed\n")
        answer: Response = await page(request)
        return answer

    return guard


async def run(port: int = 0, *, token: str = "") -> None:
    """Serves it until it is cancelled; its address is written to standard output."""
    lively = Lively()
    events = Events(lively.stats, lively.feed, about=lambda: {"expires": lively.now() + 43_200})
    drain = Drain()

    async with trio.open_nursery() as nursery:

        async def stack_page(request: Request) -> Response:
            return response_of(200, b"application/json", json.dumps(lively.stack()).encode())

        async def tap_page(request: Request) -> Response:
            return await tap(lively, nursery, request)

        further = {b"/events": events, b"/stack": stack_page, b"/tap": tap_page}
        pages = {**dashboard_pages(), **{path: guarded(page, token) for path, page in further.items()}}
        admin = Admin(drain, metrics=lambda _: "", ready=list, config={}, stacks={}, pages=pages)
        nursery.start_soon(events.run)
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        served = accept(Accepted).then(ServeHttp()).layer(_Always(admin))  # type: ignore[arg-type]
        print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/", flush=True)
        await serve(served, [listener], upstreams=nursery, drain=drain)


if __name__ == "__main__":
    trio.run(partial(run, *map(int, sys.argv[1:2]), token="".join(sys.argv[2:])))
