"""Endpoints that are known from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from meshcore.transport.target import Backend, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Static"]


@attrs.frozen
class Static:
    """A fixed set: the backend's own ``endpoints``, or the same ones for every backend.

    Attributes:
        endpoints: instead of the backend's own; None: the backend's own.
    """

    endpoints: tuple[Endpoint, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(tuple[Endpoint, ...])
    )

    async def watch(self, target: Backend, publish: Callable[[Sequence[Endpoint]], None], /) -> None:
        """Publishes the set once and returns: it will not change."""
        publish(target.endpoints if self.endpoints is None else self.endpoints)
