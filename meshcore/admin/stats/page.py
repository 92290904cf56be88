"""The pages that tell figures: ``/stats`` and ``/endpoints``."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import trio

from meshcore.admin.page import JSON, method_not_allowed, response_of, text_page
from meshcore.admin.question import asked, seconds
from meshcore.admin.render import config_value

if TYPE_CHECKING:
    from meshcore.abc import HttpService
    from meshcore.admin.stats.sampler import Sampler
    from meshcore.http.message import Request, Response

__all__ = ["MOST_ENDPOINTS", "encoded", "endpoints_page", "endpoints_value", "stats_page"]

MOST_ENDPOINTS = 5_000
"""Endpoints told at ``/endpoints`` at the most."""

_WINDOW = 10.0
_PIECE = 100


def stats_page(sampler: Sampler) -> HttpService:
    """``GET /stats?window=10``: the golden metrics of the last seconds."""

    async def stats(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        text = asked(request).get("window", str(_WINDOW))
        window = seconds(text)
        if window is None:
            return text_page(400, f"window={text[:50]!r} is not a number of seconds\n")
        found = await sampler.stats(window)
        return response_of(200, JSON, await encoded(found.value()))

    return stats


def endpoints_page(sampler: Sampler) -> HttpService:
    """``GET /endpoints``: what balancers know of their endpoints."""

    async def endpoints(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        return response_of(200, JSON, await encoded(await endpoints_value(sampler)))

    return endpoints


async def endpoints_value(sampler: Sampler) -> dict[str, Any]:
    """What ``/endpoints`` tells."""
    connections: dict[str, int] = defaultdict(int, await sampler.connections())
    backends: list[dict[str, Any]] = []
    room = MOST_ENDPOINTS
    more = 0
    for backend in await sampler.backends():
        told = backend.told
        shown = backend.endpoints[:room]
        room -= len(shown)
        more += len(backend.endpoints) - len(shown)
        backends.append(
            {
                "backend": backend.name,
                "direction": backend.direction,
                "listener": backend.listener,
                "policy": told.policy,
                "ready": backend.ready(),
                "waiting": told.waiting,
                "fail_fast": told.fail_fast,
                "panic": told.panic,
                "discovered": told.discovered,
                "discovery": config_value(told.discovery),
                "retry_budget": None if backend.retry_budget is None else round(backend.retry_budget, 4),
                "endpoints": [each.value(connections[each.address]) for each in shown],
            }
        )
        await trio.lowlevel.checkpoint()
    return {"backends": backends, "more": more}


async def encoded(value: dict[str, Any]) -> bytes:
    """JSON on one line; long lists in pieces, so that others have their turn."""
    parts = []
    for name, item in value.items():
        if isinstance(item, list) and len(item) > _PIECE:
            pieces = []
            for start in range(0, len(item), _PIECE):
                await trio.lowlevel.checkpoint()
                pieces.append(_json(item[start : start + _PIECE])[1:-1])
            text = f"[{','.join(pieces)}]"
        else:
            text = _json(item)
        parts.append(f"{_json(name)}:{text}")
    # What is no character becomes an escape, which JSON has, too.
    return f"{{{','.join(parts)}}}\n".encode(errors="backslashreplace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
