"""Reloads of a running proxy in memory: what changes, what stays, and what never happens."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from meshcore import Proxy, Request, Response
from meshcore.config import parse_config
from meshcore.errors import ConfigError
from meshcore.http.body import Chunks, read_all
from meshcore.http.headers import Headers
from meshcore.testing import MemoryMesh, explore_schedules, request, response

PUBLIC = ("gateway", 80)
BLUE = [("blue-1", 80), ("blue-2", 80)]
GREEN = [("green-1", 80), ("green-2", 80)]

GATEWAY = """
[listen.public]
bind = "gateway:80"
to = [{{ backend = "{to}" }}]
{more}
[backend.blue]
endpoints = {blue}
[backend.green]
endpoints = ["green-1:80", "green-2:80"]
[admin]
listen = "off"
[proxy]
{proxy}
"""


def config(to: str = "blue", *, blue: str = '["blue-1:80", "blue-2:80"]', more: str = "", proxy: str = "") -> Any:
    return parse_config(GATEWAY.format(to=to, blue=blue, more=more, proxy=proxy))


class World:
    """A gateway, two backends with two endpoints each that answer with their names, and who uses it.

    Attributes:
        streams: bodies of the answers to ``/stream``, in order.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.mesh = MemoryMesh(nursery)
        self.nursery = nursery
        self.streams: list[Chunks] = []
        self.delay = 0.01

    async def start(self, first: Any) -> Proxy:
        for host, port in (*BLUE, *GREEN):
            await self.mesh.serve((host, port), self.endpoint(host))
        self.proxy = await self.mesh.start(first)
        return self.proxy

    def endpoint(self, host: str) -> Any:
        async def answer(seen: Request) -> Response:
            if seen.path == b"/stream":
                self.streams.append(Chunks())
                return Response(200, Headers(), self.streams[-1])
            await trio.sleep(self.delay)
            return response(200, host.encode())

        return answer

    def connects(self) -> dict[str, int]:
        return {host: count for (host, _), count in self.mesh.network.connects.items() if host != "gateway"}

    async def ask(self, client: Any, path: bytes = b"/", version: int = 11) -> str:
        answer = await client(request(path=path, version=version))
        body = await read_all(answer.body)
        return f"{answer.status} {body.decode()}"

    def value(self, metric: str) -> float:
        text = self.proxy.registry.render()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(metric))

    def balancers(self) -> dict[str, dict[str, Any]]:
        """The endpoints of each live balancer, by backend and address."""
        found: dict[str, dict[str, Any]] = {}

        def look(tree: Any) -> None:
            for each in tree:
                statistics = each.get("statistics", {})
                if "endpoints" in statistics:
                    endpoints = found.setdefault(statistics["backend"], {})
                    endpoints.update({endpoint["address"][0]: endpoint for endpoint in statistics["endpoints"]})
                for inner in each.get("services", {}).values():
                    look(inner)

        for pipeline in self.proxy.statistics().values():
            for tree in pipeline["services"]:
                look(tree)
        return found


@pytest.mark.parametrize("version", [11, 20])
async def test_a_switch_from_blue_to_green_under_load_fails_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, version: int
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    answers: Counter[str] = Counter()
    after: Counter[str] = Counter()
    switched = False

    async def user() -> None:
        client = world.mesh.client(PUBLIC)
        for _ in range(200):
            into = after if switched else answers
            into[await world.ask(client, version=version)] += 1

    async with trio.open_nursery() as users:
        for _ in range(8):
            users.start_soon(user)
        await trio.sleep(1.0)
        await proxy.reload(config("green"))
        switched = True

    assert {"200 blue-1", "200 blue-2"} == set(answers) - {"200 green-1", "200 green-2"}
    # Connections that were open see the new backend with their next request.
    assert {"200 green-1", "200 green-2"} == set(after)
    assert 1600 == sum(answers.values()) + sum(after.values())
    assert 0 == proxy.all_crashes()
    nursery.cancel_scope.cancel()


async def test_ten_reloads_under_load_fail_nothing_and_make_no_connection_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config())
    answers: Counter[str] = Counter()

    async def user() -> None:
        client = world.mesh.client(PUBLIC)
        for _ in range(300):
            answers[await world.ask(client)] += 1

    async with trio.open_nursery() as users:
        for _ in range(4):
            users.start_soon(user)
        await trio.sleep(0.5)
        before = world.connects()
        for number in range(10):
            await trio.sleep(0.2)
            await proxy.reload(config(more=f'timeout = {{ request = "{10 + number}s" }}'))

    assert {"200 blue-1", "200 blue-2"} == set(answers)
    assert 1200 == sum(answers.values())
    assert before == world.connects()
    endpoints = world.balancers()["blue"]
    # Their statistics go on, too.
    assert 1200 == sum(endpoint["successes"] for endpoint in endpoints.values())
    assert (11, 10) == (proxy.reloader.version, world.value('config_reload_total{result="applied"}'))  # type: ignore[union-attr]
    nursery.cancel_scope.cancel()


@explore_schedules(15)
async def test_no_order_of_tasks_loses_a_request_to_a_reload() -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        proxy = await world.start(config("blue"))
        answers: Counter[str] = Counter()

        async def user(version: int) -> None:
            client = world.mesh.client(PUBLIC)
            for _ in range(20):
                answers[await world.ask(client, version=version)] += 1

        async def operator() -> None:
            for number in range(12):
                blue = '["blue-1:80"]' if number % 2 else '["blue-1:80", "blue-2:80"]'
                await proxy.reload(config("green" if number % 3 else "blue", blue=blue))
                await trio.sleep(0.01)

        async with trio.open_nursery() as tasks:
            for version in (11, 11, 20, 20):
                tasks.start_soon(user, version)
            tasks.start_soon(operator)

        assert 80 == sum(answers.values())
        assert all(answer.startswith("200 ") for answer in answers)
        assert 0 == proxy.all_crashes()
        nursery.cancel_scope.cancel()


async def test_a_stream_goes_on_over_a_reload_that_takes_its_backend_away(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    client = world.mesh.client(PUBLIC, "h2")
    answer = await client(request(path=b"/stream", version=20))
    [stream] = world.streams
    stream.push(b"one")
    assert b"one" == await answer.body.receive_some()

    await proxy.reload(config("green"))

    assert await world.ask(client, version=20) in ("200 green-1", "200 green-2")
    # For much longer than anything else that is drained.
    await trio.sleep(3_600)
    stream.push(b"two")
    assert b"two" == await answer.body.receive_some()
    blue = world.balancers()["blue"]
    assert 1 == sum(endpoint["in_flight"] for endpoint in blue.values())
    stream.push_end()
    assert b"" == await answer.body.receive_some()
    # Then nobody needs them any more.
    await trio.sleep(3)
    assert {"green"} == set(world.balancers())
    assert all(connection.closed for connection in world.mesh.network.connections if connection.peer in BLUE)
    nursery.cancel_scope.cancel()


async def test_an_endpoint_that_comes_or_goes_leaves_the_others_their_connections_and_statistics(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config(blue='["blue-1:80"]'))
    client = world.mesh.client(PUBLIC)
    for _ in range(5):
        assert "200 blue-1" == await world.ask(client)

    await proxy.reload(config(blue='["blue-1:80", "green-1:80"]'))
    await trio.sleep(1)
    answers = Counter([await world.ask(client) for _ in range(40)])
    assert {"200 blue-1", "200 green-1"} == set(answers)
    assert {"blue-1": 1, "green-1": 1} == world.connects()
    assert 5 + answers["200 blue-1"] == world.balancers()["blue"]["blue-1"]["successes"]

    reloaded = await proxy.reload(config(blue='["blue-1:80"]'))
    assert ("applied", "-1 endpoint") == (reloaded.result, reloaded.changes)
    await trio.sleep(1)
    assert {"200 blue-1"} == {await world.ask(client) for _ in range(20)}
    assert {"blue-1"} == set(world.balancers()["blue"])
    assert {"blue-1": 1, "green-1": 1} == world.connects()
    nursery.cancel_scope.cancel()


async def test_another_weight_moves_the_shares_and_no_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config())
    client = world.mesh.client(PUBLIC)
    await world.ask(client)
    await trio.sleep(1)
    connects = world.connects()

    reloaded = await proxy.reload(config(blue='["blue-1:80", { address = "blue-2:80", weight = 0 }]'))

    assert "changed: backend.blue.endpoints[1].weight" == reloaded.changes
    assert {"200 blue-1"} == {await world.ask(client) for _ in range(20)}
    assert connects == world.connects()
    nursery.cancel_scope.cancel()


async def test_a_reload_that_cannot_bind_changes_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    client = world.mesh.client(PUBLIC)
    taken = '[listen.other]\nbind = "green-1:80"\nto = [{ backend = "green" }]\n'
    free = '[listen.third]\nbind = "third:80"\nto = [{ backend = "green" }]\n'

    with pytest.raises(ConfigError, match=r"listen\.other\.bind: address in use"):
        await proxy.reload(config("green", more=taken + free))

    assert await world.ask(client) in ("200 blue-1", "200 blue-2")
    assert ["public"] == list(proxy.listeners)
    # What could be bound is free again.
    world.mesh.network.listen(("third", 80)).close()
    nursery.cancel_scope.cancel()


async def test_listeners_come_and_go_and_one_that_is_renamed_keeps_its_socket(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    client = world.mesh.client(PUBLIC)
    await world.ask(client)
    opened = world.mesh.network.connects[PUBLIC]
    other = '[listen.other]\nbind = "other:80"\nto = [{ backend = "green" }]\n'

    reloaded = await proxy.reload(config("blue", more=other))
    assert "+1 listener" == reloaded.changes
    assert await world.ask(world.mesh.client(("other", 80))) in ("200 green-1", "200 green-2")

    renamed = attrs.evolve(config("blue"), listen={"renamed": config("blue").listen["public"]})
    reloaded = await proxy.reload(renamed)
    assert "+1 listener, -2 listeners" == reloaded.changes
    assert ["renamed"] == list(proxy.listeners)
    assert await world.ask(client) in ("200 blue-1", "200 blue-2")
    assert opened == world.mesh.network.connects[PUBLIC]
    await trio.sleep(1)
    # Its address is free again.
    world.mesh.network.listen(("other", 80)).close()
    nursery.cancel_scope.cancel()


async def test_a_removed_listener_finishes_what_it_has(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    other = '[listen.other]\nbind = "other:80"\nto = [{ backend = "green" }]\n'
    proxy = await world.start(config("blue", more=other))
    client = world.mesh.client(("other", 80), "h2")
    answer = await client(request(path=b"/stream", version=20))

    await proxy.reload(config("blue"))
    await trio.sleep(60)
    world.streams[0].push(b"late")
    assert b"late" == await answer.body.receive_some()
    world.streams[0].push_end()
    assert b"" == await answer.body.receive_some()
    await trio.sleep(5)
    assert ["public"] == list(proxy.listeners)
    assert not proxy._listeners.draining  # type: ignore[union-attr]
    nursery.cancel_scope.cancel()


async def test_what_a_reload_cannot_change_is_refused_whole(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    admin = attrs.evolve(config("green").admin, listen=("127.0.0.1", 1))

    with pytest.raises(ConfigError) as caught:
        await proxy.reload(attrs.evolve(config("green", proxy='engine = "pure"'), admin=admin))

    assert [
        "admin.listen: cannot be changed by a reload; restart the proxy",
        "proxy.engine: cannot be changed by a reload; restart the proxy",
    ] == caught.value.problems
    assert await world.ask(world.mesh.client(PUBLIC)) in ("200 blue-1", "200 blue-2")
    nursery.cancel_scope.cancel()


async def test_the_same_configuration_again_is_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshcore")
    world = World(nursery)
    proxy = await world.start(config())
    build = proxy._listeners.by_name["public"].build  # type: ignore[union-attr]

    reloaded = await proxy.reload(config())

    assert ("unchanged", 1, "") == (reloaded.result, reloaded.version, reloaded.changes)
    assert proxy._listeners.by_name["public"].build is build  # type: ignore[union-attr]
    assert "config v1: nothing has changed (the program)" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_retry_budget_and_its_statistics_outlive_a_reload_of_other_things(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    route = '[[listen.public.route]]\nmatch = [{ host = "a.test" }]\nto = [{ backend = "blue" }]'
    proxy = await world.start(config(more=route))
    client = world.mesh.client(PUBLIC)
    for _ in range(7):
        await world.ask(client)

    await proxy.reload(config("green", more=route))
    await world.ask(client)

    [tree] = [tree for tree in proxy.statistics()["public"]["services"] if "'backend': 'blue'" in str(tree)]
    assert 8 == next(each["statistics"]["requests"] for each in tree if each["role"] == "retry")
    nursery.cancel_scope.cancel()


OUTBOUND = """
[outbound]
listen = "127.0.0.1:4140"
{to}
[admin]
listen = "off"
"""


async def test_an_embedders_client_follows_reloads(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(OUTBOUND.format(to='[outbound.to."a:80"]\nendpoints = ["blue-1:80"]'))
    client = proxy.client("a:80")
    assert "200 blue-1" == await world.ask(client)

    await proxy.reload(parse_config(OUTBOUND.format(to='[outbound.to."a:80"]\nendpoints = ["green-1:80"]')))
    await trio.sleep(1)
    assert "200 green-1" == await world.ask(client)

    await proxy.reload(parse_config(OUTBOUND.format(to='[outbound.to."b:80"]\nendpoints = ["green-1:80"]')))
    with pytest.raises(Exception, match="the configuration has it no more"):
        await world.ask(client)
    with pytest.raises(LookupError, match="the destinations are: b:80"):
        proxy.client("a:80")
    assert "200 green-1" == await world.ask(proxy.client("b:80"))
    nursery.cancel_scope.cancel()


async def test_a_connection_that_has_said_nothing_yet_is_served_by_the_newest_configuration(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    slow = 'detect_timeout = "1m"\n'
    proxy = await world.start(config("blue", more=slow, proxy='access_log = "text"'))
    silent = [await world.mesh.network.open_stream(PUBLIC) for _ in range(2)]
    await trio.sleep(1)

    for number in range(3):
        await proxy.reload(config("green", more=f'{slow}timeout = {{ request = "{10 + number}s" }}'))
        await trio.sleep(15)

    for stream in silent:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        answer = b""
        while b"green" not in answer:
            answer += await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200 ")
    assert 0 == proxy.all_crashes()
    nursery.cancel_scope.cancel()


async def test_back_within_a_few_seconds_finds_everything_as_it_was(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    client = world.mesh.client(PUBLIC)
    # Somebody who stays on the old one, so that it is not gone at once.
    stream = await world.mesh.client(PUBLIC, "h2")(request(path=b"/stream", version=20))
    for _ in range(30):
        await world.ask(client)

    await proxy.reload(config("green"))
    await world.ask(client)
    await trio.sleep(5)
    await proxy.reload(config("blue"))

    answers = Counter([await world.ask(client) for _ in range(10)])
    assert {"200 blue-1", "200 blue-2"} >= set(answers)
    endpoints = world.balancers()["blue"].values()
    assert 41 == sum(endpoint["successes"] for endpoint in endpoints)
    assert all(endpoint["age"] > 5 for endpoint in endpoints)
    stream.body.abort()
    nursery.cancel_scope.cancel()


async def test_a_hundred_reloads_leave_nothing_behind(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue", proxy='access_log = "text"'))
    client = world.mesh.client(PUBLIC)
    other = '[listen.other]\nbind = "other:80"\nto = [{ backend = "green" }]\n'

    elsewhere = world.mesh.client(("other", 80))

    async def reloads(numbers: range) -> tuple[int, ...]:
        for number in numbers:
            more = f'timeout = {{ request = "{10 + number}s" }}\n' + (other if number % 2 else "")
            await proxy.reload(config("green" if number % 3 else "blue", more=more, proxy='access_log = "text"'))
            assert "200" == (await world.ask(client))[:3]
            if number % 2:
                assert "200" == (await world.ask(elsewhere))[:3]
        await trio.sleep(600)
        assert proxy.reloader is not None
        keeper = proxy.reloader._live.keeper
        kept = sum(len(place.kept) for place in (*keeper.places, *keeper._old))
        collectors = len(proxy.registry._collectors)
        left = (collectors, kept, len(keeper._leaving), len(keeper._unwanted), len(proxy.servers))
        return (*left, trio.lowlevel.current_statistics().tasks_living)

    assert await reloads(range(12)) == await reloads(range(12, 24)) == await reloads(range(24, 108))
    nursery.cancel_scope.cancel()


async def test_bytes_go_on_over_a_reload_that_takes_their_backend_away(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)

    async def echo(connection: Any) -> None:
        while data := await connection.receive_some():
            await connection.send_all(data)

    for host in ("one", "two"):
        await world.mesh.serve_bytes((host, 5432), echo)

    def told(host: str, balance: str) -> Any:
        to = f'listen = "127.0.0.1:5432"\nprotocol = "tcp"\nendpoints = ["{host}:5432"]\nbalance = "{balance}"'
        return parse_config(OUTBOUND.format(to=f'[outbound.to."db:5432"]\n{to}'))

    proxy = await world.start(told("one", "p2c-ewma"))
    stream = await world.mesh.network.open_stream(("127.0.0.1", 5432))

    async def ask(stream: Any) -> bytes:
        await stream.send_all(b"x" * 100)
        answer = b""
        while len(answer) < 100:
            answer += await stream.receive_some()
        return answer

    assert b"x" * 100 == await ask(stream)
    await proxy.reload(told("two", "round-robin"))
    other = await world.mesh.network.open_stream(("127.0.0.1", 5432))
    assert b"x" * 100 == await ask(other)
    assert {("one", 5432), ("two", 5432)} <= set(world.mesh.network.connects)
    await trio.sleep(600)
    assert b"x" * 100 == await ask(stream)
    stream.close()
    await trio.sleep(5)
    assert all(each.closed for each in world.mesh.network.connections if each.peer == ("one", 5432))
    assert b"x" * 100 == await ask(other)
    nursery.cancel_scope.cancel()


async def test_a_proxy_that_ends_takes_no_other_configuration(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    # Somebody for whom the drain waits.
    stream = await world.mesh.client(PUBLIC, "h2")(request(path=b"/stream", version=20))
    proxy.drain.start("SIGTERM")
    other = '[listen.other]\nbind = "other:80"\nto = [{ backend = "green" }]\n'
    with pytest.raises(ConfigError, match="the proxy is ending: SIGTERM"):
        await proxy.reload(config("green", more=other))
    # What was bound for it is free again.
    world.mesh.network.listen(("other", 80)).close()
    stream.body.abort()
    nursery.cancel_scope.cancel()


async def test_a_certificate_that_cannot_be_used_is_a_reload_that_failed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    world = World(nursery)
    proxy = await world.start(config("blue"))
    (tmp_path / "site.pem").write_text("no certificate")
    (tmp_path / "site.key").write_text("no key")
    tls = f'tls = {{ cert = "{tmp_path}/site.pem", key = "{tmp_path}/site.key" }}\n'
    with pytest.raises(ConfigError, match=r"site\.pem"):
        await proxy.reload(config("green", more=tls))
    assert await world.ask(world.mesh.client(PUBLIC)) in ("200 blue-1", "200 blue-2")
    nursery.cancel_scope.cancel()
