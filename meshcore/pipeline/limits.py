"""Rate limits as layers take them, made from what the configuration says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.layers.rate_limit import HeaderRate, Override, Rate, RateLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshcore.config import Destination, RateLimitConfig
    from meshcore.transport.target import Backend

__all__ = ["LimitsOf", "limits_of"]


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
    """What may be sent to each destination, by the name of its backend; false if there are no limits at all."""

    def __init__(self, destinations: Mapping[str, Destination]) -> None:
        self._limits = {
            pattern: limits_of(each.rate_limit) for pattern, each in destinations.items() if each.rate_limit is not None
        }

    def __repr__(self) -> str:
        return "by backend"

    def __bool__(self) -> bool:
        return bool(self._limits)

    def __call__(self, backend: Backend) -> RateLimits | None:
        return self._limits.get(backend.name)
