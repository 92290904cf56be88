"""Errors become responses."""

from __future__ import annotations

from meshcore.layers.rescue.layer import Rescue

__all__ = ["Rescue"]
