"""Hostile clients: the proxy lives, another client is served, memory stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.peers.attacks import HTTP1, HTTP2
from tests.peers.process import Running
from tests.system.abuse.victims import survives

Proxy = Callable[..., Running]

ENGINES = ["auto", "pure"]
# What creeps shows only after a while.
SECONDS = [1.0, pytest.param(4.0, marks=pytest.mark.long)]


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP2)
def test_another_client_is_served_during_http2_abuse(
    proxy: Proxy, nginx: Running, kind: str, engine: str, seconds: float
) -> None:
    survives(proxy([nginx.port], scheme="http1", engine=engine), kind, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP1)
def test_another_client_is_served_during_http1_abuse(
    proxy: Proxy, nginx: Running, kind: str, engine: str, seconds: float
) -> None:
    survives(proxy([nginx.port], scheme="http1", engine=engine), kind, seconds)
