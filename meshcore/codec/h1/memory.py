"""What has been judged before and need not be judged again: whole heads, as they came or as they were asked for.

The verdict on a head is a function of its bytes (and of the limits), so it can be remembered.  On
connections that are kept the same few heads come again and again; where each is different, a miss costs
a look-up.  Only small and plain heads are kept, and only so many; a full memory is emptied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from meshcore.codec.events import Fields
    from meshcore.codec.h1.engines import Engine
    from meshcore.codec.limits import H1Limits

__all__ = [
    "LONGEST",
    "Requests",
    "Responses",
    "remember",
    "requests",
    "responses",
    "written_requests",
    "written_responses",
]

Requests: TypeAlias = "dict[bytes, tuple[bytes, bytes, bytes, Fields, int | None]]"
"""Method, authority, target, fields, content-length of a head: HTTP/1.1, origin-form, kept alive."""

Responses: TypeAlias = "dict[bytes, tuple[int, Fields, int]]"
"""Status, fields, content-length of a head: HTTP/1.1, kept alive, final."""

LONGEST: Final = 1_024
_MOST: Final = 512


def remember(memory: dict[Any, Any], key: object, value: object) -> None:
    """Adds to a memory; forgets everything else first where it is full."""
    if len(memory) >= _MOST:
        memory.clear()
    memory[key] = value


@lru_cache(maxsize=16)
def requests(limits: H1Limits, engine: Engine) -> Requests:
    """The request heads that connections with these limits and this engine have accepted."""
    return {}


@lru_cache(maxsize=16)
def responses(limits: H1Limits, engine: Engine) -> Responses:
    """The same for response heads."""
    return {}


written_requests: Final[dict[tuple[object, ...], tuple[bytes, int | None]]] = {}
"""Heads of requests by method, target, authority and fields: the bytes, up to the value of a last field that is another
one each time; and the content-length."""

written_responses: Final[dict[tuple[object, ...], tuple[bytes, int | None]]] = {}
"""Heads of responses, without their last line break, by status and fields: the bytes, and the content-length."""
