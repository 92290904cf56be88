"""One accepted HTTP/2 connection, served until it is over (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from meshcore.errors import MeshError, leaves
from meshcore.server._http2_server import Http2Server
from meshcore.server.options import ServerOptions

if TYPE_CHECKING:
    from meshcore.abc import HttpService
    from meshcore.transport.connection import Connection

__all__ = ["Http2Server", "serve_http2"]

_OPTIONS: Final = ServerOptions()


async def serve_http2(connection: Connection, service: HttpService, options: ServerOptions = _OPTIONS) -> None:
    """Serves one accepted connection until it is over, and closes it.

    Never raises but for cancellation: what goes wrong ends this connection alone, and an exception that is not the
    peer's doing is told to ``connection.owner``.  ``connection.drain`` and ``connection.sweeper`` are obeyed where
    there are any; without a sweeper the connection runs its own.
    """
    server = Http2Server(connection, service, options)
    try:
        await server.run()
    except* Exception as group:
        for error in leaves(group):
            if not isinstance(error, MeshError | trio.ClosedResourceError | trio.BrokenResourceError):
                server.crashed(error)
    finally:
        server.release()
