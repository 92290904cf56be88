"""A layer of one's own in the shipped pipeline: ``python examples/custom_layer.py 127.0.0.1:9001``."""

from __future__ import annotations

import random
import sys

import attrs
import trio

import meshcore
from meshcore import HttpService, Request, Response, ServiceLayer
from meshcore.config import proxy_config
from meshcore.pipeline import gateway


@attrs.frozen
class RequestId(ServiceLayer):
    """Gives every request an id, and its response the same one."""

    header: bytes = b"x-request-id"

    def wrap(self, inner: HttpService, target: object) -> HttpService:
        async def request_id(request: Request) -> Response:
            value = request.headers.get(self.header) or b"%016x" % random.getrandbits(64)
            request.headers.set(self.header, value)
            response = await inner(request)
            response.headers.set(self.header, value)
            return response

        return request_id


async def main(
    upstream: str,
    port: int = 8080,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    config = proxy_config([f":{port}"], [upstream])
    pipeline = gateway(config).insert_before("retry", RequestId())
    async with trio.open_nursery() as upstreams:
        listeners = await trio.open_tcp_listeners(port)
        task_status.started(listeners)
        await meshcore.serve(pipeline.layer(meshcore.connect_tcp), listeners, upstreams=upstreams)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
