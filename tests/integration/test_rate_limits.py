"""Rate limits of a config file, from the wire to the metrics and what a live stack tells."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import meshcore
from meshcore.transport.tcp import open_listeners

CONFIG = """
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{port}"
rate_limit = {{ rps = 3 }}
[outbound]
listen = "127.0.0.1:0"
[outbound.to."app:80"]
endpoints = ["127.0.0.1:{port}"]
rate_limit = {{ per_header = {{ name = "x-tenant", rps = 1 }} }}
[listen.public]
bind = "127.0.0.1:0"
to = [{{ backend = "app" }}]
rate_limit = {{ rps = 2 }}
[backend.app]
endpoints = ["127.0.0.1:{port}"]
[admin]
listen = "off"
"""


class Fixed:
    def __init__(self, service: Any) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        return self.service


async def application(nursery: trio.Nursery) -> int:
    async def answer(request: meshcore.Request) -> meshcore.Response:
        return meshcore.Response(200, meshcore.Headers([(b"content-length", b"0")]))

    listeners = await open_listeners("127.0.0.1", 0)
    new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(answer))
    await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=nursery))
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def ask(address: tuple[str, int], head: bytes) -> bytes:
    """The head of the answer, on a connection of its own."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n" + head + b"connection: close\r\n\r\n")
        data = b""
        while chunk := await stream.receive_some():
            data += chunk
    return data


def role(trees: Any, name: str) -> Any:
    return next(each for tree in trees for each in tree if each["role"] == name)


@pytest.mark.parity("R-36", "E-09")
async def test_limits_hold_on_every_side_whatever_the_connection(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (tmp_path / "c.toml").write_text(CONFIG.format(port=await application(nursery)))
            mesh: meshcore.Proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(tmp_path / "c.toml"))

            inbound, outbound, public = (mesh.listeners[name][0] for name in ("inbound", "outbound", "public"))
            got = [await ask(inbound, b"host: x\r\n") for _ in range(6)]
            assert [answer[9:12] for answer in got[:3]] == [b"200"] * 3
            assert got[-1].startswith(b"HTTP/1.1 429 ")
            # A stranger is told when to come back, and nothing of the rest (E-06).
            assert b"retry-after: 1\r\n" in got[-1]
            assert b"x-meshcore-error" not in got[-1]
            tenants = [await ask(outbound, b"host: app\r\nx-tenant: " + name + b"\r\n") for name in (b"a", b"b", b"a")]
            assert [answer[9:12] for answer in tenants] == [b"200", b"200", b"429"]
            assert b"l5d-proxy-error: logical service app: per-header rate limit exceeded: 1rps\r\n" in tenants[-1]
            got = [await ask(public, b"host: x\r\n") for _ in range(3)]
            assert [answer[9:12] for answer in got] == [b"200", b"200", b"429"]

            text = mesh.registry.render()
            assert 'inbound_http_local_ratelimit_total{target_addr="127.0.0.1:' in text
            assert 'srv_name="public",ratelimit_kind="total",ratelimit_name="public",ratelimit_scope="total"} 1' in text
            assert 'outbound_http_local_ratelimit_total{backend="app:80",ratelimit_kind="per-header"' in text
            told = mesh.statistics()
            assert role(told["inbound"]["services"], "rate_limit")["statistics"]["admitted"] >= 3
            assert role(told["public"]["services"], "rate_limit")["statistics"]["refused"] == 1
            nursery.cancel_scope.cancel()
