"""What is told of an error with all that led to it; and errors that several are told of.

A part of ``meshcore.errors``, which has them under its own name.  An error of the project's own is known here by its
``around``.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["again", "caused", "chain", "inside", "leaves"]

E = TypeVar("E", bound=BaseException)


def again(error: BaseException) -> BaseException:
    """The same error for one more task, or one more time, to raise; *error* itself where it is not one of ours.

    Raised itself, what is remembered somewhere would collect the traceback of everyone who is told of it, and with
    it all that their frames hold: mostly the very thing that remembers it, so that only the garbage collector would
    find it.
    """
    if not hasattr(error, "around"):
        return error
    other: BaseException = type(error).__new__(type(error), *error.args)
    other.__dict__.update(error.__dict__)
    other.__cause__ = error.__cause__
    return other


def caused(error: E, cause: BaseException) -> E:
    """*error*, whose cause is *cause*: for modules that may be compiled, where ``raise … from`` forgets it."""
    error.__cause__ = cause
    return error


def chain(error: BaseException) -> str:
    """Every message from *error* to its first cause, with the names of what each happened in, joined by ``": "``
    (E-03): ``backend users: endpoint 10.0.0.7:4143: connect timed out after 1s``."""
    messages: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = current.strerror if isinstance(current, OSError) and current.strerror else str(current)
        text = text or type(current).__name__
        # What the message begins with anyway is not said twice, nor what was said further out.
        for name in reversed(getattr(current, "around", ())):
            if not text.startswith(name) and not any(message.startswith(name) for message in messages):
                messages.append(name)
        if not messages or text.lower() not in messages[-1].lower():
            messages.append(text)
        current = current.__cause__
    return ": ".join(messages)


def inside(error: BaseException, name: str) -> None:
    """Notes the *name* of what an error happened in, as in ``backend users``, for :func:`chain`.

    Whoever passes the error on knows it, and nothing is paid for that where there is none.  Errors that are not ours
    say nothing.
    """
    ours: Any = error
    if name not in getattr(ours, "around", (name,)):
        ours.around = (*ours.around, name)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in a group of groups, without the groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found.extend(leaves(error))
        else:
            found.append(error)
    return found
