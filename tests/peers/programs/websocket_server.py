"""A WebSocket echo server for tests: ``websocket_server.py PORT``; ``/bye`` closes with 4001 after one message."""

from __future__ import annotations

import sys

from websockets.sync.server import ServerConnection, serve


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)
        if connection.request is not None and connection.request.path == "/bye":
            connection.close(4001, "bye")
            return


with serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=1 << 26) as server:
    server.serve_forever()
