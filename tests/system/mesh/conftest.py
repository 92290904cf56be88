"""Sidecars as processes, an authority for them, and both together as a pair between a client and an application."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.peers.process import Running
from tests.peers.sidecar import Issuer, config, sidecar

ORDERS, PAYMENTS = "orders.shop", "payments.shop"


class Sidecars:
    """Starts sidecars that end with the test, or the module; none of them may have crashed anywhere.

    Attributes:
        issuer: the authority of their mesh.
        env: more of the environment of those that are started from now on.
    """

    def __init__(self, issuer: Issuer, stack: ExitStack) -> None:
        self.issuer = issuer
        self.env: dict[str, str] = {}
        self._stack = stack
        self._made: list[Running] = []

    def run(self, told: dict[str, Any], *command: str, serving: bool = True) -> Running:
        """One sidecar with that config."""
        made = self._stack.enter_context(sidecar(told, *command, serving=serving, env=self.env))
        self._made.append(made)
        return made

    def inbound(self, forward: int, name: str = PAYMENTS, /, **inbound: object) -> Running:
        """The sidecar of the application at port *forward*."""
        return self.run(config(self.issuer.identity(name), forward=forward, inbound=inbound))

    def outbound(self, to: dict[str, dict[str, object]], name: str = ORDERS, /, **tables: Any) -> Running:
        """The sidecar of a client."""
        return self.run(config(self.issuer.identity(name), to=to, **tables))

    def pair(self, forward: int, **more: object) -> tuple[Running, Running]:
        """Outbound and inbound: whatever is asked at the one's ``port`` goes to the application behind the other."""
        inbound = self.inbound(forward)
        outbound = self.outbound({"app:80": meshed(inbound.port, listen="127.0.0.1:0", **more)})
        outbound.port = outbound.ports["app:80"]
        return outbound, inbound

    def check(self) -> None:
        for each in self._made:
            output = each.output()
            assert "crash in" not in output, output[-8_000:]
            assert "Traceback" not in output, output[-8_000:]


def meshed(*ports: int, identity: str = PAYMENTS, **more: object) -> dict[str, object]:
    """A destination behind sidecars at those ports."""
    return {"endpoints": [f"127.0.0.1:{port}" for port in ports], "identity": identity, **more}


def _sidecars(folder: Path) -> Iterator[Sidecars]:
    with ExitStack() as stack:
        made = Sidecars(Issuer(folder / "pki"), stack)
        yield made
        made.check()


@pytest.fixture
def sidecars(tmp_path: Path) -> Iterator[Sidecars]:
    yield from _sidecars(tmp_path)


@pytest.fixture(scope="module")
def module_sidecars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecars]:
    yield from _sidecars(tmp_path_factory.mktemp("mesh"))


Curl = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def curl(peer: Callable[[str], str]) -> Curl:
    """``curl(*arguments)``, as a person uses it."""
    program = peer("curl")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [program, "-sS", "--max-time", "20", *arguments]
        return subprocess.run(command, capture_output=True, timeout=30, check=False)

    return run
