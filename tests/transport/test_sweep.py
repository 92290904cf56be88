"""The sweeper: limits kept to within a fraction, nothing done while nothing is limited, hang-ups seen."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.transport.sweep import Sweeper


class Limited:
    """Records when it was swept; ends itself at its limit, or does something else."""

    def __init__(self, sweeper: Sweeper, limit: float) -> None:
        self.sweeper = sweeper
        self.limit = limit
        self.since = trio.current_time()
        self.swept: list[float] = []
        self.ended_at = math.nan

    def sweep(self, now: float, /) -> None:
        self.swept.append(now)
        if now - self.since >= self.limit:
            self.ended_at = now
            self.sweeper.discard(self)


@asynccontextmanager
async def running(sweeper: Sweeper) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("limit", "late"), [(0.05, 0.0125), (1.0, 0.25), (10.0, 0.7), (3600.0, 226.0)])
async def test_a_limit_is_kept_to_within_a_fraction_of_it(autojump_clock: Any, limit: float, late: float) -> None:
    sweeper = Sweeper()
    async with running(sweeper):
        await trio.sleep(0.3)
        item = Limited(sweeper, limit)
        sweeper.add(item, limit)
        await trio.sleep(2 * limit + 1)

    assert limit <= item.ended_at - item.since <= limit + late + 1e-9


async def test_nothing_limited_costs_nothing(autojump_clock: Any) -> None:
    sweeper = Sweeper()
    async with running(sweeper):
        await trio.sleep(1000)
        assert 0 == sweeper.ticks
        item = Limited(sweeper, 1.0)
        sweeper.add(item, 1.0)
        sweeper.discard(item)
        sweeper.discard(item)
        await trio.sleep(1000)

    assert 0 == len(sweeper)
    assert 1 == sweeper.ticks


async def test_a_short_limit_does_not_make_the_long_ones_dear(autojump_clock: Any) -> None:
    sweeper = Sweeper()
    short, long = Limited(sweeper, 20.0), Limited(sweeper, 3600.0)
    async with running(sweeper):
        sweeper.add(long, 3600.0)
        sweeper.add(short, 0.1)
        await trio.sleep(10)

    assert 300 < len(short.swept)
    assert [] == long.swept


async def test_a_limit_can_be_changed_while_it_runs(autojump_clock: Any) -> None:
    sweeper = Sweeper()
    item = Limited(sweeper, 1.0)
    async with running(sweeper):
        sweeper.add(item, 3600.0)
        sweeper.add(item, 3600.0)
        await trio.sleep(1)
        sweeper.add(item, 1.0)
        assert 1 == len(sweeper)
        await trio.sleep(1)

    assert 1.0 <= item.ended_at <= 1.6


async def test_an_item_that_raises_is_reported_and_the_others_are_swept_on(autojump_clock: Any) -> None:
    crashes: list[tuple[str, str]] = []
    sweeper = Sweeper(lambda error, where: crashes.append((str(error), where)))

    class Broken:
        def sweep(self, now: float, /) -> None:
            raise ZeroDivisionError("broken")

    item = Limited(sweeper, 1.0)
    async with running(sweeper):
        sweeper.add(Broken(), 1.0)
        sweeper.add(item, 1.0)
        await trio.sleep(5)

    assert [("broken", "sweeper")] == crashes
    assert 1.0 == item.ended_at


async def test_items_may_remove_each_other(autojump_clock: Any) -> None:
    sweeper = Sweeper()

    class Selfish(Limited):
        def sweep(self, now: float, /) -> None:
            super().sweep(now)
            for other in others:
                if other is not self:
                    sweeper.discard(other)

    others = [Selfish(sweeper, 100.0) for _ in range(5)]
    async with running(sweeper):
        for each in others:
            sweeper.add(each, 1.0)
        await trio.sleep(0.3)

    assert 1 == sum(len(each.swept) for each in others)


async def test_thousands_of_items_are_swept_with_turns_for_others(autojump_clock: Any) -> None:
    sweeper = Sweeper()
    items = [Limited(sweeper, 1.0) for _ in range(5_000)]
    async with running(sweeper):
        for item in items:
            sweeper.add(item, 1.0)
        await trio.sleep(2)

    assert 0 == len(sweeper)
    assert {1.0} == {item.ended_at for item in items}


class Told:
    """Callbacks' words, in order, and a way to wait for them."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.event = trio.Event()

    def callback(self, word: str) -> Callable[[], None]:
        def tell() -> None:
            self.words.append(word)
            self.event.set()
            self.event = trio.Event()

        return tell

    async def wait(self, count: int) -> None:
        with trio.fail_after(60):
            while len(self.words) < count:
                await self.event.wait()
        # What comes too much would come now.
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_hang_up_is_told_once_and_only_for_the_socket_that_it_is_about() -> None:
    sweeper, told = Sweeper(), Told()
    pairs = [socket.socketpair() for _ in range(3)]
    async with running(sweeper):
        for name, (ours, _) in zip("abc", pairs, strict=True):
            sweeper.watch_hangup(ours.fileno(), told.callback(name))
        await trio.testing.wait_all_tasks_blocked()
        pairs[1][1].close()
        pairs[2][1].shutdown(socket.SHUT_WR)
        pairs[0][1].send(b"still there")
        await told.wait(2)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()

    assert ["b", "c"] == sorted(told.words)


async def test_a_hang_up_before_the_watch_is_told_too_and_none_after_it() -> None:
    sweeper, told = Sweeper(), Told()
    ours, theirs = socket.socketpair()
    others = socket.socketpair()
    theirs.close()
    async with running(sweeper):
        sweeper.watch_hangup(others[0].fileno(), told.callback("wrong"))
        sweeper.unwatch_hangup(others[0].fileno())
        sweeper.unwatch_hangup(others[0].fileno())
        others[1].close()
        sweeper.watch_hangup(ours.fileno(), told.callback("replaced"))
        sweeper.watch_hangup(ours.fileno(), told.callback("right"))
        await told.wait(1)
    ours.close()
    others[0].close()

    assert ["right"] == told.words


async def test_a_callback_that_raises_does_not_end_the_watch() -> None:
    told = Told()
    sweeper = Sweeper(lambda error, where: told.callback(f"{where}: {error}")())
    pairs = [socket.socketpair() for _ in range(2)]

    def broken() -> None:
        raise ZeroDivisionError("broken")

    async with running(sweeper):
        sweeper.watch_hangup(pairs[0][0].fileno(), broken)
        sweeper.watch_hangup(pairs[1][0].fileno(), told.callback("told"))
        pairs[0][1].close()
        await told.wait(1)
        pairs[1][1].close()
        await told.wait(2)
    for ours, _ in pairs:
        ours.close()

    assert ["sweeper: broken", "told"] == told.words


async def test_a_descriptor_closed_without_a_word_can_be_watched_anew() -> None:
    sweeper, told = Sweeper(), Told()
    ours, theirs = socket.socketpair()
    fd = ours.fileno()
    async with running(sweeper):
        sweeper.watch_hangup(fd, told.callback("old"))
        ours.close()
        theirs.close()
        again, far = socket.socketpair()
        assert fd in (again.fileno(), far.fileno())
        sweeper.watch_hangup(fd, told.callback("new"))
        (far if again.fileno() == fd else again).close()
        await told.wait(1)
    again.close()
    far.close()

    assert ["new"] == told.words


async def test_what_has_no_descriptor_is_not_watched() -> None:
    Sweeper().watch_hangup(-1, lambda: None)
