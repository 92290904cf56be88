"""Parking one task until another says so: the cheapest wait there is, and nothing allocated per wait.

With ``transport/socket.py`` the data path's only importer of ``trio.lowlevel``.
"""

from __future__ import annotations

from collections import deque
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

import trio
from outcome import Value
from trio.lowlevel import Abort, RunVar, Task, current_task, reschedule, wait_task_rescheduled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["RunVar", "Task", "Wakeup", "WakeupQueue", "checkpoint", "clock", "current_task", "give_way"]


_WOKEN: Final = Value(None)
"""What a woken task is sent.  One for all: it is compared and never unwrapped."""


def _abort(_: Any, /) -> Abort:
    return Abort.SUCCEEDED


def _parking() -> Any:
    """What Trio's own ``wait_task_rescheduled`` yields to the scheduler."""
    waiting = wait_task_rescheduled(_abort)  # noqa: ASYNC105 (only begun, for what it yields first)
    try:
        return waiting.send(None)
    finally:
        waiting.close()


# Made once: half of what a wait costs is making it anew each time.  The wait itself then is a generator rather
# than a coroutine in a coroutine.
_PARK: Final = _parking()


class Wakeup:
    """A slot for the one task that waits for something.

    Sticky: a ``wake`` that comes while nobody waits lets the next ``wait`` return at once (without a
    checkpoint).  A wake-up only says *look again*: waiters test their condition in a loop.
    """

    __slots__ = ("_set", "_task")

    def __init__(self) -> None:
        # Whether it still waits is noted at the task: Trio takes the note away when it is rescheduled, by a
        # cancellation too.
        self._task: Task | None = None
        self._set = False

    def wake(self) -> None:
        """Wakes the waiter, or lets the next one pass.  Synchronous; may be called any number of times."""
        task = self._task
        if task is not None:
            self._task = None
            if task.custom_sleep_data is self:
                reschedule(task, _WOKEN)
                return
        self._set = True

    def clear(self) -> None:
        """Forgets a wake-up that nobody has taken."""
        self._set = False

    @coroutine
    def wait(self) -> Generator[Any, Any, None]:
        """Waits for the next ``wake``; a checkpoint only if it has to wait.

        Raises:
            RuntimeError: another task waits already.
        """
        if self._set:
            self._set = False
            return
        task = self._task
        if task is not None and task.custom_sleep_data is self:
            raise RuntimeError("another task is waiting on this wakeup")
        self._task = task = current_task()
        task.custom_sleep_data = self
        outcome = yield _PARK
        if outcome is not _WOKEN:
            if self._task is task:
                self._task = None
            outcome.unwrap()

    @property
    def waiting(self) -> bool:
        """Whether a task is parked here now."""
        task = self._task
        return task is not None and task.custom_sleep_data is self


class WakeupQueue:
    """Many tasks that wait for the same thing, first come first served."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        # Made by the first who waits: mostly nobody does, and a deque is large.
        self._tasks: deque[Task] | None = None

    def __len__(self) -> int:
        return len(self._tasks) if self._tasks is not None else 0

    def wake_all(self) -> None:
        """Wakes everyone who waits; nobody waiting, nothing happens (not sticky)."""
        tasks = self._tasks
        if tasks is not None:
            self._tasks = None
            for task in tasks:
                reschedule(task)

    def wake_one(self) -> bool:
        """Wakes who has waited longest; False if nobody waits."""
        tasks = self._tasks
        if not tasks:
            return False
        reschedule(tasks.popleft())
        return True

    async def wait(self) -> None:
        """Waits for ``wake_all`` or one's turn of ``wake_one``."""
        task = current_task()
        if self._tasks is None:
            self._tasks = deque()
        tasks = self._tasks
        tasks.append(task)

        def abort(_: Any) -> Abort:
            tasks.remove(task)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)


# Re-exported so that nothing else has to touch trio.lowlevel for a plain yield.
checkpoint = trio.lowlevel.checkpoint
give_way = trio.lowlevel.cancel_shielded_checkpoint


def clock() -> Callable[[], float]:
    """The ``current_time`` of this run's clock, for those who ask it several times a request: looked up
    once, it costs half of ``trio.current_time()``."""
    return trio.lowlevel.current_clock().current_time
