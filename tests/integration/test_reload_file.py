"""A config file that changes under a running proxy: written in place, half-written, wrong, behind a symbolic link."""

from __future__ import annotations

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshcore import Proxy, Request, Response, load_config
from meshcore.config import ConfigFile
from meshcore.http.body import read_all
from meshcore.proxy import run
from meshcore.testing import MemoryMesh, request, response

TEXT = """\
[listen.public]
bind = "gateway:80"
to = [{{ backend = "{to}" }}]
[backend.blue]
endpoints = ["blue:80"]
[backend.green]
endpoints = ["green:80"]
[admin]
listen = "127.0.0.1:4191"
"""
BLUE, GREEN = TEXT.format(to="blue"), TEXT.format(to="green")


class Named:
    """An application that answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, request: Request) -> Response:
        return response(200, self.name.encode())


class Watched:
    """A gateway of a file."""

    def __init__(self, nursery: trio.Nursery, path: Path) -> None:
        self.mesh = MemoryMesh(nursery)
        self.nursery = nursery
        self.path = path

    async def start(self, *settings: str) -> Proxy:
        for name in ("blue", "green"):
            await self.mesh.serve((name, 80), Named(name))
        file = ConfigFile(self.path, settings)
        starting = partial(
            run,
            load_config(self.path, settings),
            connect=self.mesh.network.connect,
            listen=self.mesh.network.open_listeners,
            clock=self.mesh.now,
            file=file,
        )
        proxy: Proxy = await self.nursery.start(starting)
        self.proxy = proxy
        self.client = self.mesh.client(("gateway", 80))
        return proxy

    async def ask(self) -> bytes:
        return await read_all((await self.client(request())).body)

    async def admin(self, path: bytes = b"/config", method: bytes = b"GET") -> tuple[int, Any]:
        answer = await self.mesh.client(("127.0.0.1", 4191))(request(method, path, authority=b"localhost"))
        return answer.status, json.loads(await read_all(answer.body))

    def counted(self, result: str) -> float:
        assert self.proxy.reloader is not None
        return self.proxy.reloader._results[result].value


async def watched_file(nursery: trio.Nursery, folder: Path, *settings: str) -> Watched:
    path = folder / "mesh.toml"
    path.write_text(BLUE)
    watched = Watched(nursery, path)
    await watched.start(*settings)
    return watched


async def test_a_file_that_changes_is_taken_within_two_seconds(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshcore")
    watched = await watched_file(nursery, tmp_path)
    assert b"blue" == await watched.ask()

    watched.path.write_text(GREEN)
    await trio.sleep(2)

    assert b"green" == await watched.ask()
    assert f"config v2: changed: listen.public.to ({watched.path} has changed)" in caplog.text
    nursery.cancel_scope.cancel()


async def test_a_wrong_file_changes_nothing_and_every_mistake_is_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = await watched_file(nursery, tmp_path)

    watched.path.write_text(GREEN.replace("backend.green", "backend.gren") + "[proxy]\nengin = 1\n")
    await trio.sleep(2)

    assert b"blue" == await watched.ask()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f"config refused: {watched.path}:3: listen.public.to[0].backend: there is no" in told[0]
    assert f"config refused: {watched.path}:11: proxy.engin: unknown key; did you mean 'engine'?" in told
    assert f"config v1 stays as it is ({watched.path} has changed)" == told[-1]
    status, value = await watched.admin()
    assert (200, 1, "failed", 2) == (
        status,
        value["reload"]["version"],
        value["reload"]["last"]["result"],
        len(value["reload"]["last"]["problems"]),
    )
    # It is not tried again and again.
    await trio.sleep(10)
    assert 1 == watched.counted("failed")

    watched.path.write_text(GREEN)
    await trio.sleep(2)
    assert b"green" == await watched.ask()
    _, value = await watched.admin()
    assert (2, "applied") == (value["reload"]["version"], value["reload"]["last"]["result"])
    text = watched.proxy.registry.render()
    assert 'config_reload_total{result="failed"} 1\n' in text
    assert "config_version 2\n" in text
    assert "config_last_reload_successful 1\n" in text
    nursery.cancel_scope.cancel()


async def test_a_file_that_is_still_being_written_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path)
    half = GREEN.index("[backend.blue]")
    with watched.path.open("w") as file:
        file.write(GREEN[:half])
        file.flush()
        for character in GREEN[half:]:
            await trio.sleep(0.3)
            file.write(character)
            file.flush()
            # Of another time stamp, which virtual seconds are not.
            os.utime(file.fileno(), ns=(0, int(trio.current_time() * 1e9)))
            assert 0 == watched.counted("failed") + watched.counted("applied")
    await trio.sleep(2)
    assert 0 == watched.counted("failed")
    nursery.cancel_scope.cancel()


async def test_a_file_that_is_gone_for_a_while_is_missed_by_nobody(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = await watched_file(nursery, tmp_path)
    watched.path.unlink()
    await trio.sleep(5)
    assert b"blue" == await watched.ask()
    assert f"config refused: {watched.path}: no such file or directory" in caplog.text
    assert 1 == watched.counted("failed")

    watched.path.write_text(GREEN)
    await trio.sleep(2)
    assert b"green" == await watched.ask()
    nursery.cancel_scope.cancel()


async def test_a_symbolic_link_that_is_turned_is_noticed_as_kubernetes_does_it(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    for version, text in (("..1", BLUE), ("..2", GREEN)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "mesh.toml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "mesh.toml").symlink_to("..data/mesh.toml")
    watched = Watched(nursery, tmp_path / "mesh.toml")
    await watched.start()
    assert b"blue" == await watched.ask()

    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await trio.sleep(2)

    assert b"green" == await watched.ask()
    nursery.cancel_scope.cancel()


async def test_a_rename_over_the_file_is_noticed_and_settings_of_the_command_line_hold(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path, "proxy.grace_period=5s")
    new = watched.path.with_suffix(".new")
    new.write_text(GREEN + '[proxy]\ngrace_period = "7s"\naccess_log = "off"\n')
    new.rename(watched.path)
    await trio.sleep(2)
    assert b"green" == await watched.ask()
    assert 5.0 == watched.proxy.config.proxy.grace_period  # type: ignore[union-attr]
    nursery.cancel_scope.cancel()


async def test_what_needs_a_restart_is_told_with_its_line(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path)
    watched.path.write_text(GREEN.replace("127.0.0.1:4191", "127.0.0.1:4192"))
    assert watched.proxy.reloader is not None
    reloaded = await watched.proxy.reloader.reload("a test")
    assert (f"{watched.path}:9: admin.listen: cannot be changed by a reload; restart the proxy",) == reloaded.problems
    assert b"blue" == await watched.ask()
    nursery.cancel_scope.cancel()


async def test_a_crash_while_pipelines_are_built_is_a_reload_that_failed(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = await watched_file(nursery, tmp_path)

    def broken(*_: object) -> Any:
        raise TypeError("a layer of somebody's")

    with monkeypatch.context() as patch:
        patch.setattr("meshcore.running.live.pipelines", broken)
        watched.path.write_text(GREEN)
        await trio.sleep(2)
    assert b"blue" == await watched.ask()
    _, value = await watched.admin()
    assert [f"{watched.path}: TypeError: a layer of somebody's"] == value["reload"]["last"]["problems"]
    nursery.cancel_scope.cancel()


async def test_a_program_may_reload_what_no_file_has(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    watched = await watched_file(nursery, tmp_path)
    proxy = watched.proxy
    watched.path.write_text(GREEN)
    reloaded = await proxy.reload(load_config(watched.path))
    assert ("applied", 2, "changed: listen.public.to", "the program") == (
        reloaded.result,
        reloaded.version,
        reloaded.changes,
        reloaded.cause,
    )
    assert b"green" == await watched.ask()
    nursery.cancel_scope.cancel()
