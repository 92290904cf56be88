"""Retries: when, how often, and within which budget."""

from __future__ import annotations

from meshcore.http.hedge import Hedge
from meshcore.layers.retry.budget import Budget
from meshcore.layers.retry.layer import Retry
from meshcore.layers.retry.statistics import RetryStatistics

__all__ = ["Budget", "Hedge", "Retry", "RetryStatistics"]
