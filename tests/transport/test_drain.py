"""The drain: told once, tells everyone."""

from __future__ import annotations

import logging

import pytest
import trio

from meshcore.transport.drain import Drain


async def test_everyone_who_registered_is_told_once() -> None:
    drain = Drain()
    told: list[str] = []
    drain.on_start(lambda: told.append("a"))
    forget = drain.on_start(lambda: told.append("b"))
    drain.on_start(lambda: told.append("c"))
    forget()
    forget()

    drain.start("SIGTERM")
    drain.start("again")

    assert ["a", "c"] == told
    assert (True, "SIGTERM") == (drain.started, drain.reason)


async def test_who_registers_late_is_told_at_once() -> None:
    drain = Drain()
    drain.start()
    told: list[str] = []

    drain.on_start(lambda: told.append("late"))()

    assert ["late"] == told


async def test_the_same_function_may_register_twice() -> None:
    drain = Drain()
    told: list[str] = []

    def tell() -> None:
        told.append("told")

    drain.on_start(tell)
    drain.on_start(tell)()
    drain.start()

    assert ["told"] == told


async def test_one_that_raises_does_not_keep_the_others_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    drain = Drain()
    told: list[str] = []

    def broken() -> None:
        raise ZeroDivisionError("broken")

    drain.on_start(broken)
    drain.on_start(lambda: told.append("told"))
    with caplog.at_level(logging.WARNING):
        drain.start()

    assert ["told"] == told
    assert ["crash in drain: ZeroDivisionError: broken"] == caplog.messages


async def test_it_can_be_waited_for() -> None:
    drain = Drain()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.wait_started)
        drain.start()
    await drain.wait_started()
