"""Trio's task tree: which tasks there are, in whose nursery, and where each of them waits; no variable of any."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from meshcore.admin.page import JSON, method_not_allowed, response_of
from meshcore.admin.stats.page import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

__all__ = ["MOST_TASKS", "tasks_page", "tasks_value"]

MOST_TASKS = 5_000
"""Tasks that are told at the most; the rest are counted."""

_PIECE = 200
_DEEPEST = 60
_LONGEST_NAME = 200
# What everything waits in says nothing.
_WAITING = ("trio/", f"meshcore{os.sep}_wakeup.py")


def tasks_page() -> HttpService:
    """``GET /tasks``."""

    async def tasks(request: Request) -> Response:
        if request.method not in (b"GET", b"HEAD"):
            return method_not_allowed(b"GET, HEAD")
        return response_of(200, JSON, await encoded(await tasks_value()))

    return tasks


async def tasks_value(most: int = MOST_TASKS) -> dict[str, Any]:
    """Every task of this Trio run, the embedder's own included, in the order in which they are nested.

    Returns:
        ``tasks``, each with its ``depth``, its ``name``, whose ``nursery`` it is in (0: its parent's first one), how
        many ``children`` it has, its ``stack``, from its own function to where it waits, and where it ``waits_at``: the
        last of them that is not the waiting itself; ``total``, and how many ``more`` there are than are told.  Where
        the tree changes meanwhile, a task may be told that has ended.
    """
    root = trio.lowlevel.current_root_task()
    told: list[dict[str, Any]] = []
    total = 0
    if root is None:
        return {"total": 0, "more": 0, "tasks": told}
    for depth, nursery, task in _walk(root):
        total += 1
        if len(told) < most:
            told.append(_value(task, depth, nursery))
        if total % _PIECE == 0:
            await trio.lowlevel.checkpoint()
    return {"total": total, "more": total - len(told), "tasks": told}


def _walk(root: trio.lowlevel.Task) -> Iterator[tuple[int, int, trio.lowlevel.Task]]:
    # Not recursive: how deep an embedder nests is theirs to say.
    waiting = [(0, 0, root)]
    while waiting:
        depth, nursery, task = waiting.pop()
        yield depth, nursery, task
        below = [
            (depth + 1, number, child)
            for number, inner in enumerate(task.child_nurseries)
            for child in sorted(inner.child_tasks, key=_order)
        ]
        waiting.extend(reversed(below))


def _order(task: trio.lowlevel.Task) -> tuple[str, int]:
    return task.name, id(task)


def _value(task: trio.lowlevel.Task, depth: int, nursery: int) -> dict[str, Any]:
    stack = _stack(task)
    return {
        "depth": depth,
        "name": task.name[:_LONGEST_NAME],
        "nursery": nursery,
        "children": sum(len(inner.child_tasks) for inner in task.child_nurseries),
        "waits_at": next((each for each in reversed(stack) if not each.startswith(_WAITING)), ""),
        "stack": stack,
    }


def _stack(task: trio.lowlevel.Task) -> list[str]:
    """``file:line function`` of each coroutine, the innermost last."""
    frames: list[str] = []
    current: Any = task.coro
    for _ in range(_DEEPEST):
        frame = getattr(current, "cr_frame", None) or getattr(current, "gi_frame", None)
        if frame is None:
            if not hasattr(current, "cr_frame") and not hasattr(current, "gi_frame"):
                # A compiled coroutine has no frame that could be looked at; one that is over had one.
                frames.append(f"compiled {getattr(current, '__qualname__', type(current).__qualname__)}")
        else:
            code = frame.f_code
            frames.append(f"{_file(code.co_filename)}:{frame.f_lineno} {code.co_qualname}")
        current = getattr(current, "cr_await", None) or getattr(current, "gi_yieldfrom", None)
        if current is None:
            break
    return frames


def _file(path: str) -> str:
    """From its package on: where it is installed is nobody's business."""
    for marker in (f"{os.sep}site-packages{os.sep}", f"{os.sep}meshcore{os.sep}"):
        before, found, after = path.rpartition(marker)
        if found:
            return after if "site-packages" in marker else f"meshcore{os.sep}{after}"
        del before
    return os.path.basename(path)
