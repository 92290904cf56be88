"""What there is to choose about the balancing of one backend."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from meshcore.layers.balance.load import Load, PenaltyPeakEwma, Pending
from meshcore.layers.balance.p2c import P2c
from meshcore.layers.balance.ready import Policy
from meshcore.layers.balance.round_robin import RoundRobin
from meshcore.layers.balance.zoned import Zoned

__all__ = ["POLICIES", "Balancing", "PolicyName", "known_policy"]

PolicyName: TypeAlias = Literal["p2c-ewma", "round-robin", "least-request", "p2c-penalty-ewma"]

POLICIES: dict[str, Policy] = {
    "p2c-ewma": P2c(),
    "round-robin": RoundRobin(),
    "least-request": P2c(tolerance=1.0),
    "p2c-penalty-ewma": P2c(),
}
"""The policies that have names."""

# What these names say of load, whatever the layer says.
_LOADS: dict[str, Load] = {"least-request": Pending(), "p2c-penalty-ewma": PenaltyPeakEwma()}


def known_policy(owner: object, attribute: object, value: object) -> None:
    """A validator: a policy's name has to be one of :data:`POLICIES`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, str) and value not in POLICIES:
        raise ValueError(f"unknown policy {value!r}; the policies are: {', '.join(POLICIES)}")


@attrs.frozen
class Balancing:
    """How one backend is balanced.

    Attributes:
        policy: who gets a request: a policy, or its name.
        load: how load is measured; None: as the policy's name says, or else the layer.
        zone: the own zone, whose endpoints are preferred; ``""``: all are alike.
        zone_enough, zone_spill_over: see :class:`Zoned`.
        slow_start: seconds in which the share of an endpoint that has become ready grows to its own, from a tenth of
            it; 0: at once.
        panic: the part of the endpoints that has to be ready and open; with fewer, those that are busy
            (:class:`~meshcore.abc.Status`: a health check fails, for instance) get requests as well, since
            what is left would be overrun.  0: never.
    """

    policy: PolicyName | Policy = attrs.field(default="p2c-ewma", validator=known_policy)
    load: Load | None = None
    zone: str = ""
    zone_enough: float = attrs.field(default=0.7, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    zone_spill_over: int | None = 100
    slow_start: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    panic: float = attrs.field(default=0.5, validator=[attrs.validators.ge(0), attrs.validators.le(1)])

    @classmethod
    def of(cls, chosen: PolicyName | Policy | Balancing) -> Balancing:
        """Whatever may be said of it, as one of these."""
        return chosen if isinstance(chosen, Balancing) else cls(chosen)

    def picking(self) -> Policy:
        """The policy itself."""
        policy = POLICIES[self.policy] if isinstance(self.policy, str) else self.policy
        return Zoned(policy, self.zone, self.zone_enough, self.zone_spill_over) if self.zone else policy

    def measuring(self, default: Load) -> Load:
        """How load is measured; *default* where nothing is said of it."""
        if self.load is not None:
            return self.load
        named = _LOADS.get(self.policy) if isinstance(self.policy, str) else None
        return default if named is None else named
