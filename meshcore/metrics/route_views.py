"""The ``route_*`` families that linkerd's route dashboards ask for, as sums of what is counted of routes already."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from meshcore.http.classify import GRPC_FAILURES, is_failure
from meshcore.metrics.histogram import LATENCY_MS
from meshcore.metrics.route_requests import DURATIONS

if TYPE_CHECKING:
    from meshcore.metrics.prometheus import Labels
    from meshcore.metrics.registry import Registry

__all__ = ["route_views"]

_PREFIXES = {
    "inbound": ("inbound_http_", "inbound_grpc_"),
    "outbound": ("outbound_http_route_", "outbound_grpc_route_"),
}
_NAMES = {"parent_name": "dst", "route_name": "rt_route", "backend_name": "backend", "http_status": "status_code"}


def route_views(registry: Registry) -> None:
    """Adds ``route_request_total``, ``route_response_total``, ``route_response_latency_ms`` and their
    ``route_actual_*`` kin, with the labels ``direction``, ``dst`` (the route's parent) and ``rt_route``.

    They say nothing that the families of routes do not, and cost nothing but at a scrape.  Three things differ from
    linkerd's: a request counts once it has ended, its latency is until then, and it is classified by its status, unless
    it was said otherwise.
    """
    statuses = {
        f"{prefix}{'statuses_total' if direction == 'inbound' else 'request_statuses_total'}": direction
        for direction, prefixes in _PREFIXES.items()
        for prefix in prefixes
    }
    durations = {
        f"{prefix}request_duration_seconds": direction
        for direction, prefixes in _PREFIXES.items()
        for prefix in prefixes
    }
    tries = {f"{prefix}backend_requests_total": "outbound" for prefix in _PREFIXES["outbound"]}
    answers = {f"{prefix}backend_response_statuses_total": "outbound" for prefix in _PREFIXES["outbound"]}
    registry.view(
        "route_request_total",
        "Total count of HTTP requests by route, once they have ended.",
        {name: partial(_of_route, direction) for name, direction in statuses.items()},
    )
    registry.view(
        "route_response_total",
        "Total count of HTTP responses by route.",
        {name: partial(_of_status, direction) for name, direction in statuses.items()},
    )
    registry.view(
        "route_response_latency_ms",
        "Elapsed times between a request and the end of its response, by route.",
        {name: partial(_of_route, direction) for name, direction in durations.items()},
        buckets=LATENCY_MS,
        of=tuple(bound * 1000.0 for bound in DURATIONS),
        scale=1000.0,
    )
    registry.view(
        "route_actual_request_total",
        "Total count of tries of HTTP requests by route and backend.",
        {name: partial(_renamed, direction) for name, direction in tries.items()},
    )
    registry.view(
        "route_actual_response_total",
        "Total count of responses to tries of HTTP requests by route and backend.",
        {name: partial(_of_status, direction) for name, direction in answers.items()},
    )


def _renamed(direction: str, labels: Labels) -> Labels:
    return (("direction", direction), *((_NAMES.get(name, name), value) for name, value in labels))


def _of_route(direction: str, labels: Labels) -> Labels:
    kept = ("parent_name", "route_name", "overflow")
    return _renamed(direction, tuple([each for each in labels if each[0] in kept]))


def _of_status(direction: str, labels: Labels) -> Labels:
    by_name = dict(labels)
    status, grpc_status, error = (by_name.get(name, "") for name in ("http_status", "grpc_status", "error"))
    failed = (
        (status.isdigit() and is_failure(int(status)))
        or (grpc_status.isdigit() and int(grpc_status) in GRPC_FAILURES)
        or error not in ("", "CANCEL")
    )
    renamed = _renamed(direction, labels)
    if "overflow" in by_name or "classification" in by_name:
        return renamed
    return (*renamed, ("classification", "failure" if failed else "success"))
