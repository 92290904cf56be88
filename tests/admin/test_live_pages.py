"""``/endpoints``, ``/tasks`` and ``/identity`` of proxies in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore import Headers, Request
from meshcore.admin.endpoints import live_backends
from meshcore.admin.stats import page as pages
from meshcore.admin.tasks import tasks_value
from meshcore.http.body import Full, read_all
from meshcore.layers.retry import Budget
from meshcore.testing import MemoryMesh, request, response

ORDERS = """
[service]
name = "orders"
namespace = "shop"
zone = "eu-1a"
[identity]
mode = "dev"
[inbound]
listen = "orders:4143"
forward = "orders:8000"
[outbound]
listen = "orders:4140"
[outbound.to."stock:80"]
endpoints = [{ address = "s1:80", weight = 2, zone = "eu-1a" }, "s2:80"]
retry = { limit = 1, budget = 0.5 }
failure_accrual = { consecutive = 3, penalty = "10s..20s" }
[admin]
listen = "127.0.0.9:4191"
"""


async def ok(asked: Request) -> Any:
    return response(200, b"x")


class Orders:
    """A sidecar, of whose two endpoints one runs."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.mesh = MemoryMesh(nursery)

    async def start(self) -> None:
        await self.mesh.serve(("s1", 80), ok)
        self.proxy = await self.mesh.start(ORDERS)
        self.outbound = self.mesh.client(("orders", 4140))

    async def send(self, times: int) -> None:
        for _ in range(times):
            await read_all((await self.outbound(request(authority=b"stock:80"))).body)

    async def page(self, path: bytes) -> Any:
        asked = Request(b"GET", b"http", b"127.0.0.1:4191", path, Headers([]), Full(b""))
        answer = await self.mesh.client(("127.0.0.9", 4191))(asked)
        assert answer.status == 200
        return json.loads(await read_all(answer.body))


async def orders(nursery: trio.Nursery) -> Orders:
    made = Orders(nursery)
    await made.start()
    return made


async def test_endpoints_are_told_with_load_state_age_and_connections(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    running = await orders(nursery)
    await running.send(3)
    await trio.sleep(2)
    told = await running.page(b"/endpoints")
    assert told["more"] == 0
    (stock,) = [each for each in told["backends"] if each["backend"] == "stock:80" and each["ready"] == 1]
    assert (stock["direction"], stock["listener"], stock["policy"]) == ("outbound", "outbound", "p2c-ewma")
    assert (stock["waiting"], stock["fail_fast"], stock["retry_budget"]) == (0, False, pytest.approx(1.0))
    up, down = sorted(stock["endpoints"], key=lambda each: str(each["address"]))
    assert (up["address"], up["state"], up["weight"], up["zone"]) == ("s1:80", "ready", 2.0, "eu-1a")
    assert (up["connections"], up["successes"], up["failures"], up["pending"]) == (1, 3, 0, 0)
    assert up["breaker"] == {"state": "shut", "failures": 0, "trips": 0, "reason": "", "remaining": 0.0}
    assert up["age"] >= 2.0
    assert (down["state"], down["successes"]) == ("failed", 0)
    assert down["error"]
    assert (up["identity"], up["secured"], up["no_tls_reason"]) == (None, False, "not_provided_by_service_discovery")


async def test_a_destination_without_routes_shows_what_its_clients_see(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    running = Orders(nursery)
    running.proxy = await running.mesh.start(ORDERS)
    running.outbound = running.mesh.client(("orders", 4140))
    await running.page(b"/stats")

    # No endpoint runs: the first one waits for it, whoever comes then is told at once, and nothing was tried.
    await running.send(3)
    await trio.sleep(2)
    told = await running.page(b"/stats?window=60")

    (shown,) = [each for each in told["routes"] if each["parent"] == "stock:80"]
    assert (shown["direction"], shown["route"], shown["requests"], shown["success"]) == ("outbound", "default", 3, 0.0)
    assert shown["p99"] > 1_000


async def test_the_application_is_a_backend_too(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    running = await orders(nursery)
    await running.mesh.serve(("orders", 8000), ok)
    inbound = running.mesh.client(("orders", 4143))
    await read_all((await inbound(request())).body)
    told = await running.page(b"/endpoints")
    (found,) = [each for each in told["backends"] if each["direction"] == "inbound"]
    assert (found["backend"], found["listener"]) == ("application", "inbound")
    assert found["endpoints"][0]["address"] == "orders:8000"


async def test_no_more_endpoints_are_told_than_there_is_room_for(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await orders(nursery)
    await running.send(1)
    monkeypatch.setattr(pages, "MOST_ENDPOINTS", 1)
    told = await running.page(b"/endpoints")
    assert sum(len(each["endpoints"]) for each in told["backends"]) == 1
    assert told["more"] >= 1


async def test_a_balancer_is_told_once_however_many_ways_lead_to_it() -> None:
    class Top:
        def services(self) -> dict[str, object]:
            return {"a": self, "b": self}

    # Around and around, too: it comes to an end.
    assert await live_backends([("x", Top())]) == []


async def test_tasks_are_told_as_a_tree_with_where_each_waits(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    running = await orders(nursery)
    await running.send(1)
    told = await running.page(b"/tasks")
    assert told["more"] == 0
    assert told["total"] == len(told["tasks"])
    assert told["tasks"][0]["depth"] == 0
    depth = 0
    for task in told["tasks"]:
        # Depth first: nothing is deeper than the one before by more than one.
        assert task["depth"] <= depth + 1
        depth = task["depth"]
    (sampler,) = [each for each in told["tasks"] if each["name"] == "sampler"]
    assert sampler["waits_at"].startswith("meshcore/admin/stats/sampler.py:")
    assert sampler["waits_at"].endswith(" Sampler.run")
    assert sampler["stack"][0] == sampler["waits_at"]
    assert "/work/" not in json.dumps(told)


async def test_tasks_are_bounded_and_the_rest_is_counted(nursery: trio.Nursery) -> None:
    for _ in range(50):
        nursery.start_soon(trio.sleep_forever)
    await trio.lowlevel.checkpoint()
    told = await tasks_value(10)
    assert len(told["tasks"]) == 10
    assert told["more"] == told["total"] - 10 >= 40


async def test_no_variable_of_a_task_is_told(nursery: trio.Nursery) -> None:
    async def login(password: str) -> None:
        await trio.sleep_forever()

    nursery.start_soon(login, "hunter2")
    await trio.lowlevel.checkpoint()
    text = json.dumps(await tasks_value())
    assert "login" in text
    assert "hunter2" not in text


async def test_an_identity_is_told_without_its_key(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    running = await orders(nursery)
    told = await running.page(b"/identity")
    assert (told["identity"], told["certified"], told["refused"]) == ("orders.shop", True, "")
    assert told["refreshes"] == {"ok": 1, "error": 0}
    certificate = told["certificate"]
    assert certificate["names"] == ["orders.shop"]
    assert certificate["not_before"] < running.mesh.now() < certificate["not_after"]
    assert certificate["remaining"] == pytest.approx(certificate["not_after"] - running.mesh.now(), abs=1.0)
    assert len(certificate["sha256"]) == 64
    assert told["anchors"][0]["subject"] == certificate["issuer"]
    assert "PRIVATE" not in json.dumps(told)
    running.mesh.renew()
    assert (await running.page(b"/identity"))["refreshes"]["ok"] == 2


def test_what_is_left_of_a_budget_is_a_part_of_what_there_would_be() -> None:
    tokens = Budget(ratio=0.5, minimum=10, ttl=10).start(0.0)
    assert tokens.left(0.0) == 1.0
    for _ in range(50):
        assert tokens.withdraw(0.0)
    assert tokens.left(0.0) == 0.5
    assert tokens.balance == 50
    # Looking at it changes nothing, and it fills again.
    assert tokens.left(5.0) == pytest.approx(0.75)
    assert tokens.left(100.0) == pytest.approx(1.0)
    assert tokens.balance == 50
    for second in range(1, 31):
        tokens.requests += 1_000
        if second % 10 == 0:
            tokens.withdraw(float(second))
    assert tokens.left(30.0) == pytest.approx(1.0, abs=0.01)
    while tokens.withdraw(30.0):
        pass
    assert tokens.left(30.0) < 0.01


def test_a_budget_of_nothing_has_nothing_left() -> None:
    assert Budget(ratio=0, minimum=0).start(0.0).left(5.0) == 0.0
