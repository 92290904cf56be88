"""A canary for a tenth, and for ``x-beta: 1``: ``python examples/canary_routes.py 127.0.0.1:9001 127.0.0.1:9002``."""

from __future__ import annotations

import sys

import trio

import meshcore
from meshcore import BackendRef, HttpRoute, RequestMatch, RouteRule, RouteTable, ValueMatch, layers


def backend(name: str, address: str) -> meshcore.Backend:
    host, _, port = address.rpartition(":")
    return meshcore.Backend(name, (meshcore.Endpoint((host, int(port))),))


async def main(
    stable: str,
    canary: str,
    port: int = 8080,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    old, new = backend("stable", stable), backend("canary", canary)
    beta = RequestMatch(headers=(ValueMatch("x-beta", "1"),))
    routes = [
        RouteRule(HttpRoute("beta", (BackendRef(new),)), (beta,)),
        RouteRule(HttpRoute("rest", (BackendRef(old, 90), BackendRef(new, 10)))),
    ]
    pipeline = (
        meshcore.accept(meshcore.Accepted)
        .then(meshcore.ServeHttp())
        .then(layers.Rescue())
        # From here on, one stack per route.
        .then(layers.Route(RouteTable(routes)))
        # Another try draws anew, so: above Split.
        .then(layers.Retry())
        # From here on, one stack per backend, whichever routes share it.
        .then(layers.Split())
        .then(layers.ToBackend(lambda reference: reference.backend))
        .then(layers.Balance())
        .then(meshcore.Http())
    )
    drain = meshcore.Drain()
    async with trio.open_nursery() as upstreams:
        upstreams.start_soon(meshcore.drain_on_signal, drain)
        listeners = await trio.open_tcp_listeners(port)
        task_status.started(listeners)
        new_accept = pipeline.layer(meshcore.connect_tcp)
        await meshcore.serve(new_accept, listeners, upstreams=upstreams, drain=drain)
        upstreams.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
