"""The pages that tell what a running proxy does: ``/stats``, ``/endpoints``, ``/tasks``, ``/identity``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.admin.identity_page import identity_page
from meshcore.admin.stats.page import endpoints_page, stats_page
from meshcore.admin.tasks import tasks_page

if TYPE_CHECKING:
    from meshcore.abc import HttpService
    from meshcore.proxy import Proxy

__all__ = ["live_pages"]


def live_pages(proxy: Proxy) -> dict[bytes, HttpService]:
    """What the admin server answers beside its own pages, by path."""
    assert proxy.sampler is not None
    return {
        b"/stats": stats_page(proxy.sampler),
        b"/endpoints": endpoints_page(proxy.sampler),
        b"/tasks": tasks_page(),
        b"/identity": identity_page(lambda: proxy.identity, proxy.sampler.time),
    }
