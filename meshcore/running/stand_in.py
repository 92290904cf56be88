"""A stand-in for the sampler of ``/stats``, until that is there: totals from the metrics, endpoints from the stacks."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.proxy import Proxy

__all__ = ["stand_in"]


def stand_in(proxy: Proxy) -> Callable[[int], Awaitable[dict[str, Any]]]:
    """What gives a value of the shape that ``/stats`` has."""
    began = trio.current_time()
    last: dict[str, Any] = {"at": began, "inbound": 0.0, "outbound": 0.0}

    def totals() -> dict[str, float]:
        found = {"inbound": 0.0, "outbound": 0.0}
        for family in proxy.registry.families():
            if family.name == "request_total":
                for labels, cell in family.series():
                    direction = dict(labels).get("direction", "inbound")
                    found[direction] = found.get(direction, 0.0) + cell.value
        return found

    async def stats(window: int) -> dict[str, Any]:
        now, counted = trio.current_time(), totals()
        over = max(now - last["at"], 0.001)
        golden = {
            name: {
                "requests": int(value - last[name]),
                "rps": (value - last[name]) / over,
                "success": None,
                "p50": None,
                "p95": None,
                "p99": None,
            }
            for name, value in counted.items()
        }
        last.update(counted, at=now)
        return {
            "time": proxy.feed.now() if proxy.feed is not None else 0.0,
            "window": over,
            "proxy": {
                "name": "gateway",
                "namespace": "",
                "identity": proxy.identity.name if proxy.identity is not None else None,
                "version": metadata.version("meshcore-sidecar"),
                "state": "draining" if proxy.drain.started else "ready" if proxy.serving else "waiting",
                "uptime": now - began,
            },
            "total": golden,
            "routes": [],
            "backends": [],
            "endpoints": [],
            "edges": [],
            "more": {},
        }

    return stats
