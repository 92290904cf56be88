"""A mesh inside of a program: two sidecars of a config each, in one process, and a client of one of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import meshcore
from meshcore.http.body import read_all
from meshcore.transport.tcp import open_listeners

APPLICATION = """
[service]
name = "orders"
namespace = "shop"
[identity]
mode = "dev"
directory = "state"
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{port}"
default_policy = "all-authenticated"
[admin]
listen = "off"
"""
CALLER = """
[service]
name = "web"
namespace = "shop"
[identity]
mode = "dev"
directory = "state"
[outbound]
listen = "127.0.0.1:0"
[outbound.to."orders:80"]
endpoints = ["127.0.0.1:{port}"]
identity = "{identity}"
[admin]
listen = "off"
"""


class Fixed:
    def __init__(self, service: Any) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Any:
        return self.service


async def application(nursery: trio.Nursery, upstreams: trio.Nursery) -> int:
    """Serves who calls, as its proxy says; its port."""

    async def answer(request: meshcore.Request) -> meshcore.Response:
        body = request.headers.get(b"l5d-client-id") or b"nobody"
        return meshcore.Response(200, meshcore.Headers([(b"content-length", b"%d" % len(body))]), meshcore.Full(body))

    listeners = await open_listeners("127.0.0.1", 0)
    new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(answer))
    await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=upstreams))
    port: int = listeners[0].socket.getsockname()[1]
    return port


def written(directory: Path, name: str, text: str) -> meshcore.MeshConfig:
    path = directory / f"{name}.toml"
    path.write_text(text)
    return meshcore.load_config(path)


@pytest.mark.parametrize("version", [11, 20])
@pytest.mark.parity("T-05", "T-18")
async def test_a_client_of_a_mesh_reaches_the_application_as_who_it_is(tmp_path: Path, version: int) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            port = await application(nursery, nursery)
            config = written(tmp_path, "orders", APPLICATION.format(port=port))
            orders: meshcore.Proxy = await nursery.start(meshcore.serve_config, config)
            inbound = orders.listeners["inbound"][0][1]
            config = written(tmp_path, "web", CALLER.format(port=inbound, identity="orders.shop"))
            web: meshcore.Proxy = await nursery.start(meshcore.serve_config, config)

            request = meshcore.Request(b"GET", b"http", b"orders", b"/", version=version)
            request.headers.add(b"l5d-client-id", b"somebody.else")
            response = await web.client("orders:80")(request)

            assert (200, b"web.shop") == (response.status, await read_all(response.body))
            text = orders.registry.render()
            counted = next(line for line in text.splitlines() if line.startswith("request_total{"))
            assert 'tls="true"' in counted
            assert 'client_id="web.shop"' in counted
            with pytest.raises(LookupError, match="the destinations are: orders:80"):
                web.client("payments:80")
            nursery.cancel_scope.cancel()


@pytest.mark.parity("T-17", "T-04")
async def test_whoever_else_answers_is_named_and_gets_nothing(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            port = await application(nursery, nursery)
            config = written(tmp_path, "orders", APPLICATION.format(port=port))
            orders: meshcore.Proxy = await nursery.start(meshcore.serve_config, config)
            inbound = orders.listeners["inbound"][0][1]
            config = written(tmp_path, "web", CALLER.format(port=inbound, identity="payments.shop"))
            web: meshcore.Proxy = await nursery.start(meshcore.serve_config, config)

            with pytest.raises(meshcore.MeshError, match=r"expected payments\.shop, found orders\.shop") as caught:
                await web.client("orders:80")(meshcore.Request(b"GET", b"http", b"orders", b"/"))

            assert ("identity-mismatch", 502) == (caught.value.code, caught.value.status_hint)
            nursery.cancel_scope.cancel()
