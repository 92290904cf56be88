from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from meshcore.transport.drain import Drain
from meshcore.wrap import run_command


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


async def wrapped(command: list[str], *, grace: float = 10.0) -> tuple[int, Drain]:
    ready, drain = trio.Event(), Drain()
    ready.set()
    with trio.fail_after(30):
        return await run_command(command, ready=ready, drain=drain, grace=grace), drain


async def there(path: Path) -> None:
    with trio.fail_after(30):
        while not path.exists():
            await trio.sleep(0.02)


@pytest.mark.parametrize("code", [0, 1, 42])
async def test_the_exit_code_is_the_applications_and_its_end_starts_the_drain(code: int) -> None:
    found, drain = await wrapped(program(f"raise SystemExit({code})"))
    assert (code, True, "the application has ended") == (found, drain.started, drain.reason)


async def test_an_application_that_a_signal_ended_is_told_as_shells_do() -> None:
    code, _ = await wrapped(program("import os; os.kill(os.getpid(), 9)"))
    assert code == 128 + 9


async def test_a_command_that_is_not_there_is_127_and_starts_the_drain() -> None:
    code, drain = await wrapped(["/no/such/program"])
    assert (code, drain.started) == (127, True)


async def test_a_command_that_cannot_be_run_is_126(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    code, _ = await wrapped([str(tmp_path / "data")])
    assert code == 126


async def test_it_is_not_started_before_the_proxy_is_ready(tmp_path: Path) -> None:
    ready, drain = trio.Event(), Drain()
    codes = []

    async def run() -> None:
        codes.append(await run_command(program(f"open({str(tmp_path / 'x')!r}, 'w')"), ready=ready, drain=drain))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(0.2)
        assert not (tmp_path / "x").exists()
        ready.set()
    assert (codes, (tmp_path / "x").exists()) == ([0], True)


async def test_a_drain_before_it_was_started_means_that_it_never_is() -> None:
    ready, drain = trio.Event(), Drain()
    drain.start("SIGTERM")
    assert await run_command(["/no/such/program"], ready=ready, drain=drain) == 1


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
async def test_a_signal_goes_to_the_application_and_not_to_the_proxy(tmp_path: Path, which: signal.Signals) -> None:
    text = (
        "import signal, sys, time\n"
        f"signal.signal({int(which)}, lambda *_: sys.exit(17))\n"
        f"open({str(tmp_path / 'up')!r}, 'w')\n"
        "time.sleep(30)\n"
    )
    found: list[tuple[int, Drain]] = []

    async def run() -> None:
        found.append(await wrapped(program(text)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await there(tmp_path / "up")
        os.kill(os.getpid(), which)
    assert (found[0][0], found[0][1].reason) == (17, "the application has ended")


async def test_an_application_that_does_not_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    text = (
        "import signal, time\n"
        "signal.signal(15, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'up')!r}, 'w')\n"
        "time.sleep(30)\n"
    )
    found: list[tuple[int, Drain]] = []

    async def run() -> None:
        found.append(await wrapped(program(text), grace=0.2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await there(tmp_path / "up")
        os.kill(os.getpid(), signal.SIGTERM)
    assert found[0][0] == 128 + 9


async def test_a_drain_that_somebody_else_starts_ends_the_application(tmp_path: Path) -> None:
    ready, drain = trio.Event(), Drain()
    ready.set()
    codes = []
    text = f"open({str(tmp_path / 'up')!r}, 'w'); import time; time.sleep(30)"

    async def run() -> None:
        codes.append(await run_command(program(text), ready=ready, drain=drain))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await there(tmp_path / "up")
        drain.start("POST /shutdown")
    assert codes == [128 + 15]


async def test_a_proxy_that_is_cancelled_takes_the_application_with_it(tmp_path: Path) -> None:
    text = f"import os, time; open({str(tmp_path / 'up')!r}, 'w').write(str(os.getpid())); time.sleep(30)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wrapped, program(text))
        await there(tmp_path / "up")
        await trio.sleep(0.1)
        pid = int((tmp_path / "up").read_text())
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
