"""Where an identity comes from: the one interface of every source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshcore.identity.store import Identity

__all__ = ["IdentitySource"]


class IdentitySource(Protocol):
    """Keeps an identity up to date."""

    async def run(self, identity: Identity, /) -> None:
        """Publishes and refuses credentials until it is cancelled.  What goes wrong is refused and tried again,
        never raised."""
