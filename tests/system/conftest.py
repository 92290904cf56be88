"""Real servers and the proxy under test, as fixtures; whatever was started is killed at the end."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

import pytest

from tests.peers import python, servers
from tests.peers.meshcore import meshcore
from tests.peers.process import Running

T = TypeVar("T")

# The harness itself can be tried on somebody else's proxy: envoy, haproxy.
OTHER = os.environ.get("MESHCORE_SYSTEM_PROXY", "meshcore")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "system" in item.path.parts and "long" not in item.keywords:
            item.add_marker("system")


@pytest.fixture(scope="session", autouse=True)
def _many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="session", autouse=True)
def _stopped_by_sigterm() -> None:
    # As by Ctrl-C: what was started is killed, where the default action would leave it behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


Start = Callable[[AbstractContextManager[T]], T]


def _start(stack: ExitStack) -> Start[T]:
    def start(manager: AbstractContextManager[T]) -> T:
        try:
            return stack.enter_context(manager)
        except servers.PeerMissing as missing:
            pytest.skip(f"peer not installed: {missing}")

    return start


@pytest.fixture
def start() -> Iterator[Start[Running]]:
    """``start(nginx())``: enters the context until the test ends; skips with the name of a missing peer."""
    with ExitStack() as stack:
        yield _start(stack)


@pytest.fixture(scope="session")
def session_start() -> Iterator[Start[Running]]:
    """As ``start``, until the session ends."""
    with ExitStack() as stack:
        yield _start(stack)


@pytest.fixture
def proxy(start: Start[Running]) -> Iterator[Callable[..., Running]]:
    """``proxy([port, …], *options, scheme="http")``: the proxy under test; it must not have crashed anywhere."""
    made: list[Running] = []

    def make(to: Sequence[int | str], *options: str, scheme: str = "http", **more: str) -> Running:
        if OTHER != "meshcore":
            ports = [int(each) for each in to]
            protocol = {"http": "http/1", "http1": "http/1", "h2c": "h2", "tcp": "opaque"}[scheme]
            return start({"envoy": servers.envoy, "haproxy": servers.haproxy}[OTHER](ports, protocol))
        made.append(start(meshcore(to, *options, scheme=scheme, **more)))
        return made[-1]

    yield make
    for each in made:
        output = each.output()
        assert "crash in" not in output, output[-8_000:]
        assert "Traceback" not in output, output[-8_000:]


@pytest.fixture(scope="session")
def nginx(session_start: Start[Running]) -> Running:
    return session_start(servers.nginx())


@pytest.fixture(scope="session")
def nghttpd(session_start: Start[Running]) -> Running:
    return session_start(servers.nghttpd())


@pytest.fixture(scope="session")
def origin(session_start: Start[Running]) -> Running:
    return session_start(python.origin())


@pytest.fixture(scope="session")
def grpc_origin(session_start: Start[Running]) -> Running:
    return session_start(python.grpc_server())


@pytest.fixture(scope="session")
def websocket_origin(session_start: Start[Running]) -> Running:
    return session_start(python.websocket_server())
