"""Schedule exploration: one concurrency test, run under many orders of Trio's scheduler, reproducibly."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.abc import Clock

__all__ = ["explore_schedules"]

P = ParamSpec("P")


def _autojump() -> Clock:
    return trio.testing.MockClock(autojump_threshold=0)


def explore_schedules(
    examples: int = 30, *, clock: Callable[[], Clock] = _autojump
) -> Callable[[Callable[P, Awaitable[object]]], Callable[P, None]]:
    """Decorates an ``async def`` test: it is run *examples* times, each under another schedule.

    Trio runs the tasks of one turn in random order; Hypothesis seeds that order through Trio's own
    entry point, so that a failure is found again, shrunk and named by its seed.  What happens to
    work under one order only (a task that runs once more between a reset and its cancellation) is
    found within a few examples.

    The decorated test is an ordinary function that takes the same fixtures.  Each example runs in a
    ``trio.run`` of its own; everything that belongs to one run must be made inside the test.

    Args:
        examples: how many schedules.
        clock: makes the clock of each run; default: a ``MockClock`` that jumps when all tasks wait.

    Raises:
        ModuleNotFoundError: Hypothesis is not installed.
    """

    def decorate(test: Callable[P, Awaitable[object]]) -> Callable[P, None]:
        @functools.wraps(test)
        def explored(*args: P.args, **kwargs: P.kwargs) -> None:
            # A test dependency: embedders who never explore need not have it.
            import hypothesis
            from hypothesis import strategies

            def under_one_schedule(schedule: Any) -> None:
                trio.run(functools.partial(test, *args, **kwargs), clock=clock())

            limited = hypothesis.settings(
                max_examples=examples, deadline=None, suppress_health_check=(hypothesis.HealthCheck.too_slow,)
            )
            hypothesis.given(schedule=strategies.random_module())(limited(under_one_schedule))()

        return explored

    return decorate
