"""AccessLog, how its lines look and where they go."""

from __future__ import annotations

from meshcore.layers.access_log.layer import AccessLog

__all__ = ["AccessLog"]
