"""Where the lines of an access log go: files that are moved away, truncated, or on a disk that is full."""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshcore.layers.access_log import AccessLog, output
from meshcore.layers.access_log.output import Output
from meshcore.metrics.registry import Registry
from meshcore.testing import MockNewService, request
from meshcore.transport.target import Accepted

SECONDS = 10
"""A bound on what a thread may take on a busy machine."""


def logged(nursery: trio.Nursery, to: Path, registry: Registry | None = None, **options: Any) -> Any:
    new: Any = MockNewService()
    layer = AccessLog(to=str(to), registry=registry, template="%{path}", **options)
    return layer.layer(new).new_service(Accepted(), nursery)


async def lines_in(path: Path, count: int) -> list[str]:
    """The lines of a file, once there are so many; written by a thread, in its own time."""
    with trio.fail_after(SECONDS):
        while not path.exists() or path.read_text().count("\n") < count:
            await trio.sleep(0.01)
    return path.read_text().splitlines()


async def test_lines_are_appended_to_a_file_that_is_made(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    service = logged(nursery, path)
    for number in range(3):
        await service(request(path=b"/%d" % number))
    assert await lines_in(path, 3) == ["/0", "/1", "/2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("old\n")
    flush(Output(path), "new\n", 0.0)
    assert path.read_text() == "old\nnew\n"


def flush(out: Output, text: str, now: float) -> None:
    out._flush(deque([text]), now)


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    path.rename(tmp_path / "access.log.1")
    # Not looked at for each batch: once a second.
    flush(out, "2\n", 10.5)
    flush(out, "3\n", 11.1)
    assert (tmp_path / "access.log.1").read_text() == "1\n2\n"
    assert path.read_text() == "3\n"


def test_a_file_that_another_has_replaced_is_left(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    (tmp_path / "new").write_text("made\n")
    (tmp_path / "new").rename(path)
    flush(out, "2\n", 12.0)
    assert path.read_text() == "made\n2\n"


def test_a_file_that_is_truncated_in_place_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    os.truncate(path, 0)
    flush(out, "2\n", 10.1)
    assert path.read_bytes() == b"2\n"


def test_the_old_file_serves_while_a_new_one_cannot_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        flush(out, "lost\n", 12.0)
    flush(out, "2\n", 12.5)
    folder.mkdir()
    flush(out, "3\n", 13.1)
    assert (tmp_path / "moved" / "access.log").read_text() == "1\n2\n"
    assert path.read_text() == "3\n"


def test_the_old_file_serves_for_as_long_as_a_new_one_cannot_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    folder.rename(tmp_path / "moved")
    # That is told once.
    with pytest.raises(FileNotFoundError):
        flush(out, "lost\n", 12.0)
    for number in range(2, 6):
        flush(out, f"{number}\n", 12.0 + number)
    folder.mkdir()
    flush(out, "new\n", 20.0)
    assert (tmp_path / "moved" / "access.log").read_text() == "1\n2\n3\n4\n5\n"
    assert path.read_text() == "new\n"
    folder.rename(tmp_path / "again")
    with pytest.raises(FileNotFoundError):
        flush(out, "lost\n", 22.0)


def test_a_file_that_is_gone_serves_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    path.unlink()
    folder.rmdir()
    for now in (12.0, 13.5, 15.0):
        with pytest.raises(FileNotFoundError):
            flush(out, "lost\n", now)
    folder.mkdir()
    flush(out, "2\n", 17.0)
    assert path.read_text() == "2\n"


def test_half_a_line_on_a_disk_that_was_full_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    out = Output(path)
    flush(out, "1\n", 10.0)
    real = os.write

    def full(file: int, data: Any) -> int:
        if len(data) <= 3:
            raise OSError(28, "No space left on device")
        return real(file, bytes(data[:3]))

    with monkeypatch.context() as patched:
        patched.setattr(output.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            flush(out, "abcdef\n", 10.1)
    flush(out, "2\n", 10.2)
    assert path.read_text() == "1\nabcdef\n2\n"


async def test_a_full_disk_drops_lines_and_counts_them(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    service = logged(nursery, Path("/dev/full"), registry)
    for _ in range(3):
        await service(request())
    with trio.fail_after(SECONDS):
        while "access_log_dropped_total 3" not in registry.render(False):
            await trio.sleep(0.01)
    assert "access_log_lines_total 0" in registry.render(False)
    assert [record.getMessage() for record in caplog.records] == ["access log: No space left on device"]


async def test_a_pipe_that_nobody_reads_stalls_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LAST_WORDS", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    registry = Registry()
    async with trio.open_nursery() as nursery:
        service = logged(nursery, path, registry, capacity=100)
        sent = 0
        with trio.fail_after(SECONDS):
            # More than a pipe takes, and then than the queue does.
            while "access_log_dropped_total 0" in registry.render(False) or not sent:
                for _ in range(20):
                    await service(request(path=b"/" + b"x" * 2_000))
                sent += 20
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    os.close(reader)
    assert sent > 100


async def test_two_pipelines_share_one_file(nursery: trio.Nursery, tmp_path: Path) -> None:
    registry = Registry()
    first, second = (logged(nursery, tmp_path / "a", registry, direction=side) for side in ("inbound", "outbound"))
    assert first.lines is not second.lines
    assert first.lines._output is second.lines._output
    await first(request(path=b"/1"))
    await second(request(path=b"/2"))
    assert sorted(await lines_in(tmp_path / "a", 2)) == ["/1", "/2"]


async def test_the_last_lines_are_in_the_file_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    registry = Registry()
    async with trio.open_nursery() as nursery:
        service = logged(nursery, path, registry)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(2_000):
            await service(request(path=b"/%d" % number))
        nursery.cancel_scope.cancel()
    assert path.read_text().splitlines() == [f"/{number}" for number in range(2_000)]
    assert "access_log_lines_total 2000" in registry.render(False)


async def test_standard_error_is_one_of_the_places(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    new: Any = MockNewService()
    layer = AccessLog(to="stderr", fields={"path": "%{path}"})
    async with trio.open_nursery() as inner:
        service = layer.layer(new).new_service(Accepted(), inner)
        await service(request())
        inner.cancel_scope.cancel()
    assert json.loads(capsys.readouterr().err) == {"path": "/"}
