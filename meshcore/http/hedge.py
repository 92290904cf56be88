"""When a second try is begun beside the first one.  Pure."""

from __future__ import annotations

import attrs

__all__ = ["Hedge"]


@attrs.frozen(cache_hash=True)
class Hedge:
    """A second try, beside the first, for requests that take longer than most; the first answer wins.

    Attributes:
        delay: seconds before it; with *percentile*, until enough is known.
        percentile: of the latencies of late that it is begun after, such as 0.95; 0: after *delay*, always.
    """

    delay: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))
    percentile: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0), attrs.validators.lt(1)])
