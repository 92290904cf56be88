"""Turns: one connection's costly read goes on at a time, first come first served, and rests after what was heavy."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import trio
import trio.testing

from meshcore.testing import explore_schedules
from meshcore.transport.turns import HEAVY, MOST_REST, Turn


class Pieces(trio.abc.Instrument):
    """Connections that have pieces to do; whose were done, and in which turn of the loop."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.loop_turns = 0
        self.done: list[tuple[str, int]] = []
        self.left = 0
        self._nursery = nursery
        trio.lowlevel.add_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        self.loop_turns += 1

    def add(self, name: str, pieces: int, worked: float = 0.0, scope: trio.CancelScope | None = None) -> None:
        self.left += 1
        self._nursery.start_soon(self._work, name, pieces, worked, scope or trio.CancelScope())

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.done)

    @property
    def turns(self) -> list[int]:
        return [turn for _, turn in self.done]

    async def all_done(self) -> None:
        while self.left:
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(0.001)

    async def _work(self, name: str, pieces: int, worked: float, scope: trio.CancelScope) -> None:
        with scope, Turn() as turn:
            for _ in range(pieces):
                await turn.wait(worked)
                self.done.append((name, self.loop_turns))
        self.left -= 1


async def test_one_alone_goes_on_after_a_turn_of_others(nursery: trio.Nursery) -> None:
    pieces = Pieces(nursery)
    pieces.add("a", 5)
    await pieces.all_done()
    assert [1] * 4 == [after - before for before, after in pairwise(pieces.turns)]


async def test_a_turn_of_the_loop_has_one_piece_however_many_have_some(nursery: trio.Nursery) -> None:
    pieces = Pieces(nursery)
    for name in "abcdefgh":
        pieces.add(name, 6)
    await pieces.all_done()
    assert 48 == len(pieces.done)
    assert 48 == len(set(pieces.turns))


async def test_first_come_first_served(nursery: trio.Nursery) -> None:
    pieces = Pieces(nursery)
    with Turn() as turn:
        await turn.wait(0.0)
        for name in "abc":
            pieces.add(name, 3)
            await trio.testing.wait_all_tasks_blocked()
        assert not pieces.done
    await pieces.all_done()
    assert "abcabcabc" == pieces.names


@pytest.mark.parametrize(
    ("worked", "rest"), [(HEAVY * 0.9, 0.0), (HEAVY, HEAVY), (0.03, 0.03), (MOST_REST, MOST_REST), (5.0, MOST_REST)]
)
async def test_what_was_heavy_is_followed_by_as_long_a_rest(
    autojump_clock: trio.testing.MockClock, worked: float, rest: float
) -> None:
    began = trio.current_time()
    with Turn() as turn:
        for _ in range(3):
            await turn.wait(worked)
    assert pytest.approx(3 * rest) == trio.current_time() - began


async def test_nobody_else_goes_on_during_a_rest(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        done: list[tuple[str, float]] = []
        began = trio.current_time()

        async def work(name: str, worked: float) -> None:
            with Turn() as turn:
                for _ in range(2):
                    await turn.wait(worked)
                    done.append((name, round(trio.current_time() - began, 6)))

        nursery.start_soon(work, "heavy", 0.05)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, "light", 0.0)
    assert [("light", 0.05), ("heavy", 0.05), ("light", 0.1), ("heavy", 0.1)] == sorted(
        done, key=lambda each: (each[1], each[0] == "heavy")
    )


async def test_who_had_to_wait_rests_for_what_it_has_done_all_the_same(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    began = trio.current_time()
    when: list[float] = []

    async def work() -> None:
        with Turn() as turn:
            await turn.wait(0.05)
            when.append(round(trio.current_time() - began, 6))

    for _ in range(4):
        nursery.start_soon(work)
    await trio.sleep(1)
    assert [0.05, 0.1, 0.15, 0.2] == when


async def test_one_that_fails_lets_the_next_go_on(nursery: trio.Nursery) -> None:
    pieces = Pieces(nursery)
    with pytest.raises(ZeroDivisionError), Turn() as turn:
        await turn.wait(0.0)
        pieces.add("a", 2)
        await trio.lowlevel.checkpoint()
        assert not pieces.done
        raise ZeroDivisionError
    await pieces.all_done()
    assert "aa" == pieces.names


async def test_one_that_is_cancelled_finishes_what_it_has_read(nursery: trio.Nursery) -> None:
    pieces = Pieces(nursery)
    scopes = [trio.CancelScope() for _ in range(3)]
    for name, scope in zip("abc", scopes, strict=True):
        pieces.add(name, 4, HEAVY, scope)
    await trio.testing.wait_all_tasks_blocked()
    for scope in scopes:
        scope.cancel()
    await pieces.all_done()
    assert {"a": 4, "b": 4, "c": 4} == Counter(pieces.names)


@explore_schedules()
async def test_two_never_have_the_turn_together_and_each_gets_it() -> None:
    inside = 0
    finished: list[int] = []

    async def work(number: int) -> None:
        nonlocal inside
        with Turn() as turn:
            for _ in range(1 + number % 3):
                await turn.wait(0.0)
                assert not inside
                inside += 1
                # A piece may let others run, too.
                await trio.lowlevel.checkpoint()
                inside -= 1
        finished.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(7):
            nursery.start_soon(work, number)
            if number % 2:
                await trio.lowlevel.checkpoint()
    assert list(range(7)) == sorted(finished)
    # And nothing of it stays: the next one does not wait for anybody.
    with trio.fail_after(1), Turn() as turn:
        await turn.wait(0.0)
