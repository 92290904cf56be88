"""Forwards TCP, byte for byte, balanced by connection: ``python examples/tcp_forward.py 127.0.0.1:5432``."""

from __future__ import annotations

import sys

import trio

import meshcore
from meshcore import Accepted, Backend, Endpoint, layers


async def main(
    *addresses: str,
    port: int = 8080,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    parts = [address.rpartition(":") for address in addresses]
    backend = Backend("database", tuple(Endpoint((host, int(number))) for host, _, number in parts))
    pipeline = (
        meshcore.accept(Accepted)
        .then(layers.ToBackend(backend))
        .then(layers.Balance())
        .then(meshcore.Forward())
        .then(layers.ConnectTimeout(1.0))
    )
    async with trio.open_nursery() as upstreams:
        listeners = await trio.open_tcp_listeners(port)
        task_status.started(listeners)
        await meshcore.serve(pipeline.layer(meshcore.connect_tcp), listeners, upstreams=upstreams)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1].split(","))
