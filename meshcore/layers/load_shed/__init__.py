"""Refusing what would wait for nothing."""

from __future__ import annotations

from meshcore.layers.load_shed.layer import LoadShed

__all__ = ["LoadShed"]
