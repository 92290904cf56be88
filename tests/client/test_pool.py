"""The pool of idle connections."""

from __future__ import annotations

import trio
import trio.testing

from meshcore.client.pool import Pool, PoolStatistics
from meshcore.transport.sweep import Sweeper


class Connection:
    """Something to keep."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.idle_since = 0.0
        self.closed = False
        self.good = True

    def usable(self) -> bool:
        return self.good and not self.closed

    def close(self) -> None:
        self.closed = True


def make(max_idle: int = 10, idle_timeout: float | None = 3.0) -> tuple[Pool[Connection], Sweeper]:
    sweeper = Sweeper()
    return Pool(sweeper, max_idle, idle_timeout), sweeper


async def test_what_was_used_last_is_taken_first() -> None:
    pool, _ = make()
    one, two = Connection(), Connection()
    pool.give(b"a", one)
    pool.give(b"a", two)
    assert [pool.take(b"a"), pool.take(b"a"), pool.take(b"a")] == [two, one, None]


async def test_keys_do_not_share() -> None:
    pool, _ = make()
    one = Connection()
    pool.give(b"a", one)
    assert pool.take(b"b") is None
    assert pool.take(b"a") is one


async def test_a_fresh_connection_fits_any_key_once_the_key_has_none() -> None:
    pool, _ = make()
    fresh, used = Connection(), Connection()
    pool.give(None, fresh)
    pool.give(b"a", used)
    assert [pool.take(b"a"), pool.take(b"b"), pool.take(b"c")] == [used, fresh, None]


async def test_a_spoilt_connection_is_closed_and_never_taken() -> None:
    pool, _ = make()
    spoilt, good = Connection(), Connection()
    pool.give(b"a", good)
    pool.give(b"a", spoilt)
    spoilt.good = False
    assert pool.take(b"a") is good
    assert spoilt.closed
    assert pool.statistics() == PoolStatistics(idle=0, hits=1, misses=0, expired=1)


async def test_no_more_than_max_idle_are_kept() -> None:
    pool, _ = make(max_idle=2)
    connections = [Connection() for _ in range(3)]
    for number, connection in enumerate(connections):
        pool.give(b"%d" % number, connection)
    assert [connection.closed for connection in connections] == [False, False, True]


async def test_idle_connections_are_closed_at_the_limit_and_never_after_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, sweeper = make()
    nursery.start_soon(sweeper.run)
    for start in range(5):
        connection = Connection()
        pool.give(b"a", connection)
        await trio.sleep(2.2)
        assert not connection.closed
        await trio.sleep(0.81)
        assert connection.closed
        await trio.sleep(start / 7)


async def test_what_is_used_is_kept_while_others_expire(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, sweeper = make()
    nursery.start_soon(sweeper.run)
    idle, busy = Connection(), Connection()
    pool.give(b"a", idle)
    pool.give(b"a", busy)
    for _ in range(10):
        await trio.sleep(1)
        assert pool.take(b"a") is busy
        pool.give(b"a", busy)
    assert idle.closed
    assert not busy.closed


async def test_keys_without_connections_take_no_memory(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, sweeper = make(max_idle=10_000)
    nursery.start_soon(sweeper.run)
    for number in range(1_000):
        pool.give(b"host-%d" % number, Connection())
    assert pool.take(b"host-7") is not None
    await trio.sleep(4)
    assert pool.statistics().idle == 0
    assert pool._by_key == {}


async def test_the_sweeper_is_parked_while_nothing_is_idle(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, sweeper = make()
    nursery.start_soon(sweeper.run)
    pool.give(b"a", Connection())
    await trio.sleep(10)
    ticks = sweeper.ticks
    await trio.sleep(10_000)
    assert sweeper.ticks == ticks


async def test_without_a_timeout_connections_are_kept_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pool, sweeper = make(idle_timeout=None)
    nursery.start_soon(sweeper.run)
    connection = Connection()
    pool.give(b"a", connection)
    await trio.sleep(50_000)
    assert pool.take(b"a") is connection


async def test_closing_closes_everything_idle() -> None:
    pool, _ = make()
    connections = [Connection(), Connection()]
    pool.give(b"a", connections[0])
    pool.give(None, connections[1])
    pool.close()
    pool.close()
    assert [connection.closed for connection in connections] == [True, True]
    assert pool.take(b"a") is None
    assert pool.statistics().idle == 0
