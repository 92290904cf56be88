"""RateLimit, and the algorithm behind it."""

from __future__ import annotations

from meshcore.layers.rate_limit.gcra import Rate
from meshcore.layers.rate_limit.layer import RateLimit
from meshcore.layers.rate_limit.limits import HeaderRate, Override, RateLimits

__all__ = ["HeaderRate", "Override", "Rate", "RateLimit", "RateLimits"]
