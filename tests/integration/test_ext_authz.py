"""External authorization from the config file to the wire: a gateway and a sidecar that ask another service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

import meshcore
from meshcore import Headers, Request, Response
from meshcore.grpc.framing import frame
from meshcore.grpc.protobuf import nested, number, strings, text
from meshcore.http.body import Full, read_all
from meshcore.http.grpc import status_fields
from meshcore.transport.tcp import open_listeners

GATEWAY = """
[listen.public]
bind = "127.0.0.1:0"
to = [{{ backend = "app" }}]
ext_authz = {{ {authz} }}
[backend.app]
endpoints = ["127.0.0.1:{port}"]
[admin]
listen = "off"
"""
SIDECAR = """
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{port}"
ext_authz = {{ {authz} }}
[admin]
listen = "off"
"""
Serve = Callable[[Request], Awaitable[Response]]


class Fixed:
    def __init__(self, service: Serve) -> None:
        self.service = service

    def new_service(self, target: object, nursery: trio.Nursery, /) -> Serve:
        return self.service


async def serving(nursery: trio.Nursery, service: Serve) -> int:
    """Serves on a free port."""
    listeners = await open_listeners("127.0.0.1", 0)
    new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(service))
    await nursery.start(partial(meshcore.serve, new_accept, listeners, upstreams=nursery))
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def application(request: Request) -> Response:
    """Says who it was told that the user is."""
    body = request.headers.get(b"x-user") or b"nobody"
    return Response(200, Headers([(b"content-length", b"%d" % len(body))]), Full(body))


async def over_grpc(request: Request) -> Response:
    """Lets /open pass, as alice."""
    assert b"/envoy.service.auth.v3.Authorization/Check" == request.path
    message = (await read_all(request.body))[5:]
    http = strings(strings(strings(strings(message)[1])[4])[2])
    if http[4] == b"/open":
        user = nested(2, nested(1, text(1, "x-user") + text(2, "alice")))
        answer = nested(1, b"") + nested(3, user)
    else:
        answer = nested(1, number(1, 7)) + nested(2, nested(1, number(1, 401)) + text(3, "who are you?"))
    return Response(200, Headers([(b"content-type", b"application/grpc")]), Full(frame(answer), status_fields(0)))


async def over_http(request: Request) -> Response:
    """The same."""
    if request.path == b"/check/open":
        return Response(200, Headers([(b"x-user", b"alice"), (b"content-length", b"0")]))
    return Response(401, Headers([(b"content-length", b"12")]), Full(b"who are you?"))


WAYS = {
    "grpc": (over_grpc, 'grpc = "127.0.0.1:{port}", timeout = "5s"'),
    "http": (
        over_http,
        'http = "http://127.0.0.1:{port}", path_prefix = "/check", copy_headers = ["x-user"], timeout = "5s"',
    ),
}


async def get(port: int, path: str, *headers: str) -> tuple[int, bytes, bytes]:
    """Status, head and body of a request on a connection of its own."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        lines = [f"GET {path} HTTP/1.1", "host: shop.test", "connection: close", *headers]
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        data = b"".join([chunk async for chunk in stream])
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


@pytest.mark.parametrize("kind", [GATEWAY, SIDECAR], ids=["gateway", "sidecar"])
@pytest.mark.parametrize("way", WAYS)
async def test_requests_pass_or_not_as_another_service_says(tmp_path: Path, kind: str, way: str) -> None:
    authz, key = WAYS[way]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            asked = key.format(port=await serving(nursery, authz))
            path = tmp_path / "meshcore.toml"
            path.write_text(kind.format(port=await serving(nursery, application), authz=asked))
            proxy: meshcore.Proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(path))
            ((_, port),) = next(iter(proxy.listeners.values()))

            assert (200, b"alice") == (await get(port, "/open", "x-user: mallory"))[::2]
            status, _, body = await get(port, "/closed")
            assert (401, b"who are you?") == (status, body)
            text = proxy.registry.render()
            assert 'inbound_http_ext_authz_total{result="allowed"} 1\n' in text
            assert 'inbound_http_ext_authz_total{result="denied"} 1\n' in text

            # What is not HTTP cannot be asked about, and does not pass.
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"\x00\x01\x02 no HTTP at all")
            with pytest.raises((trio.BrokenResourceError, AssertionError)):
                assert await stream.receive_some() != b""
            await stream.aclose()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
async def test_without_the_service_requests_are_refused_unless_that_is_said(
    tmp_path: Path, on_error: str, status: int
) -> None:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            path = tmp_path / "meshcore.toml"
            asked = f'grpc = "http://127.0.0.1:1", on_error = "{on_error}"'
            path.write_text(GATEWAY.format(port=await serving(nursery, application), authz=asked))
            proxy: meshcore.Proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(path))
            ((_, port),) = proxy.listeners["public"]

            found, head, _ = await get(port, "/")
            assert status == found
            if status == 503:
                assert b"x-meshcore-error: authorization-unavailable" in head
                # It names the service, and what is wrong with it.
                assert b"external authorization 127.0.0.1:1: unavailable" in head
                assert b"refused" in head
            nursery.cancel_scope.cancel()


MESHED = """
[service]
name = "{name}"
namespace = "shop"
[identity]
mode = "dev"
directory = "state"
[inbound]
listen = "127.0.0.1:0"
forward = "127.0.0.1:{port}"
default_policy = "{policy}"
{more}
[admin]
listen = "off"
"""


@pytest.mark.parametrize(("identity", "status"), [("authz.shop", 200), ("other.shop", 503)])
@pytest.mark.parametrize("way", WAYS)
async def test_the_service_can_be_one_of_the_mesh_and_has_to_be_who_was_named(
    tmp_path: Path, way: str, identity: str, status: int
) -> None:
    authz, key = WAYS[way]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def sidecar(name: str, port: int, policy: str, more: str = "") -> int:
                path = tmp_path / f"{name}.toml"
                path.write_text(MESHED.format(name=name, port=port, policy=policy, more=more))
                proxy: meshcore.Proxy = await nursery.start(meshcore.serve_config, meshcore.load_config(path))
                found: int = proxy.listeners["inbound"][0][1]
                return found

            # The guard's own identity lets it in there.
            there = await sidecar("authz", await serving(nursery, authz), "all-authenticated")
            asked = f'ext_authz = {{ {key.format(port=there)}, identity = "{identity}" }}'
            port = await sidecar("app", await serving(nursery, application), "all-unauthenticated", asked)

            found, _, body = await get(port, "/open")
            assert status == found
            assert status != 200 or body == b"alice"
            nursery.cancel_scope.cancel()
