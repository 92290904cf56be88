"""Parking one task until another says so: the cheapest wait there is, and nothing allocated per wait.

With ``transport/socket.py`` the data path's only importer of ``trio.lowlevel``.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

__all__ = ["Task", "Wakeup", "WakeupQueue", "checkpoint", "current_task"]


class Wakeup:
    """A slot for the one task that waits for something.

    Sticky: a ``wake`` that comes while nobody waits lets the next ``wait`` return at once (without a
    checkpoint).  A wake-up only says *look again*: waiters test their condition in a loop.
    """

    __slots__ = ("_set", "_task")

    def __init__(self) -> None:
        self._task: Task | None = None
        self._set = False

    def wake(self) -> None:
        """Wakes the waiter, or lets the next one pass.  Synchronous; may be called any number of times."""
        task = self._task
        if task is not None:
            self._task = None
            reschedule(task)
        else:
            self._set = True

    def clear(self) -> None:
        """Forgets a wake-up that nobody has taken."""
        self._set = False

    async def wait(self) -> None:
        """Waits for the next ``wake``; a checkpoint only if it has to wait.

        Raises:
            RuntimeError: another task waits already.
        """
        if self._set:
            self._set = False
            return
        if self._task is not None:
            raise RuntimeError("another task is waiting on this wakeup")
        self._task = current_task()
        await wait_task_rescheduled(self._abort)

    def _abort(self, raise_cancel: Any, /) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    @property
    def waiting(self) -> bool:
        """Whether a task is parked here now."""
        return self._task is not None


class WakeupQueue:
    """Many tasks that wait for the same thing, first come first served."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()

    def __len__(self) -> int:
        return len(self._tasks)

    def wake_all(self) -> None:
        """Wakes everyone who waits; nobody waiting, nothing happens (not sticky)."""
        tasks = self._tasks
        while tasks:
            reschedule(tasks.popleft())

    def wake_one(self) -> bool:
        """Wakes who has waited longest; False if nobody waits."""
        if not self._tasks:
            return False
        reschedule(self._tasks.popleft())
        return True

    async def wait(self) -> None:
        """Waits for ``wake_all`` or one's turn of ``wake_one``."""
        task = current_task()
        tasks = self._tasks
        tasks.append(task)

        def abort(_: Any) -> Abort:
            tasks.remove(task)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)


# Re-exported so that nothing else has to touch trio.lowlevel for a plain yield.
checkpoint = trio.lowlevel.checkpoint
