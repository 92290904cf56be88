"""Starting programs, waiting until they answer, and reading what they cost from /proc."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Running", "find", "free_port", "running", "scratch", "wait_until"]

_given: set[int] = set()
_random = random.Random(os.getpid())


def find(program: str) -> str | None:
    """The path of an installed program: beside this Python, on PATH, or where Debian keeps daemons."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    return shutil.which(program, path=os.pathsep.join(places))


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections."""
    while True:
        port = _random.randrange(12_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_until(condition: Callable[[], object], seconds: float = 10.0, what: str = "condition") -> None:
    """Waits until *condition* holds.

    Raises:
        TimeoutError: it did not in *seconds*.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not after {seconds} s: {what}")
        time.sleep(0.01)


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return False
    return True


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A temporary directory."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Running:
    """A running program: its process, the ports it serves, and its log.

    Attributes:
        name: what it is, for messages.
        port: where it serves; others by name in ``ports``.
        log: the file with its standard output and error.
        config: its config file, where it has one.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, port: int = 0) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.port = port
        self.ports: dict[str, int] = {}
        self.config = Path()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return found

    def cpu_seconds(self) -> float:
        """User and system time used so far, descendants (living or reaped) included."""
        ticks = 0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def scheduled(self) -> tuple[float, float]:
        """Seconds for which the process itself has run so far, and for which it was ready and had no CPU."""
        ran = waited = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                fields = (task / "schedstat").read_text().split()
            except OSError:
                continue
            ran += int(fields[0])
            waited += int(fields[1])
        return ran / 1e9, waited / 1e9

    def memory_kib(self, field: str = "Pss") -> int:
        """Memory of it and its descendants: ``Pss``, ``Rss`` … of smaps_rollup, in KiB."""
        total = 0
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))
        return total

    def descriptors(self) -> int:
        """Open file descriptors of the process itself."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 10.0) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Ends it and what it started, at once."""
        # The parent first: it would start another child in place of one that died.
        for pid in self.pids() if self.alive else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.alive:
            self.process.kill()
        self.process.wait(10)


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    port: int = 0,
    ready: Callable[[Running], bool] | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 20.0,
) -> Iterator[Running]:
    """Runs a program until the block ends; it is ready when *ready* says so, or when *port* is listened on.

    Raises:
        RuntimeError: it ended before it was ready, or was not ready in *seconds*; with its output.
    """
    with scratch(name) as directory:
        log = directory / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        program = Running(name, process, log, port)
        check = ready or (lambda program: listening(program.port))
        try:
            try:
                wait_until(lambda: check(program) or not program.alive, seconds, f"{name} ready")
            except TimeoutError as error:
                raise RuntimeError(f"{name} is not ready:\n{program.output()[-4000:]}") from error
            if not program.alive:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{program.output()[-4000:]}")
            yield program
        finally:
            program.kill()
