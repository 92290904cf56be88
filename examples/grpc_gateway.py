"""Sends gRPC calls to services by their authority: ``python examples/grpc_gateway.py users=127.0.0.1:9001 …``."""

from __future__ import annotations

import sys

import trio

import meshcore
from meshcore import Accepted, Backend, Endpoint, layers


def backend(name: str, addresses: str) -> Backend:
    """A service by prior knowledge of HTTP/2, at one or more addresses."""
    parts = [address.rpartition(":") for address in addresses.split(",")]
    return Backend(name, tuple(Endpoint((host, int(port)), "h2") for host, _, port in parts))


async def main(
    *services: str,
    port: int = 8080,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    named = [service.partition("=") for service in services]
    pipeline = (
        meshcore.accept(Accepted)
        .then(meshcore.ServeHttp())
        # gRPC calls that fail here get a gRPC status; an authority that nobody has is NOT_FOUND (5).
        .then(layers.Rescue())
        .then(layers.Route({name: backend(name, addresses) for name, _, addresses in named}))
        # Calls are POST: they are repeated only where no byte of them was processed.
        .then(layers.Retry())
        # Each call by itself, not each connection: one channel is spread over all servers.
        .then(layers.Balance())
        .then(meshcore.Http())
        .then(layers.ConnectTimeout(1.0))
    )
    async with trio.open_nursery() as upstreams:
        listeners = await trio.open_tcp_listeners(port)
        task_status.started(listeners)
        await meshcore.serve(pipeline.layer(meshcore.connect_tcp), listeners, upstreams=upstreams)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
