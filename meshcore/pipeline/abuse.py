"""Closed abusers counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.metrics.process import h2_abuse_closed_total

if TYPE_CHECKING:
    from meshcore.metrics.registry import Registry
    from meshcore.server.options import ServerOptions

__all__ = ["counting_abuse"]


def counting_abuse(options: ServerOptions, registry: Registry) -> ServerOptions:
    """The options with closed abusers counted, unless somebody hears of them already."""
    if options.on_abuse is not None:
        return options

    def closed(kind: str) -> None:
        h2_abuse_closed_total(registry, kind).value += 1

    return attrs.evolve(options, on_abuse=closed)
