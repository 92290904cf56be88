"""Metrics: cells that are plain attributes, families that bound them, and the text of a scrape."""

from __future__ import annotations

from meshcore.metrics.histogram import LATENCY_MS, Histogram
from meshcore.metrics.process import crashes_total, h2_abuse_closed_total, process_metrics
from meshcore.metrics.registry import Counter, Family, Gauge, Registry

__all__ = [
    "LATENCY_MS",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Registry",
    "crashes_total",
    "h2_abuse_closed_total",
    "process_metrics",
]
