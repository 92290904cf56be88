"""Hostile upstreams: requests to another upstream are served, the proxy lives, memory stays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.hostile_upstream import HTTP1, HTTP2
from tests.peers.meshcore import routed
from tests.peers.process import Running, free_port, running
from tests.system.abuse.victims import survives

Start = Callable[..., Running]
ROOT = Path(__file__).parent.parent.parent.parent

ENGINES = ["auto", "pure"]
# What creeps shows only after a while.
SECONDS = [1.0, pytest.param(4.0, marks=pytest.mark.long)]


def _survives(start: Start, nginx: Running, kind: str, scheme: str, engine: str, seconds: float) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.hostile_upstream", kind, str(port)]
    start(running("hostile", command, port=port, cwd=ROOT))
    routes = {"bad.test": f"{scheme}://127.0.0.1:{port}", "*": f"http1://127.0.0.1:{nginx.port}"}
    through = start(routed(routes, engine))
    survives(through, "bad.test", seconds, module="tests.system.abuse.asker")
    output = through.output()
    assert "crash in" not in output, output[-8_000:]


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP2)
def test_another_upstream_is_reached_during_http2_abuse(
    start: Start, nginx: Running, kind: str, engine: str, seconds: float
) -> None:
    _survives(start, nginx, kind, "h2c", engine, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP1)
def test_another_upstream_is_reached_during_http1_abuse(
    start: Start, nginx: Running, kind: str, engine: str, seconds: float
) -> None:
    _survives(start, nginx, kind, "http1", engine, seconds)
