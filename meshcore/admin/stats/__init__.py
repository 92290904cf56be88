"""Golden metrics of a running proxy: how many requests, how well, how fast, by route, backend, endpoint and edge."""

from __future__ import annotations

from meshcore.admin.stats.figures import (
    BackendFigures,
    EdgeFigures,
    EndpointFigures,
    Golden,
    ProxyFacts,
    RouteFigures,
    Stats,
)

__all__ = [
    "BackendFigures",
    "EdgeFigures",
    "EndpointFigures",
    "Golden",
    "ProxyFacts",
    "RouteFigures",
    "Stats",
]
