"""Reloads of traffic policy under load: canaries, and who may call."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.config import parse_config
from meshcore.errors import MeshError
from meshcore.testing import request
from tests.integration.test_reload import PUBLIC, World

SPLIT = """
[listen.public]
bind = "gateway:80"
[[listen.public.route]]
name = "main"
match = [{{ path = {{ prefix = "/" }} }}]
to = [{{ backend = "blue", weight = {blue} }}, {{ backend = "green", weight = {green} }}]
{more}
[backend.blue]
endpoints = ["blue-1:80", "blue-2:80"]
[backend.green]
endpoints = ["green-1:80", "green-2:80"]
[admin]
listen = "off"
"""


def split(blue: int, green: int, more: str = "") -> Any:
    return parse_config(SPLIT.format(blue=blue, green=green, more=more))


@pytest.mark.parity("B-13")
async def test_a_release_by_reloads_under_load_fails_nothing_and_its_shares_are_those_of_the_file(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(split(100, 0))
    stages = [(100, 0), (90, 10), (50, 50), (0, 100)]
    # Those of each stage, and between them those that may be of either.
    counted: list[Counter[str]] = []
    answers = [Counter[str]()]
    ended = False

    async def user(version: int) -> None:
        client = world.mesh.client(PUBLIC)
        while not ended:
            into = answers[-1]
            into[await world.ask(client, version=version)] += 1

    async with trio.open_nursery() as users:
        for version in (11, 11, 20, 20):
            users.start_soon(user, version)
        for blue, green in stages:
            await proxy.reload(split(blue, green))
            # What has begun goes on where it was.
            await trio.sleep(0.05)
            counted.append(Counter())
            answers.append(counted[-1])
            await trio.sleep(10)
            answers.append(Counter())
        ended = True

    assert all(answer.startswith("200 ") for each in answers for answer in each)
    for (blue, _), found in zip(stages, counted, strict=True):
        total = found.total()
        share = sum(count for answer, count in found.items() if "blue" in answer) / total
        assert total > 3_000
        # More than three standard deviations of a fair draw.
        assert abs(share - blue / 100) < 0.03 if 0 < blue < 100 else share == blue / 100
    assert 0 == proxy.all_crashes()
    nursery.cancel_scope.cancel()


async def test_other_weights_make_no_connection_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(split(50, 50))
    client = world.mesh.client(PUBLIC)
    for _ in range(20):
        await world.ask(client)
    connects = world.connects()

    for green in range(51, 60):
        reloaded = await proxy.reload(split(50, green))
        assert "changed: listen.public.route[0].to" == reloaded.changes
        for _ in range(20):
            await world.ask(client)

    assert connects == world.connects()
    assert 200 == sum(
        endpoint["successes"] for endpoints in world.balancers().values() for endpoint in endpoints.values()
    )
    nursery.cancel_scope.cancel()


async def test_weights_set_by_a_program_are_those_of_the_file_after_a_reload_that_changes_them_alone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    proxy = await world.start(split(100, 0))
    client = world.mesh.client(PUBLIC)
    proxy.weights["listen.public/main"].set({"blue": 0, "green": 1})
    assert (await world.ask(client)).startswith("200 green")

    refused = split(1, 1, more='[listen.other]\nbind = "green-1:80"\nto = [{ backend = "blue" }]')
    with pytest.raises(MeshError, match="address in use"):
        await proxy.reload(refused)
    # They are still the ones that hold.
    proxy.weights["listen.public/main"].set({"blue": 1, "green": 0})
    assert (await world.ask(client)).startswith("200 blue")

    await proxy.reload(split(0, 100))
    assert (await world.ask(client)).startswith("200 green")
    proxy.weights["listen.public/main"].set({"blue": 1, "green": 0})
    assert (await world.ask(client)).startswith("200 blue")
    nursery.cancel_scope.cancel()


INBOUND = """
[service]
name = "orders"
[inbound]
listen = "orders:4143"
forward = "blue-1:80"
{policy}
[admin]
listen = "off"
"""


def inbound(policy: str) -> Any:
    return parse_config(INBOUND.format(policy=policy))


async def test_another_policy_holds_at_once_for_connections_that_are_open(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    world.delay = 5.0
    proxy = await world.start(inbound(""))
    clients = [world.mesh.client(("orders", 4143), "h2") for _ in range(2)]
    assert "200 blue-1" == await world.ask(clients[0], version=20)
    stream = await clients[0](request(path=b"/stream", version=20))

    reloaded = await proxy.reload(inbound('default_policy = "deny"'))

    assert "changed: inbound.default_policy" == reloaded.changes
    assert [403, 403] == [(await client(request(version=20))).status for client in clients]
    # What was let in goes on.
    world.streams[0].push(b"more")
    assert b"more" == await stream.body.receive_some()

    await proxy.reload(inbound('[[inbound.policy]]\nnetworks = ["10.255.0.0/16"]\nunauthenticated = true'))
    assert "200 blue-1" == await world.ask(clients[0], version=20)
    stream.body.abort()
    nursery.cancel_scope.cancel()


async def test_bytes_that_another_policy_does_not_let_in_end_with_the_reload(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)

    async def echo(connection: Any) -> None:
        while data := await connection.receive_some():
            await connection.send_all(data)

    await world.mesh.serve_bytes(("database", 5432), echo)
    text = INBOUND.replace("blue-1:80", "database:5432")
    proxy = await world.start(parse_config(text.format(policy="")))
    stream = await world.mesh.network.open_stream(("orders", 4143))
    await stream.send_all(b"\x00\x01 no http")
    assert b"\x00\x01 no http" == await stream.receive_some()

    await proxy.reload(parse_config(text.format(policy='default_policy = "deny"')))

    with trio.fail_after(5), pytest.raises((trio.BrokenResourceError, AssertionError)):
        assert b"" != await stream.receive_some()
    nursery.cancel_scope.cancel()
