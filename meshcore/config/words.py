"""Words that have the same meaning on every command line and in every config file."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "ACCESS_LOGS",
    "BALANCERS",
    "ENGINES",
    "OPAQUE_PORTS",
    "POLICIES",
    "PROTOCOLS",
    "AccessLog",
    "Balancer",
    "Engine",
    "Policy",
    "Protocol",
]

Balancer: TypeAlias = Literal["p2c-ewma", "p2c-penalty-ewma", "round-robin", "least-request"]
Engine: TypeAlias = Literal["auto", "pure"]
AccessLog: TypeAlias = Literal["off", "text", "json", "apache", "linkerd-json"]
Policy: TypeAlias = Literal[
    "all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "cluster-authenticated", "audit", "deny"
]
Protocol: TypeAlias = Literal["http", "http1", "h2c", "https", "tcp"]

BALANCERS: tuple[Balancer, ...] = ("p2c-ewma", "p2c-penalty-ewma", "round-robin", "least-request")
ENGINES: tuple[Engine, ...] = ("auto", "pure")
ACCESS_LOGS: tuple[AccessLog, ...] = ("off", "text", "json", "apache", "linkerd-json")
POLICIES: tuple[Policy, ...] = (
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "audit",
    "deny",
)
"""Who may call, where nothing more special says so; linkerd's names (R-33)."""
PROTOCOLS: tuple[Protocol, ...] = ("http", "http1", "h2c", "https", "tcp")
"""What is spoken to an endpoint: the schemes of ``--to``."""
OPAQUE_PORTS = frozenset({25, 587, 3306, 4444, 5432, 6379, 9300, 11211})
"""Ports whose protocols let the server speak first, as linkerd lists them (D-15)."""
