"""Load generators, and what they report, as one form."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.process import scratch
from tests.peers.servers import program

PROGRAMS = Path(__file__).parent.parent / "peers" / "programs"

__all__ = ["Load", "counted", "grpc", "h2load", "handshakes", "iperf3", "paced", "requests", "succeeded", "wrk"]


@dataclass
class Load:
    """What a load generator saw.

    Attributes:
        requests: answered.
        seconds: for how long.
        failed: answered wrongly, or not at all.
        p50, p99: milliseconds from request to answer; None where it is not told.
        bytes: of bodies received.
    """

    requests: int
    seconds: float
    failed: int
    p50: float | None = None
    p99: float | None = None
    bytes: int = 0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


_COUNTS = re.compile(
    r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored"
)
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1_000.0, "m": 60_000.0}
_TIME = re.compile(r"([0-9.]+)(us|ms|s|m)")
_SIZES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def _milliseconds(text: str) -> float:
    found = _TIME.fullmatch(text.strip())
    assert found, text
    return float(found[1]) * _UNITS[found[2]]


def _run(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


def wrk(port: int, *, path: str = "/", connections: int = 32, seconds: float = 2.0) -> Load:
    """HTTP/1.1, kept connections, as fast as it goes."""
    # wrk counts whole seconds only.
    whole = max(1, round(seconds))
    text = _run(
        [program("wrk"), "-t1", f"-c{connections}", f"-d{whole}s", "--latency", "--timeout", "10s",
         f"http://127.0.0.1:{port}{path}"],
        whole + 30,
    )  # fmt: skip
    found = re.search(r"(\d+) requests in ([0-9.]+)(ms|s|m), ([0-9.]+)(B|KB|MB|GB) read", text)
    assert found, text
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    p50, p99 = (re.search(rf"^\s+{share}%\s+(\S+)", text, re.MULTILINE) for share in (50, 99))
    return Load(
        requests=int(found[1]),
        seconds=float(found[2]) * _UNITS[found[3]] / 1_000,
        failed=sum(map(int, errors.groups())) if errors else int(wrong[1]) if wrong else 0,
        p50=_milliseconds(p50[1]) if p50 else None,
        p99=_milliseconds(p99[1]) if p99 else None,
        bytes=int(float(found[4]) * _SIZES[found[5]]),
    )


def _h2load(command: list[str], seconds: float) -> Load:
    with scratch("h2load") as directory:
        log = directory / "log"
        text = _run([program("h2load"), "-t1", f"--log-file={log}", *command], seconds)
        took = _latencies(log)
    counts = _COUNTS.search(text)
    length = re.search(r"finished in ([0-9.]+)(us|ms|s|m),", text)
    body = re.search(r"(\d+)\) data", text) or re.search(r"\((\d+)\) data", text)
    assert counts, text
    assert length, text
    return Load(
        requests=int(counts[4]),
        seconds=float(length[1]) * _UNITS[length[2]] / 1_000,
        failed=int(counts[5]),
        p50=took[len(took) // 2] if took else None,
        p99=took[len(took) * 99 // 100] if took else None,
        bytes=int(body[1]) if body else 0,
    )


def _latencies(log: Path) -> list[float]:
    """Milliseconds of each request, sorted."""
    if not log.exists():
        return []
    return sorted(int(line.rsplit("\t", 1)[1]) / 1_000 for line in log.read_text().splitlines() if line)


def h2load(port: int, *, path: str = "/", clients: int = 8, streams: int = 16, seconds: float = 2.0) -> Load:
    """HTTP/2 without TLS, as fast as it goes."""
    url = f"http://127.0.0.1:{port}{path}"
    return _h2load([f"-c{clients}", f"-m{streams}", f"-D{max(1, round(seconds))}", url], seconds + 30)


def grpc(port: int, message: Path, *, clients: int = 8, streams: int = 16, seconds: float = 2.0) -> Load:
    """Unary calls of gRPC, as fast as it goes: each sends the framed *message*."""
    options = [f"-c{clients}", f"-m{streams}", f"-D{max(1, round(seconds))}", f"--data={message}"]
    options += ["-Hcontent-type: application/grpc", "-Hte: trailers"]
    return _h2load([*options, f"http://127.0.0.1:{port}/"], seconds + 30)


def handshakes(
    port: int, cert: Path, key: Path, anchors: Path, name: str, *, clients: int = 4, seconds: float = 2.0
) -> Load:
    """Full handshakes of mutual TLS, with one request each, from so many processes at once."""
    command = [sys.executable, str(PROGRAMS / "handshakes.py"), str(port), str(cert), str(key), str(anchors), name]
    running = [
        subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True) for _ in range(clients)
    ]
    lines = [line for each in running for line in each.communicate(timeout=seconds + 30)[0].split()]
    took = sorted(float(line) for line in lines if line != "failed")
    if not took:
        raise RuntimeError("not one handshake came to anything")
    return Load(len(took), seconds, len(lines) - len(took), took[len(took) // 2], took[len(took) * 99 // 100])


def requests(port: int, *, total: int, path: str = "/", clients: int = 8, streams: int = 16, h1: bool = False) -> Load:
    """So many requests, for those who count failures; HTTP/2, or HTTP/1.1 with *h1*."""
    return _h2load(_counted(port, total, path, clients, streams, h1=h1), 300)


def counted(port: int, total: int, *, clients: int = 8, streams: int = 16, h1: bool = False) -> list[str]:
    """The command that makes so many requests, for those who run it themselves and read :func:`succeeded` of what it
    says."""
    return [program("h2load"), "-t1", *_counted(port, total, "/", clients, streams, h1=h1)]


def _counted(port: int, total: int, path: str, clients: int, streams: int, *, h1: bool) -> list[str]:
    options = ["--h1"] if h1 else []
    return [*options, f"-c{clients}", f"-m{streams}", f"-n{total}", f"http://127.0.0.1:{port}{path}"]


def succeeded(text: str) -> int:
    """Requests that were answered well, by h2load's own count."""
    found = _COUNTS.search(text)
    assert found, text
    return int(found[4])


def paced(port: int, *, path: str = "/", rate: int = 1_000, connections: int = 20, seconds: float = 3.0) -> Load:
    """HTTP/1.1 at a fixed rate over so many connections, evenly spread: each is opened a request's time after the
    one before.  Opened all at once they would send all at once for ever, and the median would tell how long a burst
    of *connections* takes."""
    each = rate // connections
    url = f"http://127.0.0.1:{port}{path}"
    options = ["--h1", f"-c{connections}", "-m1", f"--rps={each}", f"-n{round(rate * seconds)}"]
    options += ["-r1", f"--rate-period={round(1_000 / rate)}ms"]
    return _h2load([*options, url], seconds + 30)


def iperf3(port: int, *, seconds: float = 2.0) -> Load:
    """One TCP stream for so long; ``bytes`` is what arrived.

    Raises:
        RuntimeError: the server stayed busy, or the stream broke.
    """
    command = [program("iperf3"), "-c", "127.0.0.1", "-p", str(port), "-t", str(max(1, round(seconds))), "-J"]
    report: dict[str, Any] = {}
    for _ in range(10):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        report = json.loads(done.stdout or "{}")
        end = report.get("end", {}).get("sum_received")
        if end:
            return Load(requests=0, seconds=end["seconds"], failed=0, bytes=end["bytes"])
        # It serves one at a time, and takes whoever merely looks whether it listens for one.
        time.sleep(0.3)
    raise RuntimeError(f"iperf3: {report.get('error')}")


def median(values: list[float]) -> float:
    return statistics.median(values)
