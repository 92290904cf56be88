"""Trace: spans of requests, on the side that accepts them and on the side that sends them on."""

from __future__ import annotations

from meshcore.layers.trace.layer import Trace

__all__ = ["Trace"]
