"""Two sidecars around a service, mutual TLS between them: ``python examples/sidecar.py 127.0.0.1:9001``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trio

import meshcore
from meshcore.config import AdminConfig, Destination, IdentityConfig, Inbound, Outbound, Service
from meshcore.config.upstream import EndpointConfig


async def main(
    upstream: str,
    port: int = 8080,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    host, _, number = upstream.rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        # The authority is in this folder; each sidecar issues its own certificate, for NAME.NAMESPACE.
        identity = IdentityConfig(mode="dev", directory=Path(folder))
        orders = meshcore.MeshConfig(
            service=Service(name="orders", namespace="shop"),
            identity=identity,
            inbound=Inbound(
                listen=("127.0.0.1", 0),
                forward=(host, int(number)),
                # Without a verified certificate nobody gets through.
                default_policy="all-authenticated",
            ),
            admin=AdminConfig(listen=None),
        )
        async with trio.open_nursery() as nursery:
            inbound: meshcore.Proxy = await nursery.start(meshcore.serve_config, orders)
            destination = Destination(
                endpoints=(EndpointConfig(address=inbound.addresses[0]),),
                identity="orders.shop",  # who must answer
            )
            web = meshcore.MeshConfig(
                service=Service(name="web", namespace="shop"),
                identity=identity,
                outbound=Outbound(listen=("127.0.0.1", port), to={"*": destination}),
                admin=AdminConfig(listen=None),
            )
            outbound: meshcore.Proxy = await nursery.start(meshcore.serve_config, web)
            task_status.started(outbound.addresses[0])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
