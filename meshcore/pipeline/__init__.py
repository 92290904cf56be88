"""The built-in stacks: nothing but assembly, in request order, with the reason beside each layer."""

from __future__ import annotations

from meshcore.pipeline.gateway import gateway, listener
from meshcore.pipeline.inbound import inbound
from meshcore.pipeline.outbound import outbound
from meshcore.pipeline.runtime import Runtime

__all__ = ["Runtime", "gateway", "inbound", "listener", "outbound"]
