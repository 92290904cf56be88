"""The built-in stacks: nothing but assembly, in request order, with the reason beside each layer."""

from __future__ import annotations

from meshcore.pipeline.gateway import endpoint, gateway

__all__ = ["endpoint", "gateway"]
