"""Servers of our own for tests, each a small program run by this Python."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.process import Running, free_port, running, scratch
from tests.peers.servers import PeerMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["authz_server", "dns_server", "grpc_server", "origin", "recorder", "websocket_server"]

PROGRAMS = Path(__file__).parent / "programs"


def _needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise PeerMissing(module)


def _command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


@contextmanager
def origin(name: str = "origin", *, delay: float = 0.0, port: int | None = None) -> Iterator[Running]:
    """The HTTP/1.1 origin of programs/origin.py."""
    port = port or free_port()
    with running(f"origin-{name}", _command("origin", port, name, delay), port=port) as server:
        yield server


@contextmanager
def dns_server(zone: Path, *, port: int | None = None) -> Iterator[Running]:
    """The DNS server of programs/dns_server.py, with the zone in that file."""
    port = port or free_port()
    command = _command("dns_server", zone, port)
    env = {"PYTHONPATH": str(PROGRAMS.parent.parent.parent)}
    with running("dns", command, ready=lambda server: "ready" in server.output(), env=env) as server:
        server.port = port
        yield server


@contextmanager
def grpc_server(name: str = "grpc", *, delay: float = 0.0, port: int | None = None) -> Iterator[Running]:
    """The grpcio server of programs/grpc_server.py."""
    _needs("grpc")
    port = port or free_port()
    with running(f"grpc-{name}", _command("grpc_server", port, name, delay), port=port) as server:
        yield server


@contextmanager
def authz_server(answers: dict[str, bytes]) -> Iterator[tuple[Running, Path]]:
    """The authorization service of programs/authz_server.py with these answers, and the file of its questions."""
    _needs("grpc")
    port = free_port()
    with scratch("authz") as directory:
        told, record = directory / "answers.json", directory / "questions"
        told.write_text(json.dumps({case: answer.hex() for case, answer in answers.items()}))
        record.touch()
        with running("authz", _command("authz_server", port, told, record), port=port) as server:
            yield server, record


@contextmanager
def websocket_server() -> Iterator[Running]:
    """The echo server of programs/websocket_server.py."""
    _needs("websockets")
    port = free_port()
    with running("websocket", _command("websocket_server", port), port=port) as server:
        yield server


@contextmanager
def recorder() -> Iterator[tuple[Running, Path]]:
    """The recording upstream of programs/recorder.py, and the file that it writes."""
    port = free_port()
    with scratch("recorder") as directory:
        file = directory / "seen"
        file.touch()
        with running("recorder", _command("recorder", port, file), port=port) as server:
            yield server, file
