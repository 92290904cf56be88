"""What an application asks of its proxy for one request alone."""

from __future__ import annotations

from meshcore.layers.read_overrides.layer import ReadOverrides

__all__ = ["ReadOverrides"]
