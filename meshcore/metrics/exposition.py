"""Exposition: a scrape made piece by piece between which requests go on, once for all who wait for it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from meshcore.metrics.registry import Registry

__all__ = ["Exposition"]

_GZIP = 16 + zlib.MAX_WBITS
# A scrape is much the same line again and again: more effort finds little more.
_LEVEL = 3


class _Rendering:
    """One that is being made, and whoever waits for it."""

    __slots__ = ("data", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.data: bytes | None = None


class Exposition:
    """Makes the text of a registry's metrics, without holding anything up for longer than a millisecond or so.

    Args:
        registry: what is told.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._running: dict[tuple[bool, bool], _Rendering] = {}

    def __repr__(self) -> str:
        return f"<Exposition of {self._registry!r}>"

    async def __call__(self, openmetrics: bool = False, compressed: bool = False) -> bytes:
        """The whole text.  Who asks for what is being made already gets the same.

        Args:
            openmetrics: OpenMetrics 1.0 instead of Prometheus 0.0.4.
            compressed: gzip (X-53).
        """
        key = (openmetrics, compressed)
        while (running := self._running.get(key)) is not None:
            await running.done.wait()
            # None where who made it has gone away: then it is made here.
            if running.data is not None:
                return running.data
        rendering = self._running[key] = _Rendering()
        try:
            rendering.data = await self._render(openmetrics, compressed)
        finally:
            del self._running[key]
            rendering.done.set()
        return rendering.data

    async def _render(self, openmetrics: bool, compressed: bool) -> bytes:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if compressed else None
        parts: list[bytes] = []
        for piece in self._registry.pieces(openmetrics):
            data = piece.encode("utf-8", "replace")
            parts.append(data if packer is None else packer.compress(data))
            await trio.lowlevel.checkpoint()
        if packer is not None:
            parts.append(packer.flush())
        return b"".join(parts)
