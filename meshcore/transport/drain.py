"""Drain: one signal that what is being served is to be finished and nothing new begun."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Drain"]

log = logging.getLogger(__name__)


class Drain:
    """Told once to start; tells everyone who registered, synchronously.

    Below the servers' nursery, so that a connection can obey it without knowing the server.  Starting
    it ends nothing by itself: owners stop accepting, say goodbye in their protocol (GOAWAY,
    ``connection: close``) and finish what is in flight; whoever runs the server bounds that by its grace
    period (L-03, L-04).
    """

    __slots__ = ("_callbacks", "_event", "reason", "started")

    def __init__(self) -> None:
        self.started = False
        self.reason = ""
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._event = trio.Event()

    def start(self, reason: str = "") -> None:
        """Starts it; again does nothing."""
        if self.started:
            return
        self.started = True
        self.reason = reason
        self._event.set()
        callbacks = list(self._callbacks.values())
        self._callbacks.clear()
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                # One connection's bug must not keep the others from hearing of it.
                log.warning("crash in drain: %s: %s", type(error).__name__, error, exc_info=error)

    def on_start(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls *callback* when it starts (at once if it has); returns a function that takes it back."""
        if self.started:
            callback()
            return _nothing
        key = id(callback)
        while key in self._callbacks:
            key += 1
        self._callbacks[key] = callback
        return lambda: self._forget(key)

    def _forget(self, key: int) -> None:
        self._callbacks.pop(key, None)

    async def wait_started(self) -> None:
        """Waits until it has started."""
        await self._event.wait()


def _nothing() -> None:
    pass
