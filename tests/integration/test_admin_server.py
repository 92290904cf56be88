"""The admin server of a sidecar: TLS beside plaintext, who may ask, tap over a mesh, and its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.abc import HttpService
from meshcore.client.http import Http
from meshcore.errors import ConfigError
from meshcore.http.body import Full, read_all
from meshcore.http.headers import Headers
from meshcore.http.message import Request, Response
from meshcore.layers.tap import TapFilter
from meshcore.layers.tls import Tls
from meshcore.proxy import Proxy
from meshcore.running.admin import admin_service
from meshcore.stack import stack
from meshcore.testing import MemoryMesh, request
from meshcore.transport.drain import Drain
from meshcore.transport.target import Endpoint, TlsClient

SIDECAR = """
[service]
name = "{name}"
namespace = "shop"
[identity]
mode = "dev"
[inbound]
listen = "{name}:4143"
forward = "{name}:8000"
[outbound]
listen = "{name}:4140"
[outbound.to."orders:80"]
endpoints = ["orders:4143"]
identity = "orders.shop"
[admin]
{admin}
"""
OPEN = 'listen = "{name}:4191"\nopen = ["/live", "/ready", "/metrics"]'
LOCAL = 'listen = "127.0.0.{number}:4191"'


async def application(sent: Request) -> Response:
    if sent.path == b"/slow":
        await trio.sleep(0.5)
    if sent.path == b"/fail":
        return Response(503, body=Full(b"no"))
    if sent.headers.get(b"content-type") == b"application/grpc":
        await read_all(sent.body)
        fields = Headers([(b"content-type", b"application/grpc")])
        return Response(200, fields, Full(b"\0\0\0\0\0", [(b"grpc-status", b"5")]))
    return Response(200, Headers([(b"set-cookie", b"id=1")]), Full(b"hello"))


class World:
    """Web, which calls, and orders, which answers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.mesh = MemoryMesh(nursery)
        self.nursery = nursery

    async def start(self, web: str = "", orders: str = "", drain: Drain | None = None) -> None:
        await self.mesh.serve(("orders", 8000), application)
        self.web = await self.sidecar("web", web or LOCAL.format(number=1))
        self.orders = await self.sidecar("orders", orders or LOCAL.format(number=2), drain)
        self.application = self.mesh.client(("web", 4140))

    async def sidecar(self, name: str, admin: str, drain: Drain | None = None) -> Proxy:
        return await self.mesh.start(SIDECAR.format(name=name, admin=admin), drain=drain)

    async def call(self, path: bytes = b"/", **options: Any) -> int:
        answer = await self.application(request(path=path, authority=b"orders", **options))
        await read_all(answer.body)
        return answer.status

    def plain(self, address: tuple[str, int]) -> HttpService:
        return self.mesh.client(address)

    def meshed(self, address: tuple[str, int], of: Proxy, identity: str = "orders.shop") -> HttpService:
        """A client that shows the certificate of a proxy."""
        client = stack(Endpoint).then(Http()).then(Tls(identity=of.identity)).layer(self.mesh.network.connect)
        tls = TlsClient(identity, mesh=True, identity=identity, alpn=("http/1.1",))
        return client.new_service(Endpoint(address, "http/1", tls=tls), self.nursery)

    def sidecar_of(self, address: tuple[str, int], of: Proxy) -> HttpService:
        """A client that is a sidecar itself, as a meshed Prometheus has one: HTTP/2 by prior knowledge."""
        client = stack(Endpoint).then(Http()).then(Tls(identity=of.identity)).layer(self.mesh.network.connect)
        tls = TlsClient("orders.shop", mesh=True, identity="orders.shop")
        return client.new_service(Endpoint(address, tls=tls, mesh_proxy=True), self.nursery)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


async def get(client: HttpService, path: bytes, method: bytes = b"GET", **fields: str) -> Response:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return await client(request(method, path, authority=b"localhost", headers=headers))


async def text(client: HttpService, path: bytes, **fields: str) -> tuple[int, str]:
    answer = await get(client, path, **fields)
    return answer.status, (await read_all(answer.body)).decode()


async def events(stream: Response, count: int | None = None) -> list[dict[str, Any]]:
    """The first of a stream, or all of it."""
    found: list[dict[str, Any]] = []
    async for chunk in stream.body:
        found += map(json.loads, chunk.splitlines())
        if count is not None and len(found) >= count:
            break
    return found


# ----- tap -----


@pytest.mark.parity("X-43", "X-41")
async def test_both_sides_of_a_request_are_seen_with_the_identities_of_both(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    here = await get(world.plain(("127.0.0.1", 4191)), b"/tap?headers=1")
    there = await get(world.plain(("127.0.0.2", 4191)), b"/tap?headers=1")
    assert 200 == await world.call(b"/v1?token=abc", headers=[(b"authorization", b"Bearer x"), (b"x-a", b"<b>")])

    outbound, inbound = await events(here, 3), await events(there, 3)
    assert [["request_init", "response_init", "response_end"]] * 2 == [
        [event["event"] for event in side] for side in (outbound, inbound)
    ]
    sent, answered, ended = outbound
    assert ("outbound", None, None) == (sent["direction"], sent["source"]["identity"], sent["target"]["addr"])
    assert ("orders.shop", True, "orders:80") == (
        answered["target"]["identity"], answered["secured"], answered["backend"]
    )  # fmt: skip
    assert (200, 5, False, 0) == (ended["status"], ended["response_bytes"], ended["failed"], ended["retries"])
    came, passed, _ = inbound
    assert ("inbound", "web.shop", True) == (came["direction"], came["source"]["identity"], came["secured"])
    assert ("orders:8000", "application") == (passed["target"]["addr"], passed["backend"])
    assert ["/v1?token=***"] * 6 == [event["path"] for event in (*outbound, *inbound)]
    assert ["authorization", "***"] in sent["headers"]
    assert ["x-a", "<b>"] in sent["headers"]
    assert ["set-cookie", "***"] in answered["response_headers"]


@pytest.mark.parity("X-44")
async def test_a_grpc_status_passes_both_proxies_and_is_seen_at_both(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    async with world.web.tap() as here, world.orders.tap() as there:
        await world.call(b"/a.B/C", method=b"POST", version=20, headers=[(b"content-type", b"application/grpc")])
        for side in (here, there):
            *_, ended = [await side.receive() for _ in range(3)]
            assert (200, 5, ["grpc-status"]) == (ended["status"], ended["grpc_status"], ended["trailers"])


async def test_an_embedder_looks_on_with_a_filter(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    async with world.orders.tap(TapFilter(source="web.shop", slower_than=0.2), limit=1) as seen:
        await world.call()
        await world.call(b"/slow")
        assert ["/slow"] * 3 == [event["path"] async for event in seen]
    assert not world.orders.taps.wanted


async def test_what_the_proxy_itself_answers_is_seen_as_its_client_sees_it(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    async with world.web.tap(TapFilter(failed=True)) as seen:
        await world.application(request(authority=b"nowhere"))
        assert 503 == await world.call(b"/fail")
        *_, ended = [await seen.receive() for _ in range(3)]
        assert (503, "/fail") == (ended["status"], ended["path"])
    async with world.web.tap(TapFilter(status="404")) as seen:
        await world.application(request(authority=b"nowhere"))
        *_, ended = [await seen.receive() for _ in range(3)]
        assert (404, "no-route", None) == (ended["status"], ended["error"], ended["backend"])


@pytest.mark.parity("X-42")
async def test_tap_rejects_incorrect_identity_when_identity_is_expected(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start(orders='listen = "orders:4191"\ntap = "authorized"\ntap_identities = ["web.shop"]')
    stranger = await world.sidecar("eve", 'listen = "off"')
    assert 403 == (await get(world.plain(("orders", 4191)), b"/tap")).status
    assert 403 == (await get(world.meshed(("orders", 4191), stranger), b"/tap")).status
    for client in (world.meshed(("orders", 4191), world.web), world.sidecar_of(("orders", 4191), world.web)):
        stream = await get(client, b"/tap?limit=1")
        assert 200 == stream.status
        await world.call()
        assert 3 == len(await events(stream))


@pytest.mark.parity("X-41")
async def test_tap_disabled_when_off(world: World, autojump_clock: MockClock) -> None:
    await world.start(orders=LOCAL.format(number=2) + '\ntap = "off"')
    assert 404 == (await get(world.plain(("127.0.0.2", 4191)), b"/tap")).status


async def test_a_stream_of_events_ends_in_order_when_the_proxy_does(world: World, autojump_clock: MockClock) -> None:
    drain = Drain()
    await world.start(drain=drain)
    stream = await get(world.plain(("127.0.0.2", 4191)), b"/tap")
    await world.call()
    drain.start("test")
    assert 3 == len(await events(stream))


async def test_requests_that_end_during_a_drain_are_still_seen(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    drain = Drain()
    await world.start(drain=drain)
    stream = await get(world.plain(("127.0.0.2", 4191)), b"/tap")
    nursery.start_soon(world.call, b"/slow")
    await trio.sleep(0.1)
    drain.start("test")
    assert ["request_init", "response_init", "response_end"] == [event["event"] for event in await events(stream)]


# ----- who may ask -----


@pytest.mark.parity("M-20")
async def test_tls_and_plaintext_are_told_apart_and_certificates_open_what_is_closed(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start(orders=OPEN.format(name="orders") + '\nidentities = ["web.shop"]')
    stranger = await world.sidecar("eve", 'listen = "off"')
    plain = world.plain(("orders", 4191))
    for page in (b"/live", b"/ready", b"/metrics"):
        assert 200 == (await get(plain, page)).status
    assert (403, "the admin server does not know this client\n") == await text(plain, b"/stack")
    assert 403 == (await get(world.meshed(("orders", 4191), stranger), b"/stack")).status
    friend = world.meshed(("orders", 4191), world.web)
    assert 200 == (await get(friend, b"/stack")).status
    assert 200 == (await get(world.sidecar_of(("orders", 4191), world.web), b"/stack", )).status


@pytest.mark.parametrize("asked", [True, False])
async def test_a_certificate_of_its_own_needs_no_identity_of_the_proxy(
    world: World, tmp_path: Path, asked: bool, autojump_clock: MockClock
) -> None:
    await world.start()
    authority = world.mesh.authority
    cert, key = authority.issue("admin.shop", now=world.mesh.now(), days=365)
    for name, data in (("cert", cert), ("key", key), ("ca", authority.cert_pem())):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "token").write_text("0123456789abcdef")
    ca = f', client_ca = "{tmp_path / "ca"}"' if asked else ""
    names = '\nidentities = ["web.shop"]' if asked else ""
    await world.mesh.start(
        '[listen.public]\nbind = "gateway:80"\nto = [{ backend = "b" }]\n[backend.b]\nendpoints = ["orders:8000"]\n'
        f'[admin]\nlisten = "gateway:4191"\ntoken = "{tmp_path / "token"}"{names}\n'
        f'tls = {{ cert = "{tmp_path / "cert"}", key = "{tmp_path / "key"}"{ca} }}\n'
    )
    gateway = ("gateway", 4191)
    assert [200, 401] == [(await get(world.plain(gateway), path)).status for path in (b"/live", b"/stack")]
    secured = world.meshed(gateway, world.web, "admin.shop")
    assert (200 if asked else 401) == (await get(secured, b"/stack")).status
    assert 200 == (await get(secured, b"/stack", authorization="Bearer 0123456789abcdef")).status


async def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(
    world: World, tmp_path: Path, autojump_clock: MockClock
) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text("nothing of that kind")
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await MemoryMesh(nursery).start(
                f'[listen.public]\nbind = "gateway:80"\nto = [{{ backend = "b" }}]\n[backend.b]\n'
                f'endpoints = ["orders:8000"]\n[admin]\ntls = {{ cert = "{tmp_path / "cert"}", '
                f'key = "{tmp_path / "key"}" }}\n'
            )
    assert caught.group_contains(ConfigError, match="cert", depth=1)


async def test_a_token_is_enough_from_anywhere(world: World, tmp_path: Path, autojump_clock: MockClock) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    await world.start(orders=f'listen = "orders:4191"\ntoken = "{token}"')
    plain = world.plain(("orders", 4191))
    assert (200, 401) == ((await get(plain, b"/ready")).status, (await get(plain, b"/metrics")).status)
    assert 200 == (await get(plain, b"/metrics", authorization="Bearer 0123456789abcdef")).status
    status, config = await text(plain, b"/config", authorization="Bearer 0123456789abcdef")
    assert 200 == status
    assert "0123456789abcdef" not in config


def _ageless(answer: tuple[int, str]) -> tuple[int, str]:
    return answer[0], re.sub(r'"age_seconds": [0-9.]+', "", answer[1])


async def test_no_get_changes_anything(world: World, autojump_clock: MockClock) -> None:
    await world.start(orders=LOCAL.format(number=2) + "\nshutdown = true")
    admin = admin_service(world.orders)
    client = world.plain(("127.0.0.2", 4191))
    before = await text(client, b"/config")
    for path in admin.paths:
        for method in (b"GET", b"HEAD"):
            query = b"?seconds=1" if path == "/tap" else b""
            answer = await get(client, path.encode() + query, method)
            answer.body.abort()
    assert not world.orders.drain.started
    assert _ageless(before) == _ageless(await text(client, b"/config"))
    assert {"/live", "/ready", "/metrics", "/stack", "/config", "/tap", "/reload", "/shutdown"} <= set(admin.paths)


@pytest.mark.parametrize("path", [b"/shutdown", b"/reload"])
@pytest.mark.parametrize("fields", [{"origin": "http://evil.test"}, {"sec_fetch_site": "cross-site"}])
async def test_a_web_page_cannot_make_a_browser_change_anything(
    world: World, path: bytes, fields: dict[str, str], autojump_clock: MockClock
) -> None:
    await world.start(orders=LOCAL.format(number=2) + "\nshutdown = true")
    answer = await get(world.plain(("127.0.0.2", 4191)), path, b"POST", **fields)
    assert answer.status in (403, 404)
    assert not world.orders.drain.started


# ----- its own traffic, and its end -----


def counted(metrics: str, family: str, **labels: str) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith(f"{family}{{") and all(f'{name}="{value}"' in line for name, value in labels.items())
    )


@pytest.mark.parity("X-45")
async def test_admin_traffic_is_counted_under_its_own_labels_and_not_as_the_workloads(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    client = world.plain(("127.0.0.2", 4191))
    for path in (b"/ready", b"/ready", b"/nothing"):
        await read_all((await get(client, path)).body)
    await world.call()
    _, metrics = await text(client, b"/metrics")
    mine = {"direction": "admin", "target_port": "4191", "listener": "admin"}
    assert 4 == counted(metrics, "request_total", **mine)
    assert 2 == counted(metrics, "response_total", status_code="200", classification="success", **mine)
    assert 1 == counted(metrics, "response_total", status_code="404", **mine)
    assert 1 == counted(metrics, "tcp_open_total", direction="admin", target_port="4191", peer="src")
    assert counted(metrics, "tcp_read_bytes_total", direction="admin", peer="src") > 0
    assert 1 == counted(metrics, "request_total", direction="inbound")


@pytest.mark.parity("L-05", "M-20")
async def test_during_a_drain_new_connections_are_answered_and_it_is_not_ready(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    drain = Drain()
    await world.start(drain=drain)
    nursery.start_soon(world.call, b"/slow")
    await trio.sleep(0.1)
    drain.start("test")
    await wait_all_tasks_blocked()
    for path, expected in ((b"/live", 200), (b"/metrics", 200), (b"/ready", 503), (b"/stack", 200)):
        # Each over a connection of its own.
        assert expected == (await get(world.plain(("127.0.0.2", 4191)), path)).status
    await trio.sleep(3)
    with pytest.raises(Exception, match="refused"):
        await get(world.plain(("127.0.0.2", 4191)), b"/live")


async def test_who_never_reads_does_not_keep_a_probe_from_its_answer(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    address = ("127.0.0.2", 4191)
    world.mesh.network.faults(address).response.capacity = 100
    silent = []
    for _ in range(300):
        stream = await world.mesh.network.open_stream(address)
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
        silent.append(stream)
    await wait_all_tasks_blocked()
    world.mesh.network.heal()
    assert world.orders.admin is not None
    assert world.orders.admin.open_connections <= 65
    with trio.fail_after(15):
        while (await get(world.plain(address), b"/live")).status != 200:
            await trio.sleep(1)
    await trio.sleep(60)
    assert world.orders.admin.open_connections <= 2
