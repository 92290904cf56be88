"""Detection of TLS as a program: ``detecting_proxy.py CERT KEY ANCHORS PLAIN_PORT FOREIGN_PORT``, ready line.

What is for the certificate's name, or is no TLS, goes to PLAIN_PORT in plaintext; other TLS untouched to FOREIGN_PORT.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

import trio

import meshcore
from meshcore import Accepted, Endpoint, Stack
from meshcore.identity.credentials import Credentials
from meshcore.identity.store import Identity
from meshcore.server.opaque import Forward


class To:
    """Forwards every connection to one port on loopback."""

    def __init__(self, port: int) -> None:
        self.endpoint = Endpoint(("127.0.0.1", port))

    def layer(self, inner: Any, /) -> Any:
        self.inner = Forward().layer(inner)
        return self

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        return self.inner.new_service(self.endpoint, nursery)


async def main() -> None:
    cert, key, anchors = (Path(name).read_bytes() for name in sys.argv[1:4])
    plain, foreign = map(int, sys.argv[4:6])
    identity = Identity("", clock=time.time)
    assert identity.publish(Credentials.from_pem(cert, key, anchors))
    detect = meshcore.DetectTls[Accepted](
        identity, plain=Stack((To(plain),)), passthrough=Stack((To(foreign),)), alpn=("http/1.1",)
    )
    drain = meshcore.Drain()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    async with trio.open_nursery() as upstreams:
        upstreams.start_soon(meshcore.drain_on_signal, drain)
        print(f"ready from=127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)
        await meshcore.serve(detect.layer(meshcore.connect_tcp), listeners, upstreams=upstreams, drain=drain, grace=1)
        upstreams.cancel_scope.cancel()


logging.basicConfig(level="INFO")
trio.run(main)
