"""Places that take lines without a wait, so that no thread is needed for them.

A second thread costs more than its turns: from when it is there, the C library locks what it did not have to before,
for every request (1 to 2 % of a small one).
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections import deque

__all__ = ["is_quick", "pipe_of", "write_to_pipe"]

_LOCAL: Final = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
)
"""File systems that write into memory, mostly: nobody at the other end of a network is waited for."""
_MOUNTS: Final = "/proc/self/mountinfo"
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_WHOLE: Final = 4_096
"""Bytes that a pipe takes as a whole, or not at all (PIPE_BUF)."""


def is_quick(path: str) -> bool:
    """Whether *path* is a plain file, or none yet, on a disk of this machine, as far as one can tell without a wait."""
    folder, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(folder), name)
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            kind = _file_system(path, mounts.read())
        if kind not in _LOCAL:
            return False
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return os.path.exists(_MOUNTS)
    except OSError:
        return False
    return stat.S_ISREG(mode)


def _file_system(path: str, mounts: str) -> str:
    """The kind of the file system that *path* is on."""
    found, longest = "", -1
    for line in mounts.splitlines():
        words, _, after = line.partition(" - ")
        parts = words.split(" ")
        if len(parts) < 5:
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), parts[4]).rstrip("/")
        # Of two at one place the later one is seen.
        if len(point) >= longest and (path == point or path.startswith(point + "/")):
            found, longest = after.split(" ")[0], len(point)
    return found


def pipe_of(stream: Any) -> int:
    """The descriptor of a pipe that *stream* writes to, if it can be written to without a wait; else -1."""
    if not _NOWAIT:
        return -1
    try:
        number = int(stream.fileno())
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else -1
    except (AttributeError, OSError, ValueError):
        return -1


def write_to_pipe(pipe: int, parts: deque[str]) -> bool:
    """Writes what is in *parts* to a pipe, and takes it out, as far as that needs no wait; whether that was all.

    Raises:
        OSError: nobody reads it any more, or whatever else is wrong with it; what was tried is lost.
    """
    while parts:
        lines = parts.popleft().splitlines(keepends=True)
        rest = 0
        while rest < len(lines):
            begin, data = rest, b""
            while rest < len(lines) and len(data) + len(more := lines[rest].encode()) <= _WHOLE:
                data += more
                rest += 1
            try:
                if rest > begin:
                    os.pwritev(pipe, [data], -1, _NOWAIT)
                    continue
            except BlockingIOError:
                pass
            # One that is too long, or for which there is no room.
            parts.appendleft("".join(lines[begin:]))
            return False
    return True
