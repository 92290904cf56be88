"""Backends and endpoints as targets, made from what the configuration says of them."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

from meshcore.codec.transport_header import ALPN, TransportHeader
from meshcore.errors import ConfigError
from meshcore.http.classification import Classification
from meshcore.http.concurrency import Concurrency, Gradient
from meshcore.http.hedge import Hedge
from meshcore.http.retry_on import RetryOn
from meshcore.http.timeouts import Timeouts
from meshcore.layers.retry import Budget, Retry
from meshcore.pipeline.balancing import balancing_of, health_of
from meshcore.transport.accrual import Accrual
from meshcore.transport.backoff import Backoff
from meshcore.transport.target import Backend, Endpoint, RequestPolicy, TlsClient

if TYPE_CHECKING:
    from pathlib import Path

    from meshcore.config import BackendConfig, ClientTls, EndpointConfig, MeshConfig, RetryConfig, TimeoutConfig
    from meshcore.config.concurrency import ConcurrencyConfig
    from meshcore.config.failures import ClassifyConfig
    from meshcore.metrics.registry import Registry

__all__ = [
    "backend_of",
    "budget_of",
    "classification_of",
    "concurrency_of",
    "own_zone",
    "request_policy",
    "retrying",
]

_PROTOCOLS = {"http": "http", "http1": "http/1", "h2c": "h2", "https": "http", "tcp": "opaque"}
_ALPN = {"http": ("h2", "http/1.1"), "https": ("h2", "http/1.1"), "h2c": ("h2",), "http1": ("http/1.1",), "tcp": ()}


def backend_of(
    name: str,
    config: BackendConfig,
    *,
    retry: RetryConfig,
    timeout: TimeoutConfig,
    opaque: bool = False,
    zone: str = "",
    overrides: bool = False,
    concurrency: ConcurrencyConfig | None = None,
) -> Backend:
    """The target that a table of the configuration describes.

    Args:
        name: the table's: for a destination the authority that the application uses.
        config: the table.
        retry: how requests to it are tried again.
        timeout: limits of its exchanges.
        opaque: for bytes that were not detected to be HTTP, whatever is spoken there otherwise.
        zone: this proxy's own.
        overrides: whether requests may ask for retries and limits of their own.
        concurrency: how many of them may be in flight.

    Raises:
        ConfigError: a file that it names cannot be read.
    """
    template = _endpoint(name, config, None, opaque)
    return Backend(
        name,
        tuple(_endpoint(name, config, each, opaque) for each in config.endpoints),
        config.discover,
        template=template,
        balance=balancing_of(config, zone),
        **request_policy(
            retry,
            timeout,
            classification=classification_of(config.classify),
            overrides=overrides,
            concurrency=concurrency_of(concurrency),
        ),
    )


def concurrency_of(config: ConcurrencyConfig | None) -> Concurrency | None:
    """How many requests may be in flight; None: as many as there are."""
    if config is None:
        return None
    adaptive = None
    if config.adaptive:
        minimum = min(config.minimum, config.limit)
        adaptive = Gradient(initial=max(minimum, min(20, config.limit)), minimum=minimum)
    return Concurrency(config.limit, config.wait, config.waiting, adaptive)


def classification_of(config: ClassifyConfig) -> Classification | None:
    """What counts as a failure; None: as by default."""
    found = Classification.of(config.status, config.grpc)
    return None if found == Classification() else found


def _accrual(name: str, config: BackendConfig) -> Accrual | None:
    accrual = config.failure_accrual
    if accrual is None:
        return None
    low, high = accrual.penalty
    return Accrual(
        consecutive=accrual.consecutive,
        penalty=Backoff(low, high, accrual.jitter),
        success_rate=accrual.success_rate,
        window=accrual.window,
        min_requests=accrual.min_requests,
        min_ready_endpoints=accrual.min_ready_endpoints,
        retry_after=accrual.retry_after,
        group=name,
    )


def request_policy(retry: RetryConfig, timeout: TimeoutConfig, **more: Any) -> dict[str, Any]:
    """The fields of a ``RequestPolicy`` that the tables *retry* and *timeout* describe, and *more* of them."""
    limits = Timeouts(request=timeout.request, response=timeout.response, idle=timeout.idle)
    return {
        "retries": retry.limit,
        "retry_ratio": retry.budget,
        "replay": retry.replay,
        "timeouts": None if limits == Timeouts() else limits,
        "retry_on": RetryOn.of(retry.on),
        "timeout": retry.timeout,
        "backoff": None if retry.backoff is None else Backoff(*retry.backoff, 1.0),
        "hedge": None if retry.hedge is None else Hedge(retry.hedge.after, retry.hedge.percentile),
        **more,
    }


def own_zone(config: MeshConfig) -> str:
    """Where this proxy runs; ``""`` if that is not said."""
    return (config.service.zone or "") if config.service is not None else ""


class _BudgetOf:
    """What retries may add to the load of a backend, or of a route."""

    def __repr__(self) -> str:
        return "by backend"

    def __call__(self, target: RequestPolicy) -> Budget:
        return Budget(ratio=target.retry_ratio)


budget_of = _BudgetOf()


def retrying(registry: Registry) -> Retry:
    """The layer that tries again as its target says."""
    return Retry(
        attrgetter("retries"),
        budget_of,
        attrgetter("replay"),
        on=attrgetter("retry_on"),
        backoff=attrgetter("backoff"),
        try_timeout=attrgetter("timeout"),
        hedge=attrgetter("hedge"),
        overrides=attrgetter("overrides"),
        registry=registry,
    )


def _endpoint(name: str, config: BackendConfig, endpoint: EndpointConfig | None, opaque: bool) -> Endpoint:
    """One endpoint; None: what discovery finds, whose address is still to come."""
    address = ("", 0) if endpoint is None else endpoint.address
    spoken = config.protocol if endpoint is None or endpoint.protocol is None else endpoint.protocol
    identity = config.identity if endpoint is None or endpoint.identity is None else endpoint.identity
    if opaque and spoken != "https":
        spoken = "tcp"
    found = Endpoint(
        address,
        _PROTOCOLS[spoken],
        weight=1.0 if endpoint is None else endpoint.weight,
        zone="" if endpoint is None else endpoint.zone or "",
        health=health_of(config.health_check, requests=spoken != "tcp"),
        failure_accrual=None if spoken == "tcp" else _accrual(name, config),
    )
    if identity is None:
        if spoken != "https":
            return found
        return attrs.evolve(found, tls=_public(config.tls, address[0]))
    server_name = config.server_name or ("" if "://" in identity else identity)
    if not config.meshed:
        tls = TlsClient(server_name, _ALPN[spoken], identity=identity, mesh=True)
        return attrs.evolve(found, tls=tls)
    if spoken == "tcp":
        # Bytes do not say where they belong, so the other proxy is told (D-20).
        tls = TlsClient(server_name, (ALPN,), identity=identity, mesh=True)
        return attrs.evolve(found, tls=tls, transport_header=TransportHeader(_port(name) or address[1] or 1))
    # Between proxies HTTP/2 is known, not negotiated (D-08).
    return attrs.evolve(found, tls=TlsClient(server_name, (), identity=identity, mesh=True), mesh_proxy=True)


def _public(tls: ClientTls | None, host: str) -> TlsClient:
    if tls is None:
        return TlsClient(host)
    anchors = None if tls.trust_anchors is None else _read(tls.trust_anchors)
    return TlsClient(tls.server_name or host, trust_anchors=anchors, verify=tls.verify)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}"]) from error


def _port(authority: str) -> int | None:
    """The port of an authority; None without one."""
    _, colon, port = authority.rpartition(":")
    return int(port) if colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536 else None
