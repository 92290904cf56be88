"""Discovery as a config file has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.resolve.discover import Discover, schemes

if TYPE_CHECKING:
    from meshcore.config import MeshConfig
    from meshcore.pipeline.runtime import Runtime

__all__ = ["discovery"]


def discovery(config: MeshConfig, runtime: Runtime) -> Discover:
    """What finds the endpoints of destinations and backends, and counts where the process counts."""
    return Discover(schemes(runtime.registry, servers=config.proxy.dns_servers, feed=runtime.feed))
