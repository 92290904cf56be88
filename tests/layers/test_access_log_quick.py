"""Lines that are written without a thread: to a file of this machine, and to a pipe that has room."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import trio

from meshcore.layers.access_log import output
from meshcore.layers.access_log.output import Output
from meshcore.layers.access_log.quick import _file_system, is_quick, pipe_of, write_to_pipe

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / /var/log rw shared:5 - nfs4 server:/log rw
31 30 0:26 / /var/log/my\\040logs rw - tmpfs tmpfs rw
32 22 0:27 / /mnt rw - ext4 /dev/b rw
33 32 0:28 / /mnt rw - fuse.sshfs far:/ rw
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what it looks at is Linux's")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/access.log", "ext4"),
        ("/var/logs/a", "ext4"),
        ("/var/log", "nfs4"),
        ("/var/log/a", "nfs4"),
        ("/var/log/my logs/a", "tmpfs"),
        ("/mnt/a", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_innermost_mount(path: str, kind: str) -> None:
    assert kind == _file_system(path, MOUNTS)
    assert "" == _file_system(path, "nothing that\nanybody knows - of")


@linux
def test_only_a_plain_file_is_written_without_a_thread(tmp_path: Path) -> None:
    plain, pipe, link = tmp_path / "plain", tmp_path / "pipe", tmp_path / "link"
    assert is_quick(str(plain))
    plain.write_text("")
    os.mkfifo(pipe)
    link.symlink_to(plain)
    assert [True, False, False, False] == [is_quick(str(path)) for path in (plain, pipe, link, "/dev/full")]
    assert not is_quick("/proc/self/nothing")
    # Whatever leads there.
    (tmp_path / "far").symlink_to("/proc/self")
    assert not is_quick(str(tmp_path / "far" / "nothing"))


def no_thread(*_: object, **__: object) -> Any:
    raise AssertionError("a thread")


@linux
async def test_a_file_has_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    out = Output(tmp_path / "a")
    for number in range(3):
        await out.write(deque([f"{number}\n", "more\n"]))
    assert "0\nmore\n1\nmore\n2\nmore\n" == (tmp_path / "a").read_text()
    assert await out.finish(deque(["end\n"]))


@linux
async def test_a_disk_that_was_slow_once_has_one_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_SLOW", -1.0)
    out = Output(tmp_path / "a")
    await out.write(deque(["1\n"]))
    monkeypatch.setattr(output, "_SLOW", 1_000.0)
    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    with pytest.raises(AssertionError, match="a thread"):
        await out.write(deque(["2\n"]))


@linux
def test_a_pipe_takes_what_it_has_room_for_in_whole_lines() -> None:
    reader, writer = os.pipe()
    lines = [f"{number:05d} {'é' * 300}\n" for number in range(1_000)]
    parts = deque(["".join(lines[:500]), "".join(lines[500:])])
    assert not write_to_pipe(writer, parts)
    taken = os.read(reader, 1 << 20).decode()
    assert taken.endswith("\n")
    assert "".join(lines) == taken + "".join(parts)
    while parts:
        write_to_pipe(writer, parts)
        taken += os.read(reader, 1 << 20).decode()
    assert "".join(lines) == taken
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        write_to_pipe(writer, deque(["x\n"]))
    os.close(writer)


@linux
def test_a_line_that_a_pipe_could_cut_is_left_to_a_thread() -> None:
    reader, writer = os.pipe()
    parts = deque(["short\n" + "x" * 5_000 + "\nlast\n"])
    assert not write_to_pipe(writer, parts)
    assert b"short\n" == os.read(reader, 100)
    assert deque(["x" * 5_000 + "\nlast\n"]) == parts
    os.close(reader)
    os.close(writer)


def test_only_a_pipe_is_one(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as file:
        assert -1 == pipe_of(file)
    assert -1 == pipe_of(file) == pipe_of(None) == pipe_of(object())
    with socket.socket() as sock:
        assert -1 == pipe_of(sock)


@linux
async def test_standard_output_that_is_a_pipe_has_no_thread_while_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with monkeypatch.context() as patched:
            patched.setattr(trio.to_thread, "run_sync", no_thread)
            out = Output("stdout")
            await out.write(deque(["1\n", "2\n"]))
            assert b"1\n2\n" == os.read(reader, 100)
        large = "".join(f"{number}\n" for number in range(30_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.write, deque([large]))
            taken = b""
            while len(taken) < len(large):
                taken += await trio.to_thread.run_sync(os.read, reader, 1 << 20)
        assert large == taken.decode()
    os.close(reader)
