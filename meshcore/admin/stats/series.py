"""What the series of a registry are about, by their labels; families and labels that are not there are done without."""

from __future__ import annotations

import attrs

from meshcore.http.classify import GRPC_FAILURES

__all__ = ["OVERFLOW", "RouteKey", "Where", "ended", "route", "route_ended", "where"]

_LEFT = ("", "cancelled", "CANCEL")
"""The ``error`` of what did not fail, clients that left early included: that is no failure of what they left."""


@attrs.frozen(cache_hash=True)
class Where:
    """Where requests were counted.

    Attributes:
        direction: ``"inbound"`` or ``"outbound"``; ``""``: there were too many series to tell.
        listener: that took them, where they came in.
        address: that they were meant for.
        client_id: who sent them; ``""``: nobody knows.
        tls, no_tls_reason: as the labels have it.
    """

    direction: str
    listener: str = ""
    address: str = ""
    client_id: str = ""
    tls: str = ""
    no_tls_reason: str = ""


OVERFLOW = Where("")


@attrs.frozen(cache_hash=True)
class RouteKey:
    """Whose route."""

    direction: str
    parent: str
    route: str


def where(labels: dict[str, str]) -> Where:
    """For ``request_total``, ``response_latency_ms`` and those of connections."""
    direction = labels.get("direction", "")
    if not direction or "overflow" in labels:
        return OVERFLOW
    return Where(
        direction,
        labels.get("listener", ""),
        labels.get("target_addr", ""),
        labels.get("client_id", ""),
        labels.get("tls", ""),
        labels.get("no_tls_reason", ""),
    )


def ended(labels: dict[str, str]) -> tuple[Where, bool] | None:
    """For ``response_total``: whether those are failures, as they were classified."""
    classification = labels.get("classification", "")
    if "overflow" in labels or classification not in ("success", "failure"):
        return None
    return where(labels), classification == "failure"


def route(direction: str, labels: dict[str, str]) -> RouteKey | None:
    """For ``inbound_http_requests_total``, ``…_request_duration_seconds`` and their like."""
    parent, name = labels.get("parent_name", ""), labels.get("route_name", "")
    return RouteKey(direction, parent, name) if parent and name and "overflow" not in labels else None


def route_ended(direction: str, labels: dict[str, str]) -> tuple[RouteKey, bool] | None:
    """For ``outbound_http_route_request_statuses_total`` and its like: whether those are failures, by the
    classification where it is told; else by the status and the error (R-20, R-21)."""
    key = route(direction, labels)
    if key is None:
        return None
    classification = labels.get("classification")
    if classification:
        return key, classification == "failure"
    error = labels.get("error", "")
    status = labels.get("http_status") or labels.get("grpc_status") or ""
    number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else -1
    if labels.get("grpc_status"):
        failed = number in GRPC_FAILURES
    else:
        failed = 500 <= number <= 599
    return key, failed or error not in _LEFT
