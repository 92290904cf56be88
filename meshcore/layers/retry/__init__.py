"""Retries: when, how often, and within which budget."""

from __future__ import annotations

from meshcore.layers.retry.budget import Budget
from meshcore.layers.retry.layer import Retry, RetryStatistics

__all__ = ["Budget", "Retry", "RetryStatistics"]
