"""Requests that a rate limit has refused, counted by linkerd's name (R-36)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.metrics.labels import CLIENT_LABELS, client_labels
from meshcore.transport.target import Backend, HttpRoute

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry
    from meshcore.transport.connection import Connection

__all__ = ["RateLimitCounts"]

_NOBODY = ("",) * len(CLIENT_LABELS)
_NAMES = (
    *CLIENT_LABELS,
    "srv_name",
    "backend",
    "route_name",
    "ratelimit_kind",
    "ratelimit_name",
    "ratelimit_scope",
)


class RateLimitCounts:
    """``inbound_http_local_ratelimit_total``, or ``outbound_…``.

    Args:
        registry: where it is.
        direction: ``"inbound"`` or ``"outbound"``.
    """

    __slots__ = ("_direction", "_family")

    def __init__(self, registry: Registry, direction: str) -> None:
        self._direction = direction
        self._family = registry.counter(
            f"{direction}_http_local_ratelimit_total",
            f"The total number of {direction} HTTP requests that a local rate limit refused.",
            *_NAMES,
        )

    def refused(self, target: object, connection: Connection | None, what: str, name: str = "") -> Counter:
        """The series of a refusal.

        Args:
            target: what the service was made for.
            connection: where the request came from.
            what: the limit: ``"total"``, ``"override"``, ``"per-identity"`` or ``"per-header"``.
            name: whose limit it is.
        """
        scope = {"total": "total", "per-header": "header"}.get(what, "identity")
        route = target.name if isinstance(target, HttpRoute) else ""
        if self._direction == "outbound":
            backend = ""
            if isinstance(target, HttpRoute | Backend):
                backend = target.parent if isinstance(target, HttpRoute) else target.name
            return self._family.labels(*_NOBODY, "", backend, route, what, name, scope)
        client = _NOBODY if connection is None else client_labels(target, connection)
        return self._family.labels(*client, name.partition("/")[0], "", route, what, name, scope)
