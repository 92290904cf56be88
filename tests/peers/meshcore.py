"""`meshcore proxy` itself, as a subprocess."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.process import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["command_line", "detecting", "meshcore", "routed"]

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(__file__).parent / "programs"
_READY = re.compile(r"ready from=(\S+)")


def command_line() -> list[str]:
    """The command as users have it: what is installed beside this Python, compiled or not, rather than the sources
    around the tests."""
    installed = Path(sys.executable).parent / "meshcore"
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "meshcore_cli"]


def _take_port(program: Running) -> bool:
    found = _READY.search(program.output())
    if found:
        program.port = int(found[1].rpartition(":")[2])
    return found is not None


@contextmanager
def meshcore(
    to: Sequence[int | str], *options: str, scheme: str = "http", listen: str = "127.0.0.1:0", engine: str = "auto"
) -> Iterator[Running]:
    """``meshcore proxy`` in front of *to* (ports on loopback, or whole URLs)."""
    urls = ",".join(each if isinstance(each, str) else f"{scheme}://127.0.0.1:{each}" for each in to)
    command = [
        *command_line(),
        "proxy",
        "--from",
        listen,
        "--to",
        urls,
        "--engine",
        engine,
        *options,
    ]
    if "--admin" not in options:
        command += ["--admin", "off"]
    if "--access-log" not in options:
        command += ["--access-log", "off"]

    with running("meshcore", command, ready=_take_port, cwd=ROOT) as proxy:
        admin = re.search(r"admin=(\S+)", proxy.output())
        if admin and admin[1] != "off":
            proxy.ports["admin"] = int(admin[1].rpartition(":")[2])
        yield proxy


@contextmanager
def routed(routes: dict[str, str], engine: str = "auto") -> Iterator[Running]:
    """The gateway pipeline with routes by authority in place of its one backend, as an embedder runs it."""
    command = [sys.executable, str(PROGRAMS / "routed_proxy.py"), engine]
    command += [f"{pattern}={url}" for pattern, url in routes.items()]
    with running("routed", command, ready=_take_port) as proxy:
        yield proxy


@contextmanager
def detecting(cert: Path, key: Path, anchors: Path, plain: int, foreign: int) -> Iterator[Running]:
    """Detection of TLS alone, as an embedder runs it: see ``programs/detecting_proxy.py``."""
    command = [sys.executable, str(PROGRAMS / "detecting_proxy.py"), str(cert), str(key), str(anchors)]
    command += [str(plain), str(foreign)]
    with running("detecting", command, ready=_take_port) as proxy:
        yield proxy
