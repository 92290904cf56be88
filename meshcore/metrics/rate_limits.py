"""Requests that a rate limit has refused, counted by linkerd's name (R-36)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.metrics.labels import CLIENT_LABELS, client_labels
from meshcore.transport.target import Backend

if TYPE_CHECKING:
    from meshcore.metrics.registry import Counter, Registry
    from meshcore.transport.connection import Connection

__all__ = ["RateLimitCounts"]

_NAMES = (*CLIENT_LABELS, "srv_name", "backend", "ratelimit_kind", "ratelimit_name", "ratelimit_scope")


class RateLimitCounts:
    """``inbound_http_local_ratelimit_total``, or ``outbound_…``, of one limit.

    Args:
        registry: where it is.
        direction: ``"inbound"`` or ``"outbound"``.
        name: of the listener, or the destination, whose limit it is.
    """

    __slots__ = ("_direction", "_family", "_name")

    def __init__(self, registry: Registry, direction: str, name: str) -> None:
        self._direction = direction
        self._name = name
        self._family = registry.counter(
            f"{direction}_http_local_ratelimit_total",
            f"The total number of {direction} HTTP requests that a local rate limit refused.",
            *_NAMES,
        )

    def refused(self, target: object, connection: Connection | None, what: str) -> Counter:
        """The series of a refusal.

        Args:
            target: what the service was made for.
            connection: where the request came from.
            what: the limit: ``"total"``, ``"override"``, ``"per-identity"`` or ``"per-header"``.
        """
        scope = {"total": "total", "per-header": "header"}.get(what, "identity")
        client = ("",) * len(CLIENT_LABELS)
        if self._direction == "inbound" and connection is not None:
            client = client_labels(target, connection)
        backend = target.name if isinstance(target, Backend) and self._direction == "outbound" else ""
        server = self._name if self._direction == "inbound" else ""
        return self._family.labels(*client, server, backend, what, self._name, scope)
