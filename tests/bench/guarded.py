"""What a route with everything on it adds to a gateway, beside a listener that only forwards."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.bench import loads
from tests.bench.measure import in_turns
from tests.bench.report import against_first, table
from tests.peers import servers
from tests.peers.sidecar import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tests.bench.measure import Sample, Settings

__all__ = ["TO", "Kind", "guarded"]

ROUNDS = 7
"""More of them than elsewhere, and shorter ones: what is compared is close together."""


@dataclass(frozen=True)
class Kind:
    """A gateway's listener.

    Attributes:
        name: in the table.
        listen: more of its table.
        backend: more of its backend's.
        tables: others of the config file.
    """

    name: str
    listen: dict[str, Any]
    backend: dict[str, Any]
    tables: dict[str, Any] = field(default_factory=dict)


TO = [{"backend": "origin"}]
RETRY = {"limit": 2, "on": ["connect-failure", "reset", "gateway-error", "unavailable"]}
POLICY = [{"networks": ["127.0.0.0/8"], "unauthenticated": True}]
KINDS = (
    Kind("forwards, nothing configured", {"to": TO}, {}),
    Kind("a route, nothing configured", {"route": [{"match": [{"path": {"prefix": "/"}}], "to": TO}]}, {}),
    Kind(
        "a route with retry, timeout, breaker and authorization",
        {
            "route": [
                {
                    "match": [{"path": {"prefix": "/"}}],
                    "to": TO,
                    "retry": RETRY,
                    "timeout": {"request": "10s", "idle": "5s"},
                }
            ],
            "policy": POLICY,
        },
        {"failure_accrual": {}},
    ),
)


def guarded(settings: Settings, kinds: Sequence[Kind] = KINDS) -> str:
    """The table of it, over both versions of HTTP."""
    rows = []
    with servers.nginx() as nginx, servers.nghttpd() as nghttpd:
        rows += _rows("HTTP/1.1", kinds, f"http1://127.0.0.1:{nginx.port}", loads.wrk, settings)
        rows += _rows("HTTP/2", kinds, f"h2c://127.0.0.1:{nghttpd.port}", loads.h2load, settings)
    return table(["", "listener", "CPU µs/request", "÷ the first", "failed"], rows)


def _rows(
    protocol: str, kinds: Sequence[Kind], origin: str, load: Callable[..., loads.Load], settings: Settings
) -> list[list[str]]:
    with ExitStack() as stack:
        live = [
            (
                kind,
                stack.enter_context(
                    sidecar(
                        {
                            "listen": {"public": {"bind": "127.0.0.1:0", **kind.listen}},
                            "backend": {"origin": {"endpoints": [origin], **kind.backend}},
                            "admin": {"listen": "off"},
                            **kind.tables,
                        }
                    )
                ),
            )
            for kind in kinds
        ]
        # For each other's sake: short turns, and many of them.
        short = type(settings)(max(1.0, settings.seconds / 2), max(ROUNDS, settings.rounds))
        series = in_turns(live, lambda port: load(port, seconds=short.seconds), short)
    return against_first(protocol, series, _per_request)


def _per_request(sample: Sample) -> float:
    return sample.per_request
