"""What Trio's scheduler says of itself: tasks, what is ready to run, and how late it wakes who sleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.metrics.registry import Registry

__all__ = ["LAG", "Scheduler"]

LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Buckets of the lag, in seconds."""
_PERIOD = 1.0


class Scheduler:
    """``trio_*``: tasks and waiting sockets as they are at a scrape, and the loop's lag, measured once a second.

    Args:
        registry: where the series are.
        each: called with each measurement, for whoever wants to look at something about once a second.
    """

    def __init__(self, registry: Registry, each: Callable[[], None] | None = None) -> None:
        self._each = each
        self._tasks = registry.gauge("trio_tasks", "Tasks that have not ended.").labels()
        self._runnable = registry.gauge("trio_tasks_runnable", "Tasks that wait for their turn to run.").labels()
        self._reading = registry.gauge("trio_io_waiting_read", "Tasks that wait for a socket to be readable.").labels()
        self._writing = registry.gauge("trio_io_waiting_write", "Tasks that wait for a socket to be writable.").labels()
        self._lag = registry.histogram(
            "trio_loop_lag_seconds", "How late a task that sleeps for a second is woken.", buckets=LAG
        ).labels()
        self._forget = registry.collect(self._collect)

    def _collect(self) -> None:
        try:
            found: Any = trio.lowlevel.current_statistics()
        except RuntimeError:
            # Rendered from outside of Trio.
            return
        self._tasks.value = found.tasks_living
        self._runnable.value = found.tasks_runnable
        # Of epoll and kqueue; Windows has others.
        self._reading.value = getattr(found.io_statistics, "tasks_waiting_read", 0)
        self._writing.value = getattr(found.io_statistics, "tasks_waiting_write", 0)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        try:
            while True:
                due = trio.current_time() + _PERIOD
                await trio.sleep_until(due)
                self._lag.observe(trio.current_time() - due)
                if self._each is not None:
                    self._each()
        finally:
            self._forget()
