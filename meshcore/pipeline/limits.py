"""Rate limits as layers take them, made from what the configuration says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.layers.rate_limit import HeaderRate, Override, Rate, RateLimit, RateLimits
from meshcore.transport.target import HttpRoute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meshcore.config import (
        Destination,
        DestinationRoute,
        Gateway,
        GatewayRoute,
        Inbound,
        InboundRoute,
        RateLimitConfig,
    )
    from meshcore.pipeline.runtime import Runtime
    from meshcore.transport.target import Backend

__all__ = ["LimitsOf", "limits_of", "route_limits"]


def limits_of(config: RateLimitConfig) -> RateLimits:
    """The limits that a table of the configuration describes."""
    header = config.per_header
    return RateLimits(
        total=None if config.rps is None else _rate(config),
        per_identity=None if config.per_identity is None else _rate(config.per_identity),
        overrides=tuple(Override(each.identities, _rate(each)) for each in config.overrides),
        per_header=None if header is None else HeaderRate(header.name.encode(), _rate(header)),
        max_keys=config.max_keys,
    )


def _rate(told: Any) -> Rate:
    return Rate(told.rps) if told.burst is None else Rate(told.rps, told.burst)


class LimitsOf:
    """What may be sent to each destination, by its name; false if there are no limits at all.

    The routes of one destination share its limits: they are given the same object.
    """

    def __init__(self, destinations: Mapping[str, Destination], name: str = "") -> None:
        """*name* instead of the destinations' patterns, where there is one."""
        self._limits = {
            name or pattern: limits_of(each.rate_limit)
            for pattern, each in destinations.items()
            if each.rate_limit is not None
        }

    def __repr__(self) -> str:
        return "by destination"

    def __bool__(self) -> bool:
        return bool(self._limits)

    def __call__(self, target: Backend | HttpRoute) -> RateLimits | None:
        return self._limits.get(target.parent if isinstance(target, HttpRoute) else target.name)


class _LimitsOfRoutes:
    """What each route lets in, by its parent and its name."""

    def __init__(self, limits: Mapping[tuple[str, str], RateLimits]) -> None:
        self._limits = limits

    def __repr__(self) -> str:
        return "by route"

    def __call__(self, route: HttpRoute) -> RateLimits | None:
        return self._limits.get((route.parent, route.name))


def _named(route: HttpRoute) -> str:
    return f"{route.parent}/{route.name}"


def route_limits(
    sides: Mapping[str, Destination] | Mapping[str, Gateway] | Mapping[str, Inbound],
    runtime: Runtime,
    name: str = "",
    *,
    direction: str = "outbound",
) -> RateLimit | None:
    """The layer with the limits of the routes of some sides; None without any.

    Args:
        sides: whose routes they are, by name.
        runtime: what the process gives.
        name: instead of theirs, where there is one.
        direction: of the metrics.
    """
    limits: dict[tuple[str, str], RateLimits] = {}
    for parent, side in sides.items():
        routes: Sequence[DestinationRoute | GatewayRoute | InboundRoute] = side.route
        for index, route in enumerate(routes):
            if route.rate_limit is not None:
                limits[(name or parent, route.name or f"route-{index}")] = limits_of(route.rate_limit)
    if not limits:
        return None
    return RateLimit(
        _LimitsOfRoutes(limits), runtime.registry, direction=direction, name="route_rate_limit", of=_named
    )
