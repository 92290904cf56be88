"""A whole proxy in one process: bound, served, asked through its admin port, drained."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs
import pytest
import trio

import meshcore
from meshcore.config import Listen, ProxyConfig, proxy_config
from meshcore.errors import ConfigError
from meshcore.http.body import read_all
from meshcore.proxy import Proxy, run
from meshcore.stack import stack
from meshcore.transport.tcp import open_listeners

Call = Callable[[meshcore.Request], Awaitable[meshcore.Response]]


class Fixed:
    def __init__(self, service: Call) -> None:
        self.service = service

    def new_service(self, target: object, nursery: object, /) -> Call:
        return self.service


class World:
    """An upstream that says hello, a proxy before it, and a client."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.drain = meshcore.Drain()
        self.hold: trio.Event | None = None
        self.asked = trio.Event()
        self.proxy: Proxy
        self.done = trio.Event()
        self.connect: meshcore.Connect = meshcore.connect_tcp

    async def start(self, **options: Any) -> None:
        async def hello(request: meshcore.Request) -> meshcore.Response:
            self.asked.set()
            if self.hold is not None:
                await self.hold.wait()
            return meshcore.Response(
                200, meshcore.Headers([(b"content-length", b"5"), (b"x-path", request.path)]), meshcore.Full(b"hello")
            )

        new_accept = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).layer(Fixed(hello))
        upstream = await self.nursery.start(
            partial(meshcore.serve, new_accept, await open_listeners("127.0.0.1"), upstreams=self.nursery)
        )
        port = upstream.addresses[0][1]
        config = proxy_config(["127.0.0.1:0"], [f"127.0.0.1:{port}"], admin="127.0.0.1:0")
        self.proxy = await self.nursery.start(partial(self._run, attrs.evolve(config, **options)))

    async def _run(self, config: ProxyConfig, task_status: Any) -> None:
        await run(config, drain=self.drain, connect=self.connect, task_status=task_status)
        self.done.set()

    def client(self, address: tuple[str, int]) -> Call:
        new_http = stack(meshcore.Endpoint).then(meshcore.Http()).layer(meshcore.connect_tcp)
        return new_http.new_service(meshcore.Endpoint(address), self.nursery)

    async def get(self, path: bytes, *, admin: bool = False, method: bytes = b"GET") -> tuple[int, bytes]:
        address = self.proxy.admin.addresses[0] if admin and self.proxy.admin else self.proxy.addresses[0]
        response = await self.client(address)(meshcore.Request(method, b"http", b"127.0.0.1", path))
        return response.status, await read_all(response.body)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


async def test_requests_pass_to_the_endpoint_and_back(world: World) -> None:
    await world.start()
    assert await world.get(b"/any?x") == (200, b"hello")


async def test_the_admin_server_tells_of_the_proxy_beside_it(world: World) -> None:
    await world.start()
    host, port = world.proxy.addresses[0]
    assert await world.get(b"/ready", admin=True) == (200, f"ready from={host}:{port}\n".encode())
    await world.get(b"/")
    status, metrics = await world.get(b"/metrics", admin=True)
    assert status == 200
    assert b"\nrequest_total{" in metrics
    assert b"\nprocess_start_time_seconds " in metrics
    assert b"\ncrashes_total 0\n" in metrics
    _, config = await world.get(b"/config", admin=True)
    assert json.loads(config)["balance"] == "p2c-ewma"


async def test_the_stack_is_shown_with_what_its_live_services_know(world: World) -> None:
    await world.start()
    await world.get(b"/")
    _, text = await world.get(b"/stack", admin=True)
    told = json.loads(text)["gateway"]
    assert "detect" in [layer["role"] for layer in told["layers"]]
    assert told["live"]["server"]["crashes_total"] == 0
    roles = [service["role"] for tree in told["live"]["services"] for service in tree]
    assert roles[0] == "retry"
    assert "balance" in roles


@pytest.mark.parity("L-03", "L-05")
async def test_a_drain_finishes_what_is_in_flight_and_the_admin_server_answers_until_then(world: World) -> None:
    await world.start()
    world.hold = trio.Event()
    answers: list[tuple[int, bytes]] = []

    async def ask() -> None:
        answers.append(await world.get(b"/slow"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await world.asked.wait()
        world.drain.start("test")
        assert await world.get(b"/ready", admin=True) == (503, b"draining\n")
        assert (await world.get(b"/metrics", admin=True))[0] == 200
        assert not world.done.is_set()
        world.hold.set()
    assert answers == [(200, b"hello")]
    with trio.fail_after(60):
        await world.done.wait()
    with pytest.raises(OSError, match=r"all attempts to connect|refused"):
        await trio.open_tcp_stream(*world.proxy.addresses[0])


@pytest.mark.parity("L-02")
async def test_a_post_to_shutdown_drains_it(world: World) -> None:
    await world.start(admin_shutdown=True)
    assert await world.get(b"/shutdown", admin=True, method=b"POST") == (200, b"shutdown\n")
    with trio.fail_after(60):
        await world.done.wait()


async def test_without_an_admin_server_there_is_none(world: World) -> None:
    await world.start(admin=None)
    assert world.proxy.admin is None
    assert await world.get(b"/") == (200, b"hello")


async def test_two_listeners_serve_the_same_endpoints(world: World) -> None:
    await world.start(listen=(Listen(("127.0.0.1", 0)), Listen(("127.0.0.1", 0), "h2")))
    assert len(set(world.proxy.addresses)) == 2
    assert list(world.proxy.stacks) == ["gateway", "gateway-1"]


async def test_every_address_that_cannot_be_had_is_told_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = proxy_config([f"127.0.0.1:{port}", "127.0.0.1:0"], ["127.0.0.1:9"], admin=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError) as caught:
            await run(config)
    problem = f"cannot listen on 127.0.0.1:{port}: address already in use"
    assert caught.value.problems == [f"--from: {problem}", f"--admin: {problem}"]


async def test_the_access_log_tells_the_time_of_the_wall(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await world.start(access_log="json")
    await world.get(b"/")
    line = ""
    with trio.fail_after(60):
        while not line.endswith("\n"):
            await trio.sleep(0.001)
            line += capsys.readouterr().out
    assert datetime.now(UTC) - datetime.fromisoformat(json.loads(line)["time"]) < timedelta(minutes=1)


async def test_a_crash_in_what_serves_an_endpoint_is_counted(world: World) -> None:
    async def broken(endpoint: object) -> meshcore.Connection:
        raise RuntimeError("no such thing")

    world.connect = broken
    await world.start(fail_fast=0.05)
    assert (await world.get(b"/"))[0] == 504
    _, metrics = await world.get(b"/metrics", admin=True)
    assert b"\ncrashes_total 0\n" not in metrics
