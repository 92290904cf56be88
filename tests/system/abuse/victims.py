"""The other client, who must not notice; and the measure of what an attack did."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.peers.process import Running

__all__ = ["survives"]

ROOT = Path(__file__).parent.parent.parent.parent
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
LIMIT = 0.1
GROWTH_MIB = 16


class Victim:
    """One kept connection that is used over and over, and a new one each time beside it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.kept = socket.create_connection(("127.0.0.1", port), 5)
        self.kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self) -> tuple[float, float]:
        """Seconds that the answers took: on the kept connection, on a new one."""
        began = time.monotonic()
        self._exchange(self.kept)
        between = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            self._exchange(sock)
        return between - began, time.monotonic() - between

    @staticmethod
    def _exchange(sock: socket.socket) -> None:
        sock.sendall(GET)
        got = b""
        while not got.endswith(b"x\n"):
            chunk = sock.recv(65_536)
            assert chunk, f"the victim's connection was closed after {got!r}"
            got += chunk
        assert got.startswith(b"HTTP/1.1 200"), got

    def median(self, seconds: float) -> tuple[float, int]:
        """The median of what answers took over so long, the worse of both kinds; memory is looked at between."""
        end = time.monotonic() + seconds
        took: list[tuple[float, float]] = []
        while time.monotonic() < end:
            took.append(self.ask())
            time.sleep(0.02)
        kept, new = (statistics.median(each) for each in zip(*took, strict=True))
        return max(kept, new), len(took)

    def close(self) -> None:
        self.kept.close()


def _share(since: tuple[float, float], until: tuple[float, float]) -> float:
    """How much of the CPU time that it was ready for a process got between two looks at ``scheduled()``."""
    ran, waited = until[0] - since[0], until[1] - since[1]
    return ran / (ran + waited) if ran > 0 else 1.0


def survives(
    through: Running, kind: str, seconds: float, *, victim_port: int | None = None, module: str = "tests.peers.attacks"
) -> None:
    """Attacks the proxy for *seconds* while a victim uses it, and asserts that the victim does not notice, that the
    proxy lives, and that its memory stays."""
    victim = Victim(victim_port or through.port)
    try:
        baseline, _ = victim.median(0.2)
        memory = through.memory_kib()
        with subprocess.Popen(
            [sys.executable, "-m", module, kind, str(through.port), str(seconds)], cwd=ROOT, stdout=subprocess.DEVNULL
        ) as attacker:
            try:
                # The attacker's start.
                time.sleep(0.3)
                since = through.scheduled()
                during, count = victim.median(seconds)
                share = _share(since, through.scheduled())
                grown = (through.memory_kib() - memory) / 1024
            finally:
                attacker.kill()
        since = through.scheduled()
        after, _ = victim.median(0.2)
        share_after = _share(since, through.scheduled())
        grown = max(grown, (through.memory_kib() - memory) / 1024)
    finally:
        victim.close()
    assert through.alive, through.output()[-4_000:]
    # What the machine gave to others, the attacker among them, is no fault of the proxy; nor is a machine that
    # is slow without any attack.
    told = f"{count} answers, {during * 1e3:.0f} ms during, {baseline * 1e3:.1f} ms before, {share:.0%} of a CPU"
    assert count >= 5 * share, told
    assert during * share < max(LIMIT, 5 * baseline), told
    assert after * share_after < max(LIMIT, 5 * baseline), f"{after * 1e3:.0f} ms after; {told}"
    assert grown < GROWTH_MIB, f"{grown:.1f} MiB more"
