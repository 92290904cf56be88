"""The beginning of a request's body, for a service that decides by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from meshcore.http.begun import BegunBody

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = ["PARTIAL", "Beginning", "read_beginning"]

PARTIAL: Final = b"x-envoy-auth-partial-body"
"""The field that tells the service whether there is more of the body, as Envoy has it."""


@attrs.frozen
class Beginning:
    """What was read of a body.

    Attributes:
        data: its first bytes.
        partial: whether there is more of it.
    """

    data: bytes = b""
    partial: bool = False


async def read_beginning(request: Request, limit: int, patience: float) -> Beginning:
    """Reads up to *limit* bytes of the body of a request, whose body is as long as before after that.

    A body that does not come is not waited for without end: its sender may wait for the answer to begin.  Of a client
    that waits to be asked for its body, and of a tunnel, nothing is read.

    Args:
        request: the request; its body is replaced.
        limit: bytes.
        patience: seconds that these are waited for.

    Raises:
        MeshError: the body broke.
    """
    body = request.body
    if request.expect_continue or request.is_tunnel or (body.end is not None and body.size_hint == 0):
        return Beginning(partial=body.end is None)
    chunks: list[bytes] = []
    size = 0
    with trio.move_on_after(patience):
        while size < limit and (body.end is None or body.end.error is not None):
            chunk = await body.receive_some()
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
    request.body = BegunBody(chunks, body)
    return Beginning(b"".join(chunks)[:limit], size > limit or body.end is None)
