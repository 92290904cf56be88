"""Authorization of a config file: clients with names of their own, requests and bytes, and a policy that changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import meshcore
from meshcore.http.body import read_all
from meshcore.layers.authorize import Authorization, ServerPolicy
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
opaque_ports = []
{policy}
[admin]
listen = "off"
"""
CALLER = """
[service]
name = "{name}"
namespace = "shop"
[identity]
mode = "dev"
directory = "state"
[outbound]
listen = "127.0.0.1:0"
opaque_ports = []
detect_timeout = "50ms"
[outbound.to."orders:80"]
endpoints = ["127.0.0.1:{port}"]
identity = "orders.shop"
listen = "127.0.0.1:0"
[admin]
listen = "off"
"""
WEB_ALONE = """
[[inbound.policy]]
identities = ["web.shop"]
"""
BYTES = b"\x00\x01\x02 not HTTP"


class Mesh:
    """An application, its proxy, and the proxies of its callers, in one process."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery

    def config(self, name: str, text: str) -> meshcore.MeshConfig:
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return meshcore.load_config(path)

    async def inbound(self, policy: str) -> meshcore.Proxy:
        """The proxy of an application that answers each first bytes of a connection with what they are."""
        listeners = await open_listeners("127.0.0.1", 0)
        port = listeners[0].socket.getsockname()[1]

        async def answer(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    while data := await stream.receive_some():
                        if data.startswith(b"GET /upgrade "):
                            data = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
                        elif data.startswith(b"GET "):
                            data = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
                        await stream.send_all(data)
                except trio.BrokenResourceError:
                    pass

        self.nursery.start_soon(partial(trio.serve_listeners, answer, listeners))
        config = self.config("orders", APPLICATION.format(port=port, policy=policy))
        proxy: meshcore.Proxy = await self.nursery.start(meshcore.serve_config, config)
        self.port = proxy.listeners["inbound"][0][1]
        return proxy

    async def caller(self, name: str) -> meshcore.Proxy:
        config = self.config(name, CALLER.format(port=self.port, name=name))
        proxy: meshcore.Proxy = await self.nursery.start(meshcore.serve_config, config)
        return proxy

    async def ask(self, caller: meshcore.Proxy, version: int = 11, path: bytes = b"/") -> int:
        request = meshcore.Request(b"GET", b"http", b"orders", path, version=version)
        response = await caller.client("orders:80")(request)
        await read_all(response.body)
        return response.status

    async def bytes(self, caller: meshcore.Proxy) -> tuple[trio.SocketStream, bytes]:
        """A connection that carries no requests, and what came back on it."""
        stream = await trio.open_tcp_stream(*caller.listeners["orders:80"][0])
        await stream.send_all(BYTES)
        return stream, await self.rest(stream)

    async def rest(self, stream: trio.SocketStream) -> bytes:
        try:
            return bytes(await stream.receive_some())
        except trio.BrokenResourceError:
            return b""


def counted(proxy: meshcore.Proxy, family: str, *labels: str) -> float:
    lines = proxy.registry.render().splitlines()
    found = [line for line in lines if line.startswith(family + "{") and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


@pytest.mark.parity("R-29", "R-31", "R-32")
async def test_a_client_is_let_in_by_its_name_for_requests_and_for_bytes(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(tmp_path, nursery)
            orders = await mesh.inbound(WEB_ALONE)
            web, carts = await mesh.caller("web"), await mesh.caller("carts")

            assert [await mesh.ask(web, version) for version in (11, 20)] == [200, 200]
            assert [await mesh.ask(carts, version) for version in (11, 20)] == [403, 403]
            stream, back = await mesh.bytes(web)
            assert back == BYTES
            await stream.aclose()
            stream, back = await mesh.bytes(carts)
            assert back == b""
            await stream.aclose()

            known, unknown = 'client_id="web.shop"', 'client_id="carts.shop"'
            policy = ('srv_kind="server",srv_name="inbound"', 'authz_kind="policy",authz_name="policy-0"')
            assert counted(orders, "inbound_http_authz_allow_total", known, *policy) == 2
            assert counted(orders, "inbound_http_authz_deny_total", unknown, policy[0]) == 2
            # A proxy looks first whether it can connect, so there may be more of these.
            assert counted(orders, "inbound_tcp_authz_allow_total", known, *policy) >= 1
            assert counted(orders, "inbound_tcp_authz_deny_total", unknown, policy[0]) >= 1
            assert counted(orders, "inbound_tcp_authz_allow_total", unknown) == 0
            nursery.cancel_scope.cancel()


@pytest.mark.parity("R-32")
async def test_a_policy_that_changes_ends_what_it_does_not_permit_and_leaves_the_rest(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(tmp_path, nursery)
            orders = await mesh.inbound("")
            web, carts = await mesh.caller("web"), await mesh.caller("carts")
            streams = {caller: (await mesh.bytes(caller))[0] for caller in (web, carts)}
            assert [await mesh.ask(caller) for caller in (web, carts)] == [200, 200]
            open_before = counted(orders, "tcp_open_connections", 'peer="src"')

            policy = ServerPolicy(loopback=False, authorizations=(Authorization("web", identities=("web.shop",)),))
            orders.policies["inbound"].replace(policy)

            assert await mesh.rest(streams[carts]) == b""
            await streams[web].send_all(b"more")
            assert await mesh.rest(streams[web]) == b"more"
            # HTTP connections are kept; their next request is judged anew.
            assert [await mesh.ask(caller) for caller in (web, carts)] == [200, 403]
            assert counted(orders, "inbound_tcp_authz_terminate_total", 'client_id="carts.shop"') == 1
            assert counted(orders, "inbound_tcp_authz_terminate_total") == 1
            assert counted(orders, "tcp_open_connections", 'peer="src"') == open_before - 1
            assert orders.crashes == 0
            for stream in streams.values():
                await stream.aclose()
            nursery.cancel_scope.cancel()


ROUTES = """
default_policy = "deny"
[[inbound.route]]
name = "admin"
match = [{ path = { prefix = "/admin" } }]
rate_limit = { rps = 2 }
[[inbound.route]]
name = "site"
match = [{ path = { prefix = "/site" } }]
[[inbound.policy]]
name = "ops"
identities = ["ops.shop"]
routes = ["admin"]
[[inbound.policy]]
name = "anybody"
mesh_tls = true
routes = ["site"]
"""


@pytest.mark.parity("R-31", "U-05")
async def test_a_route_is_found_then_who_asks_then_how_often(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(tmp_path, nursery)
            orders = await mesh.inbound(ROUTES)
            ops, web = await mesh.caller("ops"), await mesh.caller("web")

            async def ask(caller: meshcore.Proxy, path: bytes) -> int:
                return await mesh.ask(caller, path=path)

            # Whoever may not ask uses nothing up.
            assert [await ask(web, b"/admin/x") for _ in range(5)] == [403] * 5
            assert [await ask(ops, b"/admin/x") for _ in range(4)] == [200, 200, 429, 429]
            assert [await ask(caller, b"/site") for caller in (ops, web)] == [200, 200]
            # What there is not is not there for anybody.
            assert [await ask(caller, b"/other") for caller in (ops, web)] == [404, 404]
            stream, back = await mesh.bytes(ops)
            assert back == b""
            await stream.aclose()
            route = 'route_kind="route",route_name="admin"'
            assert counted(orders, "inbound_http_authz_deny_total", route, 'client_id="web.shop"') == 5
            assert counted(orders, "inbound_http_authz_allow_total", route, 'authz_name="ops"') == 4
            assert counted(orders, "inbound_http_local_ratelimit_total", 'ratelimit_name="inbound/admin"') == 2
            nursery.cancel_scope.cancel()


async def test_what_a_request_has_become_is_judged_again_like_a_connection(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(tmp_path, nursery)
            orders = await mesh.inbound("")

            async def upgrade(host: str) -> trio.SocketStream:
                stream = await trio.open_tcp_stream("127.0.0.1", mesh.port, local_address=host)
                await stream.send_all(
                    b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
                )
                assert (await mesh.rest(stream)).startswith(b"HTTP/1.1 101 ")
                await stream.send_all(b"hello")
                assert await mesh.rest(stream) == b"hello"
                return stream

            kept, lost = await upgrade("127.0.0.1"), await upgrade("127.0.0.2")
            here = Authorization("here", networks=("127.0.0.1/32",), unauthenticated=True)
            orders.policies["inbound"].replace(ServerPolicy(loopback=False, authorizations=(here,)))

            assert await mesh.rest(lost) == b""
            await kept.send_all(b"more")
            assert await mesh.rest(kept) == b"more"
            assert counted(orders, "inbound_tcp_authz_terminate_total") == 1
            assert len(orders.policies["inbound"]) == 1
            await kept.aclose()
            await lost.aclose()
            while len(orders.policies["inbound"]):
                await trio.sleep(0.01)
            assert orders.crashes == 0
            nursery.cancel_scope.cancel()


@pytest.mark.parity("R-30", "R-33")
async def test_a_stranger_is_judged_by_where_it_comes_from(tmp_path: Path) -> None:
    policy = '[[inbound.policy]]\nnetworks = ["127.0.0.0/8"]\nexcept = ["127.0.0.2/32"]\nunauthenticated = true\n'
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            mesh = Mesh(tmp_path, nursery)
            await mesh.inbound(policy)

            async def ask(host: str) -> Any:
                stream = await trio.open_tcp_stream("127.0.0.1", mesh.port, local_address=host)
                async with stream:
                    await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    return (await stream.receive_some())[:12]

            assert [await ask(host) for host in ("127.0.0.1", "127.0.0.2")] == [b"HTTP/1.1 200", b"HTTP/1.1 403"]
            nursery.cancel_scope.cancel()
