"""When an endpoint is left alone because it fails.  Pure."""

from __future__ import annotations

import attrs

from meshcore.transport.backoff import Backoff

__all__ = ["Accrual"]


@attrs.frozen(cache_hash=True)
class Accrual:
    """When an endpoint's failures take it out, and for how long (B-14 to B-16).  Times in seconds.

    Attributes:
        consecutive: failures in a row that take it out; 0: they do not.
        penalty: how long it is left alone: longer each time in a row, with jitter.
        success_rate: below this share of successes in the window it is taken out; 0: that is not looked at.
        window: how far back the success rate looks; at least 10 ms.
        min_requests: results that have to be in the window before its rate says anything.
        min_ready_endpoints: so many of a backend's endpoints are never taken out, whatever their failures.
        retry_after: whether a penalty lasts at least as long as the endpoint itself has asked for.
        group: the backend whose endpoints *min_ready_endpoints* counts.
    """

    consecutive: int = attrs.field(default=7, validator=attrs.validators.ge(0))
    penalty: Backoff = attrs.field(default=Backoff(1.0, 60.0, 0.5))
    success_rate: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0), attrs.validators.le(1)])
    window: float = attrs.field(default=10.0, validator=attrs.validators.ge(0.01))
    min_requests: int = attrs.field(default=5, validator=[attrs.validators.ge(0), attrs.validators.le(1_000_000)])
    min_ready_endpoints: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    retry_after: bool = True
    group: str = ""

    @property
    def idle(self) -> bool:
        """Whether nothing ever takes an endpoint out."""
        return not self.consecutive and not self.success_rate
