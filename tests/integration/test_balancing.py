"""Balancing as a config file has it, from an application's request to the endpoint that answers, in memory."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from meshcore.abc import HttpService
from meshcore.http.body import Full, read_all
from meshcore.http.message import Request, Response
from meshcore.metrics import Registry
from meshcore.testing import MemoryMesh, request

HOSTS = ("a", "b", "c", "d")
CONFIG = """
[service]
name = "web"
zone = "west"
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."shop:80"]
endpoints = [
  {{ address = "a:80", zone = "west" }}, {{ address = "b:80", zone = "west" }},
  {{ address = "c:80", zone = "east" }}, {{ address = "d:80", zone = "east" }},
]
{more}
[admin]
listen = "off"
"""


class Shop:
    """Four applications behind one sidecar, each answering with its name."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.mesh = mesh
        self.ill: set[str] = set()
        self.busy: set[str] = set()
        self.checked: Counter[str] = Counter()

    async def start(self, more: str) -> None:
        for host in HOSTS:
            await self.mesh.serve((host, 80), self._application(host))
        self.proxy = await self.mesh.start(CONFIG.format(more=more))
        self.client = self.mesh.client(("127.0.0.1", 4140))

    def _application(self, host: str) -> HttpService:
        async def serve(sent: Request) -> Response:
            await trio.sleep(0.001)
            if sent.path == b"/healthz":
                self.checked[host] += 1
                return Response(503 if host in self.ill else 200)
            return Response(429 if host in self.busy else 200, body=Full(host.encode()))

        return serve

    async def ask(self, count: int = 1, **headers: str) -> Counter[str]:
        seen: Counter[str] = Counter()
        for _ in range(count):
            fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
            response = await self.client(request(authority=b"shop:80", headers=fields))
            seen[(await read_all(response.body)).decode()] += 1
        return seen

    @property
    def registry(self) -> Registry:
        registry: Registry = self.proxy.registry
        return registry


@pytest.fixture
def shop(nursery: trio.Nursery) -> Shop:
    return Shop(MemoryMesh(nursery))


async def test_a_session_stays_where_its_cookie_has_led_it(shop: Shop, autojump_clock: MockClock) -> None:
    await shop.start('balance = { policy = "maglev", hash = { cookie = "session" } }')

    homes = [await shop.ask(5, cookie=f"theme=dark; session={number}") for number in range(40)]

    assert [1] * 40 == [len(home) for home in homes]
    assert set(HOSTS) == {host for home in homes for host in home}
    assert set(HOSTS) == set(await shop.ask(80))


@pytest.mark.parity("B-28")
async def test_the_own_zone_is_preferred_and_another_one_takes_over_when_it_is_lost(
    shop: Shop, autojump_clock: MockClock
) -> None:
    await shop.start("zone_aware = true")
    # Who is connected first gets the first one, wherever it is.
    await shop.ask()
    assert {"a", "b"} == set(await shop.ask(40))

    for host in ("a", "b"):
        shop.mesh.network.faults((host, 80)).connect = "refuse"
    # Until the connections that are kept have gone.
    await trio.sleep(5)
    seen = await shop.ask(40)
    assert {"c", "d"} == set(seen)

    for host in ("a", "b"):
        shop.mesh.network.faults((host, 80)).connect = "accept"
    await trio.sleep(15)
    assert {"a", "b"} == set(await shop.ask(40))


async def test_an_application_that_says_it_is_ill_gets_nothing_until_it_is_well(
    shop: Shop, autojump_clock: MockClock
) -> None:
    await shop.start('health_check = { path = "/healthz", interval = "2s" }')
    assert set(HOSTS) == set(await shop.ask(60))

    shop.ill.add("b")
    await trio.sleep(10)
    assert {"a", "c", "d"} == set(await shop.ask(60))
    assert 'endpoint_healthy{direction="outbound",target_addr="b:80"} 0' in shop.registry.render()
    shop.ill.clear()
    await trio.sleep(10)

    assert set(HOSTS) == set(await shop.ask(60))
    assert min(shop.checked.values()) >= 8


@pytest.mark.parity("B-07")
async def test_an_application_that_asks_for_patience_is_left_in_peace(shop: Shop, autojump_clock: MockClock) -> None:
    await shop.start('balance = { policy = "p2c-penalty-ewma", penalty = "10s" }')
    await shop.ask(40)

    shop.busy.add("c")
    seen = await shop.ask(400)

    assert seen["c"] <= 2
    assert min(seen[host] for host in ("a", "b", "d")) > 80


async def test_the_balancer_shows_itself_in_the_metrics(shop: Shop, autojump_clock: MockClock) -> None:
    await shop.start("")
    await shop.ask(4)

    text = shop.registry.render()

    assert 'outbound_http_balancer_endpoints{backend_name="shop:80",endpoint_state="ready"} 4' in text
    assert 'outbound_http_balancer_p2c_updates_total{backend_name="shop:80",op="Add"} 4' in text
