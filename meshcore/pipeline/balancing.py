"""Balancing and health checks as a config file has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.layers.balance import Balancing, ByCookie, ByHeader, BySource, Maglev, PenaltyPeakEwma
from meshcore.layers.health_checks import GrpcCheck, HttpCheck, TcpCheck
from meshcore.transport.health import Health

if TYPE_CHECKING:
    from collections.abc import Hashable

    from meshcore.abc import HealthCheck
    from meshcore.config import BackendConfig
    from meshcore.config.balancing import BalanceConfig, HashConfig, HealthCheckConfig
    from meshcore.layers.balance import HashBy
    from meshcore.layers.balance.balancing import PolicyName
    from meshcore.layers.balance.ready import Policy

__all__ = ["balancing_of", "health_of"]


def balancing_of(config: BackendConfig, zone: str = "") -> Hashable:
    """How a destination or a backend is balanced: what ``Balance`` takes as a policy.

    Args:
        config: its table.
        zone: this proxy's own.
    """
    told, near = config.balance, config.zone_aware
    zoned = near is not None and bool(zone)
    return Balancing(
        policy=_policy(told),
        load=PenaltyPeakEwma(penalty=told.penalty, max_retry_after=told.max_retry_after)
        if told.policy == "p2c-penalty-ewma"
        else None,
        zone=zone if zoned else "",
        zone_enough=near.enough if near is not None else 0.7,
        zone_spill_over=near.spill_over if near is not None else 100,
        slow_start=told.slow_start,
        panic=told.panic,
    )


def _policy(told: BalanceConfig) -> PolicyName | Policy:
    if told.policy != "maglev":
        return told.policy
    assert told.hash is not None
    return Maglev(_hash_by(told.hash))


def _hash_by(told: HashConfig) -> HashBy:
    if told.header is not None:
        return ByHeader(told.header.encode())
    return BySource() if told.cookie is None else ByCookie(told.cookie.encode())


def health_of(told: HealthCheckConfig | None, *, requests: bool) -> Health | None:
    """How endpoints are checked.

    Args:
        told: the table; None: they are not.
        requests: whether they take requests; if not, they are connected to.
    """
    if told is None:
        return None
    check: HealthCheck = TcpCheck()
    if told.path is not None and requests:
        check = HttpCheck(told.path, told.host or "")
    elif told.grpc is not None and requests:
        check = GrpcCheck(told.grpc, told.host or "")
    return Health(check, told.interval, told.timeout, told.healthy, told.unhealthy)
