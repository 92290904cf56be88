"""What is kept for a target, over reloads and its own crashes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from meshcore._unwrap import status_source
from meshcore.abc import Status
from meshcore.errors import LoadShedError
from meshcore.pipeline.keep import Keep, Keeper, Place, balancer_of
from meshcore.stack import Stack
from meshcore.testing import MockNewService, mock_service, request
from meshcore.transport.target import Backend, Endpoint

ONE, TWO = Backend("one"), Backend("two")


class Owner:
    def __init__(self) -> None:
        self.crashes: list[str] = []

    def crashed(self, error: BaseException, where: str, /) -> None:
        self.crashes.append(f"{where}: {error}")


class Busy:
    """A service that says whether it is used, and hears of another target."""

    def __init__(self) -> None:
        self.busy = False
        self.targets: list[Any] = []
        self.requests = 0

    def in_use(self) -> bool:
        return self.busy

    def retarget(self, target: Any) -> None:
        self.targets.append(target)

    async def __call__(self, request: Any) -> Any:
        self.requests += 1
        return await mock_service()(request)


class World:
    def __init__(self, nursery: trio.Nursery, make: Any = Busy, *, balancer: bool = False) -> None:
        self.owner = Owner()
        self.keeper = Keeper(self.owner)
        self.keeper.nursery = nursery
        self.inner = MockNewService[Backend](lambda _: make())
        self.nursery = nursery
        self.balancer = balancer
        nursery.start_soon(self.keeper.run)

    def place(self, name: str = "p", *layers: Any) -> Place:
        place = self.keeper.place(name, Stack(layers), balancer=self.balancer, requests=True)
        assert Keep(place).layer(self.inner) is place
        return place

    def kept(self, place: Place, target: Backend) -> Any:
        return place.new_service(target, self.nursery)


async def test_it_is_made_once_for_all_who_come_first(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    async with trio.open_nursery() as users:
        for _ in range(5):
            users.start_soon(world.kept(place, ONE), request())
    assert [ONE] == [target for target, _, _ in world.inner.made]
    assert world.inner.made[0][1].requests == 5
    assert world.kept(place, ONE) is world.kept(place, ONE)
    # In a nursery of its own.
    assert world.inner.made[0][2] is not nursery
    nursery.cancel_scope.cancel()


async def test_the_same_layers_at_the_same_place_find_it_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place("p", 1, 2)
    await world.kept(place, ONE)(request())
    world.keeper.settle({place: (ONE,)})
    assert world.place("p", 1, 2) is place
    assert world.place("p", 1, 3) is not place
    assert world.place("q", 1, 2) is not place
    nursery.cancel_scope.cancel()


async def test_what_nobody_wants_any_more_is_stopped_once_it_is_idle(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    for target in (ONE, TWO):
        await world.kept(place, target)(request())
    (_, one, room), (_, two, _) = world.inner.made
    world.keeper.settle({place: (ONE, TWO)})
    one.busy = two.busy = True
    world.keeper.settle({place: (TWO,)})
    await trio.sleep(100)
    assert [ONE, TWO] == list(place.kept)
    one.busy = two.busy = False
    await trio.sleep(9)
    assert [ONE, TWO] == list(place.kept)
    await trio.sleep(3)
    assert room.cancel_scope.cancel_called
    assert [TWO] == list(place.kept)
    nursery.cancel_scope.cancel()


async def test_it_is_stopped_at_once_when_all_who_may_use_it_have_left(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    await world.kept(place, ONE)(request())
    world.keeper.settle({place: (ONE,)})
    [(_, service, room)] = world.inner.made
    # Somebody newer uses what is under it.
    service.busy = True
    users = {"requests": True, "connections": True}
    ended: list[str] = []
    for kind in users:
        world.keeper.when_over(
            lambda kind=kind: users[kind],  # type: ignore[misc]
            lambda kind=kind: ended.append(kind),  # type: ignore[misc]
            requests=kind == "requests",
        )
    world.keeper.settle({})
    await trio.sleep(20)
    assert ([], False) == (ended, room.cancel_scope.cancel_called)
    users["requests"] = False
    await trio.sleep(1.5)
    assert (["requests"], True) == (ended, room.cancel_scope.cancel_called)
    nursery.cancel_scope.cancel()


async def test_who_comes_after_it_was_stopped_has_it_made_anew_and_it_goes_again(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    late = world.kept(place, ONE)
    await late(request())
    world.keeper.settle({place: (ONE,)})
    world.keeper.settle({place: ()})
    await trio.sleep(15)
    assert {} == place.kept
    assert 200 == (await late(request())).status
    assert 2 == len(world.inner.made)
    await trio.sleep(15)
    assert world.inner.made[1][2].cancel_scope.cancel_called
    nursery.cancel_scope.cancel()


async def test_wanted_again_it_stays_as_it_is(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    world = World(nursery)
    place = world.place("p", 1)
    kept = world.kept(place, ONE)
    await kept(request())
    world.keeper.settle({place: (ONE,)})
    other = world.place("p", 2)
    world.keeper.settle({other: (ONE,)})
    await trio.sleep(5)
    assert world.place("p", 1) is place
    world.keeper.settle({place: (ONE,)})
    await trio.sleep(60)
    assert world.kept(place, ONE) is kept
    assert 1 == len(world.inner.made)
    nursery.cancel_scope.cancel()


async def test_targets_that_are_not_known_are_all_wanted(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    await world.kept(place, ONE)(request())
    world.keeper.settle({place: None})
    await trio.sleep(60)
    assert [ONE] == list(place.kept)
    nursery.cancel_scope.cancel()


async def test_a_balancer_is_told_of_other_endpoints_and_of_nothing_else(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery, balancer=True)
    place = world.place()
    await world.kept(place, ONE)(request())
    service = world.inner.made[0][1]
    more = attrs.evolve(ONE, endpoints=(Endpoint(("a", 1)),))
    world.keeper.settle({place: (more,)})
    world.keeper.settle({place: (more,)})
    assert [more] == service.targets
    assert world.kept(place, attrs.evolve(more, retries=3, timeout=1.0)) is world.kept(place, ONE)
    assert world.kept(place, attrs.evolve(more, balance="round-robin")) is not world.kept(place, ONE)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("target", [ONE, attrs.evolve(ONE, endpoints=(Endpoint(("a", 1)),), retries=5), "text"])
def test_the_key_of_a_balancer_is_one_that_it_is_found_by(target: Any) -> None:
    assert hash(balancer_of(target)) == hash(balancer_of(target))
    assert (balancer_of(target) == balancer_of(ONE)) is isinstance(target, Backend)


async def test_a_crash_is_told_and_the_next_request_has_it_made_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(nursery)
    place = world.place()
    kept = world.kept(place, ONE)
    await kept(request())

    async def crash() -> None:
        raise ValueError("broken")

    world.inner.made[0][2].start_soon(crash)
    await trio.sleep(1)
    assert ["<kept for one>: broken"] == world.owner.crashes
    assert 200 == (await kept(request())).status
    assert 2 == len(world.inner.made)
    nursery.cancel_scope.cancel()


class Gauge(Busy):
    """A service with a readiness."""

    now = Status.BUSY

    def status(self) -> Status:
        return self.now


@pytest.mark.parametrize("make", [Busy, Gauge])
async def test_whoever_asks_whether_it_is_ready_has_it_made(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, make: Any
) -> None:
    world = World(nursery, make)
    kept = world.kept(world.place(), ONE)
    # It has begun, and is not there yet.
    assert [] == world.inner.made
    assert Status.BUSY is status_source(kept)() is kept.status()  # type: ignore[misc]
    await trio.testing.wait_all_tasks_blocked()
    [(_, service, _)] = world.inner.made
    assert kept.status() is (Status.BUSY if make is Gauge else Status.OPEN)
    service.now = Status.CLOSED
    assert kept.status() is (Status.CLOSED if make is Gauge else Status.OPEN)
    kept.stop()
    assert kept.status() is Status.BUSY
    nursery.cancel_scope.cancel()


async def test_nothing_is_started_when_the_proxy_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        place = world.place()
        nursery.cancel_scope.cancel()
    with pytest.raises(LoadShedError, match="the proxy is shutting down"):
        await world.kept(place, ONE)(request())
    assert world.kept(place, ONE).status() is Status.CLOSED
