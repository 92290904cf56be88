"""Hostile clients, one kind after the other: the proxy lives, another client is served, memory stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.peers.attacks import HTTP1, HTTP2
from tests.peers.meshcore import meshcore
from tests.peers.process import Running
from tests.system.abuse.victims import survives

Attacked = Callable[[str], Running]

ENGINES = ["auto", "pure"]
# What creeps shows only after a while.
SECONDS = [1.0, pytest.param(4.0, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def attacked(nginx: Running) -> Iterator[Attacked]:
    """``attacked(engine)``: the proxy that has been through the attacks so far; another, once it has not lived."""
    made: dict[str, Running] = {}
    with ExitStack() as stack:

        def through(engine: str) -> Running:
            if engine not in made or not made[engine].alive:
                made[engine] = stack.enter_context(meshcore([nginx.port], scheme="http1", engine=engine))
            return made[engine]

        yield through
        for each in made.values():
            output = each.output()
            assert "crash in" not in output, output[-8_000:]
            assert "Traceback" not in output, output[-8_000:]


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP2)
def test_another_client_is_served_during_http2_abuse(
    attacked: Attacked, kind: str, engine: str, seconds: float
) -> None:
    survives(attacked(engine), kind, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP1)
def test_another_client_is_served_during_http1_abuse(
    attacked: Attacked, kind: str, engine: str, seconds: float
) -> None:
    survives(attacked(engine), kind, seconds)
