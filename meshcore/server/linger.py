"""The ends of an HTTP/1 connection that come before the client has sent everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore._wakeup import checkpoint
from meshcore.codec.events import NEED_DATA, PAUSED, DataReceived
from meshcore.errors import ConnectionLost, RemoteProtocolError

if TYPE_CHECKING:
    from meshcore.codec.h1.interface import H1Server
    from meshcore.server.request_body import RequestBody
    from meshcore.transport.connection import Connection

__all__ = ["discard", "linger"]

_LINGER: Final = 1 << 20
_TURNS: Final = 16
"""Pieces of a body thrown away before others get a turn."""


async def linger(connection: Connection, seconds: float) -> None:
    """Ends this side and reads on for a moment, 1 MiB at the most, so that no reset overtakes the answer
    (RFC 9112 §9.6)."""
    left = _LINGER
    try:
        await connection.send_eof()
        with trio.move_on_after(seconds):
            while left > 0:
                data = await connection.receive_some()
                if not data:
                    return
                left -= len(data)
    except (ConnectionLost, trio.ClosedResourceError, trio.BrokenResourceError, trio.BusyResourceError):
        pass


async def discard(body: RequestBody, codec: H1Server, connection: Connection, limit: int, seconds: float) -> bool:
    """Reads what a service left of a request's body, if that is little: at most *limit* bytes within
    *seconds*.  Whether the message is complete now: a connection is never used again in the middle of
    one (CVE-2025-4366)."""
    if body.reading or body.status:
        return False
    try:
        event = codec.next_event()
        if event is PAUSED:
            return True
        if body.before is not None or (body.size_hint is not None and body.size_hint > limit):
            # A body that the client holds back may never come; one so long is not worth it.
            return False
        turns = 0
        with trio.move_on_after(seconds):
            while event is not PAUSED:
                if event is NEED_DATA:
                    codec.receive_data(await connection.receive_some())
                elif type(event) is DataReceived:
                    limit -= len(event.data)
                    if limit < 0:
                        return False
                    turns += 1
                    if turns == _TURNS:
                        turns = 0
                        await checkpoint()
                event = codec.next_event()
            return True
    except (ConnectionLost, RemoteProtocolError, trio.ClosedResourceError):
        pass
    return False
