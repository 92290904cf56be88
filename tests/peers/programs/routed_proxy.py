"""Our gateway with routes by authority: ``routed_proxy.py ENGINE PATTERN=URL …``; prints the ready line."""

from __future__ import annotations

import logging
import sys

import trio

import meshcore
from meshcore.config import proxy_config
from meshcore.layers.route import Route
from meshcore.metrics.registry import Registry
from meshcore.pipeline.gateway import http


async def main() -> None:
    engine, *routes = sys.argv[1:]
    table = dict(route.split("=", 1) for route in routes)
    config = proxy_config(["127.0.0.1:0"], [next(iter(table.values()))], engine=engine, admin="off")
    pipeline = http(config, Registry()).replace("to_backend", Route(table))
    drain = meshcore.Drain()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    async with trio.open_nursery() as upstreams:
        upstreams.start_soon(meshcore.drain_on_signal, drain)
        port = listeners[0].socket.getsockname()[1]
        print(f"ready from=127.0.0.1:{port}", flush=True)
        await meshcore.serve(pipeline.layer(meshcore.connect_tcp), listeners, upstreams=upstreams, drain=drain)
        upstreams.cancel_scope.cancel()


logging.basicConfig(level="INFO")
trio.run(main)
