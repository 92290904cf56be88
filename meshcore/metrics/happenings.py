"""What happens, in words: the kinds that a feed is told of, and the sentence for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshcore.metrics.feed import Feed

__all__ = [
    "KINDS",
    "tell_backend",
    "tell_breaker",
    "tell_certificate",
    "tell_config",
    "tell_discovery",
    "tell_drain",
    "tell_endpoint",
    "tell_endpoints",
    "tell_health",
    "tell_panic",
    "tell_ready",
]

KINDS: Final = {
    "proxy_ready": "the proxy accepts",
    "drain_started": "no new connections are taken, what is in flight is finished",
    "drain_ended": "nothing is in flight any more; the process ends",
    "config_applied": "a reload has changed what runs",
    "config_refused": "a reload has failed, and changed nothing",
    "identity_certified": "the first certificate is there",
    "certificate_renewed": "another certificate is in use from now on",
    "certificate_refused": "what the source of certificates has cannot be used; the old one stays",
    "certificate_expiring": "the certificate has less than a tenth of its life left",
    "certificate_expired": "the certificate is not valid any more",
    "endpoint_added": "discovery names an endpoint that it did not name before",
    "endpoint_removed": "discovery does not name it any more; it finishes what it has in flight",
    "endpoint_out": "an endpoint cannot be connected; it is probed until it can",
    "endpoint_back": "it is connected again",
    "breaker_tripped": "an endpoint has failed too often, and is left alone for a while",
    "breaker_probation": "its penalty is over: one request shows whether it is well",
    "breaker_recovered": "it is, and takes requests again",
    "health_failed": "health checks say that an endpoint is not well",
    "health_recovered": "they say that it is well again",
    "backend_unavailable": "no endpoint has been ready for so long that requests fail at once",
    "backend_available": "one is ready again",
    "panic_started": "so few endpoints are well that the others are used as well",
    "panic_ended": "enough are well again",
    "discovery_lost": "a backend's endpoints cannot be found out; those known before stay",
    "discovery_found": "they can again",
}
"""Each kind with what it means; a kind that is not here is none."""

SEVERAL: Final = 20
"""Endpoints that are added or removed at once are told one by one, unless they are more."""


def tell_ready(feed: Feed, addresses: str) -> None:
    """The proxy accepts at *addresses*."""
    feed.tell("proxy_ready", f"ready at {addresses}")


def tell_drain(feed: Feed, reason: str | None) -> None:
    """The drain has started for *reason*; None: it has ended."""
    if reason is None:
        feed.tell("drain_ended", "drained: nothing is in flight")
    else:
        feed.tell("drain_started", f"drain started{f': {reason}' if reason else ''}", reason=reason)


def tell_config(feed: Feed | None, version: int, changes: str, problems: Sequence[str], cause: str) -> None:
    """A reload has changed something, or failed with *problems*."""
    if feed is None:
        return
    if not problems:
        text = f"config v{version}: {changes or 'files that it names'}"
        feed.tell("config_applied", text, version=str(version), cause=cause)
        return
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    feed.tell(
        "config_refused",
        f"config refused, v{version} stays: {problems[0]}{more}",
        version=str(version),
        cause=cause,
    )


def tell_certificate(feed: Feed | None, kind: str, identity: str, text: str) -> None:
    """Something about the proxy's own certificate: ``identity_certified``, ``certificate_…``."""
    if feed is not None:
        feed.tell(kind, f"identity {identity or 'any'}: {text}", identity=identity)


def tell_endpoints(
    feed: Feed | None, backend: str, added: Sequence[object], removed: Sequence[object], *, first: bool = False
) -> None:
    """Discovery names other endpoints; many of them, or the *first* ones, are told in one sentence."""
    if feed is None:
        return
    for kind, what, endpoints in (("endpoint_removed", "removed", removed), ("endpoint_added", "added", added)):
        if len(endpoints) > SEVERAL or (first and len(endpoints) > 1):
            count = str(len(endpoints))
            feed.tell(kind, f"backend {backend}: {count} endpoints {what}", backend=backend, count=count)
            continue
        for endpoint in endpoints:
            text = f"backend {backend}: endpoint {endpoint} {what}"
            feed.tell(kind, text, backend=backend, endpoint=str(endpoint))


def tell_endpoint(feed: Feed | None, backend: str, endpoint: object, error: BaseException | None) -> None:
    """One cannot be connected because of *error*; None: it is connected again."""
    if feed is None:
        return
    kind, text = "endpoint_out", f"cannot be connected: {error}"
    if error is None:
        kind, text = "endpoint_back", "is connected again"
    feed.tell(kind, f"endpoint {endpoint} {text}", backend=backend, endpoint=str(endpoint))


def tell_breaker(feed: Feed | None, state: str, backend: str, endpoint: object, text: str) -> None:
    """A breaker has ``tripped``, is on ``probation``, or has ``recovered``."""
    if feed is not None:
        feed.tell(f"breaker_{state}", f"endpoint {endpoint} {text}", backend=backend, endpoint=str(endpoint))


def tell_health(feed: Feed | None, endpoint: object, error: str | None) -> None:
    """Health checks say that an endpoint is not well because of *error*; None: it is well again."""
    if feed is None:
        return
    if error is None:
        feed.tell("health_recovered", f"endpoint {endpoint} is healthy again", endpoint=str(endpoint))
    else:
        feed.tell("health_failed", f"endpoint {endpoint} is not healthy: {error}", endpoint=str(endpoint))


def tell_backend(feed: Feed | None, backend: str, *, available: bool) -> None:
    """No endpoint has been ready for long, or one is again."""
    if feed is None:
        return
    if available:
        feed.tell("backend_available", f"backend {backend}: an endpoint is ready again", backend=backend)
    else:
        text = f"backend {backend}: no endpoint is ready, requests fail at once"
        feed.tell("backend_unavailable", text, backend=backend)


def tell_panic(feed: Feed | None, backend: str, ready: int, *, panicking: bool) -> None:
    """Busy endpoints are used as well, or are not any more."""
    if feed is None:
        return
    if panicking:
        text = f"backend {backend}: panic, only {ready} endpoints are well, so all are used"
        feed.tell("panic_started", text, backend=backend)
    else:
        feed.tell("panic_ended", f"backend {backend}: enough endpoints are well again", backend=backend)


def tell_discovery(feed: Feed | None, backend: str, source: str, problem: str | None) -> None:
    """The endpoints of a backend cannot be found out because of *problem*; None: they can again."""
    if feed is None:
        return
    if problem is None:
        feed.tell("discovery_found", f"backend {backend}: {source} is found again", backend=backend)
    else:
        feed.tell("discovery_lost", f"backend {backend}: {source}: {problem}", backend=backend)
