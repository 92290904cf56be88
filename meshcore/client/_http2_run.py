"""The life of one HTTP/2 connection to an endpoint, in the task that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.errors import leaves

if TYPE_CHECKING:
    from meshcore.client._http2_connection import Http2Connection
    from meshcore.transport.sweep import Sweeper

__all__ = ["run_http2"]


async def run_http2(connection: Http2Connection, sweeper: Sweeper) -> None:
    """Reads until *connection* is over, and lets go of it; what went wrong is noted there, not raised."""
    try:
        await connection.run(sweeper)
    except* Exception as group:
        for error in leaves(group):
            connection.broke(error)
    finally:
        connection.release()
