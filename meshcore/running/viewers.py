"""Who looks at a running proxy with a browser: the dashboard, and the events that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meshcore.admin.dashboard import dashboard_pages
from meshcore.admin.events import Events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshcore.abc import HttpService
    from meshcore.proxy import Proxy

__all__ = ["events_of", "viewer_pages"]


def events_of(proxy: Proxy) -> Events:
    """What tells the viewers of *proxy*."""
    assert proxy.feed is not None

    def about() -> dict[str, Any]:
        current = proxy.identity.current if proxy.identity is not None else None
        return {} if current is None else {"expires": round(current.not_after, 3)}

    async def stats(window: float) -> dict[str, Any]:
        return (await proxy.stats(window)).value()

    return Events(stats, proxy.feed, about=about)


def viewer_pages(events: Events) -> Mapping[bytes, HttpService]:
    """The admin server's pages for them."""
    return {**dashboard_pages(), b"/events": events}
