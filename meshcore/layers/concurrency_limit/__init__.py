"""Limits on requests in flight, fixed or found by themselves."""

from __future__ import annotations

from meshcore.http.concurrency import Concurrency, Gradient
from meshcore.layers.concurrency_limit.layer import ConcurrencyLimit, ConcurrencyStatistics

__all__ = ["Concurrency", "ConcurrencyLimit", "ConcurrencyStatistics", "Gradient"]
