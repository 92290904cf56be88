"""IdleCache: one stack a target, for as long as it is used."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshcore.errors import LoadShedError
from meshcore.http.body import Chunks
from meshcore.http.message import Request, Response
from meshcore.layers.idle_cache import IdleCache
from meshcore.testing import explore_schedules, request, response


class New:
    """Makes services whose background a test can see and break."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.stopped: list[str] = []
        self.crash = trio.Event()
        self.fails = False
        self.body: Any = None
        self.delay = 0.0

    def new_service(self, target: str, nursery: trio.Nursery, /) -> Any:
        self.made.append(target)
        if self.fails:
            raise ValueError("cannot make it")
        nursery.start_soon(self._background, target)

        async def inner(sent: Request) -> Response:
            await trio.sleep(self.delay)
            return response() if self.body is None else Response(200, body=self.body)

        return inner

    async def _background(self, target: str) -> None:
        try:
            await self.crash.wait()
            self.crash = trio.Event()
            raise ValueError("a bug")
        finally:
            self.stopped.append(target)


async def test_a_service_is_made_on_the_first_request_and_kept(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    new = New()
    cache = IdleCache(60.0).layer(new)
    service = cache.new_service("a", nursery)
    assert [] == new.made

    for _ in range(3):
        await cache.new_service("a", nursery)(request())
        await trio.sleep(50)
    await cache.new_service("b", nursery)(request())

    assert ["a", "b"] == new.made
    assert service is cache.new_service("a", nursery)


async def test_it_is_stopped_after_its_idle_time_and_made_again_when_it_is_wanted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    new = New()
    service: Any = IdleCache(60.0).layer(new).new_service("a", nursery)
    await service(request())

    await trio.sleep(59)
    assert [] == new.stopped
    await trio.sleep(20)
    assert ["a"] == new.stopped
    assert service.idle

    await service(request())
    assert ["a", "a"] == new.made
    assert (True, 0, 2, 2, 0) == (
        service.statistics().running,
        service.statistics().in_flight,
        service.statistics().requests,
        service.statistics().starts,
        service.statistics().crashes,
    )


async def test_nothing_is_stopped_while_a_body_is_under_way(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    new = New()
    body = new.body = Chunks()
    service: Any = IdleCache(10.0).layer(new).new_service("a", nursery)
    await service(request())

    await trio.sleep(1_000)
    assert [] == new.stopped
    body.push_end()
    await trio.sleep(20)
    assert ["a"] == new.stopped


async def test_nothing_is_stopped_while_a_request_waits(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    new = New()
    new.delay = 1_000.0
    service: Any = IdleCache(10.0).layer(new).new_service("a", nursery)
    assert 200 == (await service(request())).status
    assert [] == new.stopped


@explore_schedules(examples=30)
async def test_first_requests_share_one_start() -> None:
    new = New()
    async with trio.open_nursery() as nursery:
        cache = IdleCache(60.0).layer(new)
        async with trio.open_nursery() as callers:
            for _ in range(5):
                callers.start_soon(cache.new_service("a", nursery), request())
        assert ["a"] == new.made
        nursery.cancel_scope.cancel()


@explore_schedules(examples=20)
async def test_the_start_outlives_whoever_asked_first() -> None:
    new = New()
    async with trio.open_nursery() as nursery:
        service: Any = IdleCache(60.0).layer(new).new_service("a", nursery)
        with trio.CancelScope() as scope:
            scope.cancel()
            await service(request())
        assert 200 == (await service(request())).status
        assert ["a"] == new.made
        assert 0 == service.statistics().in_flight
        nursery.cancel_scope.cancel()


async def test_a_crash_ends_that_target_alone_and_is_told(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    told: list[str] = []

    class Owner:
        def crashed(self, error: BaseException, where: str, /) -> None:
            told.append(f"{where}: {error}")

    new = New()
    cache = IdleCache(60.0, owner=Owner()).layer(new)
    first: Any = cache.new_service("a", nursery)
    other: Any = cache.new_service("b", nursery)
    await first(request())
    crash = new.crash
    new.crash = trio.Event()
    await other(request())

    crash.set()
    await wait_all_tasks_blocked()

    assert ["what is kept for a: a bug"] == told
    assert first.idle
    assert not other.idle
    assert 200 == (await first(request())).status
    assert ["a", "b", "a"] == new.made


async def test_who_waits_for_a_start_that_crashes_gets_the_error_and_the_next_one_tries_again(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    new = New()
    new.fails = True
    service: Any = IdleCache(60.0).layer(new).new_service("a", nursery)

    with pytest.raises(ValueError, match="cannot make it"):
        await service(request())
    assert "crash in what is kept for a: cannot make it" in caplog.text

    new.fails = False
    assert 200 == (await service(request())).status
    assert (2, 1, 0) == (
        service.statistics().starts,
        service.statistics().crashes,
        service.statistics().in_flight,
    )


async def test_after_its_nursery_requests_are_shed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        service: Any = IdleCache(60.0).layer(New()).new_service("a", nursery)
    with pytest.raises(LoadShedError, match="shutting down"):
        await service(request())


async def test_connections_are_in_flight_until_they_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    class Opaque:
        def new_service(self, target: str, under: trio.Nursery, /) -> Any:
            return lambda connection: trio.sleep(100)

    service: Any = IdleCache(10.0).layer(Opaque()).new_service("a", nursery)
    nursery.start_soon(service, object())
    await trio.sleep(90)
    assert (True, 1) == (service.statistics().running, service.statistics().in_flight)
    await trio.sleep(40)
    assert (False, 0) == (service.statistics().running, service.statistics().in_flight)


async def test_while_nothing_is_kept_nobody_looks_at_the_clock(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    service: Any = IdleCache(10.0).layer(New()).new_service("a", nursery)
    await service(request())
    await trio.sleep(100)
    statistics = trio.lowlevel.current_statistics()
    assert statistics.seconds_to_next_deadline == float("inf")
