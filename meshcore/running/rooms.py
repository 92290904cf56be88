"""The nurseries of a build: what its services start lives there, until nobody uses them any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable

    from meshcore.pipeline.build import Build
    from meshcore.pipeline.keep import Keeper
    from meshcore.pipeline.reloadable import Lease

__all__ = ["close_rooms", "leave", "open_rooms"]

_REASON = "a newer configuration"


async def open_rooms(build: Build, upstreams: trio.Nursery) -> None:
    """Opens the nurseries that a build's services start things in: for connections, and for requests."""
    build.connections = await upstreams.start(_room)
    for requests in build.requests.values():
        requests.nursery = await upstreams.start(_room)


async def _room(task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


def close_rooms(build: Build) -> None:
    """Ends what a build has started."""
    for nursery in (build.connections, *(requests.nursery for requests in build.requests.values())):
        if nursery is not None:
            nursery.cancel_scope.cancel(reason=_REASON)


def leave(
    build: Build, keeper: Keeper | None, connected: Callable[[], bool] | None = None, *, removed: bool = False
) -> None:
    """Ends what a build has started, each part once nobody uses it.

    Args:
        build: the old one.
        keeper: looks when that is.
        connected: whether connections use it; None: there are none.
        removed: there is no newer one: connections that are open may still bring requests.
    """
    if keeper is None:
        return
    connections = build.connections
    if connections is not None and connected is not None:
        keeper.when_over(connected, partial(connections.cancel_scope.cancel, reason=_REASON))
    for requests in build.requests.values():
        left = requests.leave()
        nursery = requests.nursery
        assert nursery is not None
        # Where there are no connections it is the nursery of everything.
        end = partial(nursery.cancel_scope.cancel, reason=_REASON) if connections is not None else _nothing
        keeper.when_over(partial(_alive, left, connected if removed else None), end, requests=True)


def _nothing() -> None:
    pass


def _alive(reference: weakref.ref[Lease], connected: Callable[[], bool] | None) -> bool:
    return reference() is not None or (connected is not None and connected())
