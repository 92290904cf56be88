"""Hostile clients: the proxy lives, another client is served, memory stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.peers.attacks import HTTP1, HTTP2
from tests.peers.process import Running
from tests.system.abuse.victims import survives

Proxy = Callable[..., Running]

# The reference engines cost more, not other things: minutes of the same.
ENGINES = ["auto", pytest.param("pure", marks=pytest.mark.long)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP2)
def test_another_client_is_served_during_http2_abuse(proxy: Proxy, nginx: Running, kind: str, engine: str) -> None:
    survives(proxy([nginx.port], scheme="http1", engine=engine), kind)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", HTTP1)
def test_another_client_is_served_during_http1_abuse(proxy: Proxy, nginx: Running, kind: str, engine: str) -> None:
    survives(proxy([nginx.port], scheme="http1", engine=engine), kind)
