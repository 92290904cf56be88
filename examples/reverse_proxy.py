"""A whole reverse proxy from its parts: ``python examples/reverse_proxy.py 127.0.0.1:9001,127.0.0.1:9002``."""

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
    endpoints = [address.rpartition(":") for address in addresses]
    backend = Backend("site", tuple(Endpoint((host, int(number))) for host, _, number in endpoints))
    pipeline = (
        meshcore.accept(Accepted)
        # Turns a connection into requests; above it there are only bytes.
        .then(meshcore.ServeHttp())
        # The only place where errors become responses.
        .then(layers.Rescue())
        .then(layers.Route({"*": backend}))
        # Each try has its own limit, so: Timeout below Retry.
        .then(layers.Retry())
        .then(layers.Timeout(5.0))
        # From here on, one stack per endpoint.
        .then(layers.Balance())
        .then(meshcore.Http())
        .then(layers.ConnectTimeout(1.0))
    )
    print(pipeline)
    drain = meshcore.Drain()
    async with trio.open_nursery() as upstreams:  # owns every upstream connection
        upstreams.start_soon(meshcore.drain_on_signal, drain)
        new_accept = pipeline.layer(meshcore.connect_tcp)
        listeners = await trio.open_tcp_listeners(port)
        task_status.started(listeners)
        await meshcore.serve(new_accept, listeners, upstreams=upstreams, drain=drain)
        upstreams.cancel_scope.cancel()  # the servers have drained


if __name__ == "__main__":
    trio.run(main, *sys.argv[1].split(","))
