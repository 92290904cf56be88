"""The layers' accounts in a running proxy: on its admin pages, in its metrics, over reloads."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore import Proxy, Request, Response
from meshcore.http.body import read_all
from meshcore.testing import MemoryMesh, mock_service, request
from meshcore.transport.target import Endpoint

PUBLIC, BLUE, NOWHERE, ADMIN = ("127.0.0.1", 8080), ("10.0.0.1", 80), ("10.0.0.9", 80), ("127.0.0.1", 4191)
CONFIG = """
[listen.public]
bind = "127.0.0.1:8080"
retry = { limit = 2, on = ["5xx", "connect-failure"] }
[[listen.public.route]]
match = [{ path = { prefix = "/off" } }]
filters = [{ redirect = { host = "elsewhere.test" } }]
to = [{ backend = "blue" }]
[[listen.public.route]]
to = [{ backend = "blue" }]
[backend.blue]
endpoints = ["10.0.0.1:80"]
[admin]
listen = "127.0.0.1:4191"
"""


class World:
    """A gateway, its backend, and whoever asks."""

    def __init__(self, nursery: trio.Nursery, *script: Any) -> None:
        self.mesh = MemoryMesh(nursery)
        self.backend = mock_service(*script)
        self.proxy: Proxy

    async def start(self, config: str = CONFIG) -> None:
        await self.mesh.serve(BLUE, self.backend)
        self.proxy = await self.mesh.start(config)
        self.client = self.mesh.client(PUBLIC)

    async def ask(self, path: bytes = b"/", version: int = 11) -> int:
        answer = await self.client(request(path=path, version=version))
        await read_all(answer.body)
        return answer.status

    async def admin(self, path: bytes, accept: bytes = b"*/*") -> str:
        asked = Request(b"GET", b"http", b"127.0.0.1", path)
        asked.headers.add(b"accept", accept)
        answer: Response = await self.mesh.client(ADMIN)(asked)
        assert 200 == answer.status
        return (await read_all(answer.body)).decode()

    async def accounts(self) -> dict[str, dict[str, Any]]:
        """The accounts of /stack by the layers' roles."""
        found: dict[str, dict[str, Any]] = {}

        def look(layers: list[dict[str, Any]]) -> None:
            for layer in layers:
                found[layer["role"]] = layer.get("account", {})
                for branch in layer.get("branches", {}).values():
                    look(branch)

        look(json.loads(await self.admin(b"/stack"))["public"]["layers"])
        return found

    def metric(self, name: str, /, **labels: str) -> float | None:
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        for line in self.proxy.registry.render().splitlines():
            if line.startswith(f"{name}{wanted} "):
                return float(line.rpartition(" ")[2])
        return None


@pytest.fixture
async def world(nursery: trio.Nursery, autojump_clock: MockClock) -> World:
    return World(nursery, 503, 200)


@pytest.mark.parametrize("version", [11, 20])
async def test_the_stack_tells_what_each_layer_has_done(world: World, version: int) -> None:
    await world.start()
    assert [200, 200, 301] == [await world.ask(path, version) for path in (b"/", b"/", b"/off")]
    found = await world.accounts()
    assert {"calls": 3, "outcomes": {"2xx": 2, "3xx": 1}} == {
        key: found["server_metrics"][key] for key in ("calls", "outcomes")
    }
    # The filter redirected one, and is not there for the other route, whose two went on, one of them twice.
    assert ({"redirect": 1}, {"error": 1}) == (found["filters"]["errors"], found["filters"]["outcomes"])
    assert 1 == found["rescue"]["answered"]
    assert (2, 1, {"2xx": 2}) == tuple(found["retry"][key] for key in ("calls", "repeated", "outcomes"))
    assert (3, {"2xx": 2, "5xx": 1}) == (found["balance"]["calls"], found["balance"]["outcomes"])
    assert {0} == {account["in_flight"] for role, account in found.items() if account and role not in CONNECTION}
    # The application's connection is still there, and each layer above requests has it.
    assert [(1, 1)] * 3 == [(found[role]["calls"], found[role]["in_flight"]) for role in CONNECTION[:3]]
    assert {"done": found["tls"]["calls"]} == found["tls"]["outcomes"] == found["connect_timeout"]["outcomes"]
    assert 0 == found["opaque_balance"]["calls"]


CONNECTION = ("tcp_errors", "tcp_metrics", "detect", "serve_http")


async def test_the_text_of_the_stack_has_the_figures_in_columns_before_the_tree(world: World) -> None:
    await world.start()
    for _ in range(2):
        await world.ask()
    text = await world.admin(b"/stack", b"text/plain")
    lines = text.splitlines()
    assert lines[0] == "public"
    assert lines[1].split() == ["calls", "in", "flight", "mean", "self", "done", "2xx", "5xx", "repeated", "layer"]
    column = lines[1].index("layer")
    (retry,) = [line for line in lines if "└─ Retry(" in line]
    assert retry[:column].split()[:2] == ["2", "0"]
    assert retry[:column].split()[-1] == "1"
    assert {line[column - 1] for line in lines[2:] if "└─" in line} == {" "}
    # The tree is what it is everywhere.
    printed = repr(world.proxy.stacks["public"]).splitlines()[1:]
    assert printed == [line[column:] for line in lines[2 : 2 + len(printed)]]


async def test_an_endpoint_that_refuses_is_told_where_that_was_raised(world: World) -> None:
    await world.start(CONFIG.replace("10.0.0.1:80", "10.0.0.9:80"))
    assert 500 <= await world.ask()
    found = await world.accounts()
    assert 0 < found["connect_timeout"]["raised"] == found["connect_timeout"]["outcomes"]["error"]
    # Those above only let it pass.
    assert [0, 0] == [found[role]["raised"] for role in ("tls", "connect_metrics")]
    assert "raised: connect-failed" in await world.admin(b"/stack", b"text/plain")


@pytest.mark.parity("M-06")
async def test_the_accounts_are_metrics_beside_the_services_that_were_made(world: World) -> None:
    await world.start()
    for _ in range(3):
        await world.ask()
    place = {"pipeline": "public", "layer": "balance"}
    assert 3 == world.metric("stack_layer_requests_total", **place, outcome="2xx")
    assert 1 == world.metric("stack_layer_requests_total", **place, outcome="5xx")
    assert 0 == world.metric("stack_layer_in_flight", **place)
    assert world.metric("stack_layer_seconds_total", **place) is not None
    assert world.metric("stack_layer_self_seconds_total", **place) is not None
    # Scraped again, nothing is counted twice.
    assert 3 == world.metric("stack_layer_requests_total", **place, outcome="2xx")
    detect = {"direction": "inbound", "protocol": "tcp", "name": "detect"}
    assert (1, 0) == (world.metric("stack_create_total", **detect), world.metric("stack_drop_total", **detect))
    assert 1 == world.metric("stack_create_total", direction="inbound", protocol="http", name="balance")


async def test_accounts_outlive_a_reload_that_changes_the_pipeline(world: World) -> None:
    from meshcore.config import parse_config

    await world.start()
    for _ in range(3):
        await world.ask()
    limited = CONFIG.replace("bind =", "rate_limit = { rps = 100 }\nbind =")
    await world.proxy.reload(parse_config(limited))
    for _ in range(2):
        await world.ask()
    found = await world.accounts()
    assert [5, 5, 6] == [found[role]["calls"] for role in ("server_metrics", "retry", "balance")]
    assert 2 == found["rate_limit"]["calls"]
    assert 1 == found["retry"]["repeated"]


async def test_without_accounting_there_is_none(world: World) -> None:
    await world.start(CONFIG + "[proxy]\nlayer_accounting = false\n")
    assert 200 == await world.ask()
    assert {"{}"} == {str(account) for account in (await world.accounts()).values()}
    assert world.metric("trio_tasks") is not None
    assert "stack_" not in world.proxy.registry.render()
    assert (await world.admin(b"/stack", b"text/plain")).splitlines()[1].startswith("└─ TcpErrors")


async def test_accounting_is_changed_by_a_restart_alone(world: World) -> None:
    from meshcore.config import parse_config
    from meshcore.errors import ConfigError

    await world.start()
    with pytest.raises(ConfigError, match=r"proxy\.layer_accounting: cannot be changed by a reload"):
        await world.proxy.reload(parse_config(CONFIG + "[proxy]\nlayer_accounting = false\n"))


async def test_the_clients_of_an_embedder_are_accounted_under_their_destination(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = MemoryMesh(nursery)
    await mesh.serve(BLUE, mock_service(200))
    proxy = await mesh.start(
        '[outbound]\nlisten = "127.0.0.1:4140"\n[outbound.to."pay:80"]\nendpoints = ["10.0.0.1:80"]\n'
        '[admin]\nlisten = "off"\n'
    )
    for _ in range(3):
        await proxy.client("pay:80")(request())
    found = proxy.accounts("client pay:80")
    assert found is not None
    assert [3, 3] == [found[place]["calls"] for place in ("retry", "balance")]


BYTES = """
[outbound]
listen = "127.0.0.1:4140"
[outbound.to."db:5432"]
listen = "127.0.0.1:5432"
endpoints = ["{endpoint}"]
protocol = "tcp"
[admin]
listen = "off"
"""


async def pass_bytes(nursery: trio.Nursery, endpoint: str) -> tuple[Proxy, dict[str, dict[str, Any]], Any]:
    async def echo(connection: Any) -> None:
        while data := await connection.receive_some():
            await connection.send_all(data)

    mesh = MemoryMesh(nursery)
    await mesh.serve_bytes(BLUE, echo)
    proxy = await mesh.start(BYTES.format(endpoint=endpoint))
    client = await mesh.network.connect(Endpoint(("127.0.0.1", 5432)))
    await client.send_all(b"ping")
    await trio.sleep(2.0)
    found = proxy.accounts("db:5432")
    assert found is not None
    return proxy, found, client


async def test_connections_are_accounted_in_the_layers_that_carry_them(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    proxy, found, client = await pass_bytes(nursery, "10.0.0.1:80")
    way = ("tcp_errors", "tcp_metrics", "detect", "opaque_balance", "forward")
    assert [(1, 1)] * 5 == [(found[place]["calls"], found[place]["in_flight"]) for place in way]
    assert b"ping" == await client.receive_some()
    client.close()
    await trio.sleep(1.0)
    found = proxy.accounts("db:5432") or {}
    assert [(1, 0, {"done": 1})] * 5 == [
        (found[place]["calls"], found[place]["in_flight"], found[place]["outcomes"]) for place in way
    ]
    # What a layer takes of a connection for itself is what it does before it hands it on.
    assert [0.0] * 4 == [found[place]["self_us"] for place in way[:4]]
    assert 2e6 <= found["forward"]["self_us"] == found["tcp_errors"]["mean_us"]
    assert {"done": found["opaque_tls"]["calls"]} == found["opaque_tls"]["outcomes"]


async def test_a_connection_that_finds_no_endpoint_is_an_error_of_the_balancer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    proxy, found, _client = await pass_bytes(nursery, "10.0.0.9:80")
    await trio.sleep(10.0)
    found = proxy.accounts("db:5432") or {}
    assert (1, 0, {"error": 1}) == tuple(found["opaque_balance"][key] for key in ("calls", "in_flight", "outcomes"))
    assert 1 == found["opaque_balance"]["raised"] == sum(found["opaque_balance"]["errors"].values())
    assert [0, 0] == [found[place]["raised"] for place in ("tcp_errors", "detect")]
    assert 0 == found["forward"]["calls"]
