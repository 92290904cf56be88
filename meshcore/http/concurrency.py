"""How many requests may be in flight at once.  Pure."""

from __future__ import annotations

import attrs

__all__ = ["Concurrency", "Gradient"]


@attrs.frozen(cache_hash=True)
class Gradient:
    """Finds the limit by itself: it grows for as long as latency stays what it was, and shrinks when it rises
    (Netflix's gradient; Envoy's filter of adaptive concurrency does the same by other means).

    Attributes:
        initial: requests in flight at first.
        minimum: the lowest limit.
        tolerance: how much higher than usual latency may be before the limit shrinks, as a factor.
        smoothing: the part of each step that is taken.
        window: seconds between steps.
        samples: requests in a window that it takes for a step.
    """

    initial: int = attrs.field(default=20, validator=attrs.validators.ge(1))
    minimum: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    tolerance: float = attrs.field(default=1.5, validator=attrs.validators.ge(1))
    smoothing: float = attrs.field(default=0.2, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    window: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    samples: int = attrs.field(default=10, validator=attrs.validators.ge(1))


@attrs.frozen(cache_hash=True)
class Concurrency:
    """A limit on requests in flight, and what becomes of those that are too many.

    Attributes:
        limit: requests in flight at the most (B-12: 100 000).
        wait: seconds that a request may wait for its turn; 0: it is refused at once.
        waiting: requests that may wait; more are refused.
        adaptive: finds the limit by itself, up to *limit*; None: it is *limit*.
    """

    limit: int = attrs.field(default=100_000, validator=attrs.validators.ge(1))
    wait: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    waiting: int = attrs.field(default=1_000, validator=attrs.validators.ge(0))
    adaptive: Gradient | None = None
