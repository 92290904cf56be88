"""What the sampler asks of a running proxy."""

from __future__ import annotations

from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING

import trio

from meshcore.admin.stats import ProxyFacts
from meshcore.admin.stats.rows import Known
from meshcore.admin.stats.series import RouteKey
from meshcore.config import MeshConfig
from meshcore.pipeline.routes import DEFAULT, plain_hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshcore.metrics.registry import Registry
    from meshcore.proxy import Proxy

__all__ = ["SampledProxy"]


class SampledProxy:
    """A proxy as the sampler sees it: :class:`meshcore.admin.stats.sampler.Sampled`.

    Args:
        proxy: which one.
        services: the live services that balancers stand under, with their pipeline's name.
        clock: seconds since the epoch.
    """

    def __init__(
        self, proxy: Proxy, services: Callable[[], list[tuple[str, object]]], clock: Callable[[], float]
    ) -> None:
        self.registry: Registry = proxy.registry
        self.services = services
        self.time = clock
        self.crashed = proxy.crashed
        self._proxy = proxy
        self._began = trio.current_time()

    @cached_property
    def _version(self) -> str:
        return metadata.version("meshcore-sidecar")

    def facts(self) -> ProxyFacts:
        """See :class:`~meshcore.admin.stats.sampler.Sampled`."""
        proxy = self._proxy
        service = proxy.config.service if isinstance(proxy.config, MeshConfig) else None
        state = "draining" if proxy.drain.started else "ready" if proxy.serving else "waiting"
        return ProxyFacts(
            name="gateway" if service is None else service.name,
            namespace="" if service is None else service.namespace,
            identity=None if proxy.identity is None else proxy.identity.name or None,
            version=self._version,
            state=state,
            uptime=trio.current_time() - self._began,
        )

    def known(self) -> Known:
        """See :class:`~meshcore.admin.stats.sampler.Sampled`."""
        proxy = self._proxy
        config = proxy.config
        identity = None if proxy.identity is None else proxy.identity.name or None
        bound = proxy.listeners
        admin = frozenset(() if proxy.admin is None else (port for _, port in proxy.admin.addresses))
        if not isinstance(config, MeshConfig):
            return Known(
                name="gateway",
                listeners=_ports(bound, frozenset(bound)),
                gateways=frozenset(bound),
                secured=frozenset(bound) if config.tls is not None else frozenset(),
                admin=admin,
            )
        service = config.service
        destinations = () if config.outbound is None else config.outbound.to
        return Known(
            name=identity or "gateway" if service is None else f"{service.name}.{service.namespace}",
            identity=identity,
            listeners=_ports(bound, frozenset({"inbound", *config.listen})),
            gateways=frozenset(config.listen).difference(destinations),
            secured=frozenset(name for name, each in config.listen.items() if each.tls is not None),
            routes=tuple(_routes(config)),
            admin=admin,
        )


def _ports(bound: dict[str, tuple[tuple[str, int], ...]], names: frozenset[str]) -> dict[int, str]:
    return {port: name for name, addresses in bound.items() if name in names for _, port in addresses}


def _routes(config: MeshConfig) -> Iterator[RouteKey]:
    """The routes that are counted, as the pipelines name them."""
    if config.inbound is not None:
        for index, incoming in enumerate(config.inbound.route):
            yield RouteKey("inbound", "inbound", incoming.name or f"route-{index}")
    if config.outbound is not None:
        for name, destination in config.outbound.to.items():
            for index, route in enumerate(destination.route):
                yield RouteKey("outbound", name, route.name or f"route-{index}")
            if not destination.route and not destination.opaque:
                yield RouteKey("outbound", name, DEFAULT)
    for name, gate in config.listen.items():
        if any(each.routes for each in gate.policy) or plain_hosts(gate) is None:
            for index, each in enumerate(gate.route):
                yield RouteKey("inbound", name, each.name or f"route-{index}")
            if gate.to:
                yield RouteKey("inbound", name, DEFAULT)
