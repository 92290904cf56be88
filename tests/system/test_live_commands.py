"""The commands that ask how a proxy does, against real sidecars under load: what they tell is what was sent."""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import python
from tests.peers.load import Load, load
from tests.peers.meshcore import command_line
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import Issuer, config, sidecar
from tests.system.conftest import Start

COMMANDS = (
    ("stat",),
    ("stat", "routes"),
    ("stat", "backends"),
    ("stat", "endpoints"),
    ("routes",),
    ("edges",),
    ("diag", "endpoints"),
    ("diag", "stack"),
    ("diag", "identity"),
    ("diag", "tasks"),
)


class Mesh:
    """A sidecar that calls, one that is called, and the load from the one's application to the other's.

    Attributes:
        web, orders: the sidecars.
        sent: the load.
    """

    def __init__(self, web: Running, orders: Running, sent: Load) -> None:
        self.web = web
        self.orders = orders
        self.sent = sent


@pytest.fixture
def mesh(start: Start[Any], tmp_path: Path) -> Iterator[Mesh]:
    issuer = Issuer(tmp_path)
    application = start(python.origin("orders"))
    orders = start(
        sidecar(
            config(
                issuer.identity("orders.shop"),
                forward=application.port,
                service={"name": "orders", "namespace": "shop"},
            )
        )
    )
    web = start(
        sidecar(
            config(
                issuer.identity("web.shop"),
                to={
                    "orders.shop": {
                        "endpoints": [orders.address],
                        "identity": "orders.shop",
                        "retry": {"limit": 1},
                        "route": [{"name": "all"}],
                    }
                },
                service={"name": "web", "namespace": "shop"},
            )
        )
    )
    with load(web.port, "orders.shop", paths=("/", "/", "/", "/status/503"), pause=0.005) as sent:
        wait_until(lambda: sum(sent.sent.values()) > 20, what="load")
        yield Mesh(web, orders, sent)


def ask(proxy: Running, *words: str, code: int = 0) -> str:
    command = [*command_line(), *words, "--admin", f"127.0.0.1:{proxy.ports['admin']}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (code, ""), done.stderr
    return done.stdout


def told(proxy: Running, *words: str) -> Any:
    return json.loads(ask(proxy, *words, "-o", "json"))


@pytest.mark.alone
def test_rates_and_success_are_those_that_the_load_has_counted(mesh: Mesh) -> None:
    ask(mesh.web, "stat")
    before, began = dict(mesh.sent.sent), time.monotonic()
    time.sleep(5)
    found = told(mesh.web, "stat", "--window", "5s")
    seconds = time.monotonic() - began
    came = {status: count - before.get(status, 0) for status, count in mesh.sent.sent.items()}
    rate = sum(came.values()) / seconds
    (route,) = found["routes"]
    assert (route["parent"], route["route"]) == ("orders.shop", "all")
    assert route["rps"] == pytest.approx(rate, rel=0.2)
    failed = sum(count for status, count in came.items() if status >= 500)
    assert route["success"] == pytest.approx(1 - failed / sum(came.values()), abs=0.05)
    assert 0 < route["p50"] <= route["p95"] <= route["p99"]
    (backend,) = found["backends"]
    assert (backend["backend"], backend["ready"]) == ("orders.shop", 1)
    # Each try counts there.
    assert backend["rps"] >= route["rps"] * 0.9


def test_both_ends_tell_of_the_same_edge(mesh: Mesh) -> None:
    going = told(mesh.web, "edges", "--direction", "outbound")["edges"]
    assert [(each["source"], each["target"], each["secured"]) for each in going] == [("web.shop", "orders.shop", True)]
    assert (going[0]["source_identity"], going[0]["target_identity"]) == ("web.shop", "orders.shop")
    assert going[0]["connections"] >= 1
    coming = told(mesh.orders, "edges", "--direction", "inbound")["edges"]
    assert [(each["source_identity"], each["target_identity"], each["secured"]) for each in coming] == [
        ("web.shop", "orders.shop", True)
    ]
    assert coming[0]["rps"] > 0


def test_every_command_answers_in_both_forms(mesh: Mesh) -> None:
    for words in COMMANDS:
        assert ask(mesh.orders, *words).strip()
        assert told(mesh.web, *words)


def test_diag_tells_what_there_is_and_all_of_it_in_one_file(mesh: Mesh, tmp_path: Path) -> None:
    assert "1 of 1 ready" in ask(mesh.web, "diag", "endpoints")
    assert "names    web.shop" in ask(mesh.web, "diag", "identity")
    assert "sampler" in ask(mesh.web, "diag", "tasks")
    assert "Retry(" in ask(mesh.web, "diag", "stack")
    out = tmp_path / "diag.tar.gz"
    assert str(out) in ask(mesh.web, "diag", "bundle", "--out", str(out))
    assert out.stat().st_mode & 0o777 == 0o600
    with tarfile.open(out) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        whole = b"".join(
            file.read() for each in archive.getmembers() if (file := archive.extractfile(each)) is not None
        )
    assert {"config.json", "stats.json", "endpoints.json", "stack.json", "tasks.json", "manifest.json"} <= names
    assert b"PRIVATE KEY" not in whole


def test_watching_tells_anew_each_second_until_interrupted(mesh: Mesh) -> None:
    command = [*command_line(), "stat", "--watch", "-o", "json", "--admin", f"127.0.0.1:{mesh.web.ports['admin']}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(2)
        _, errors = watching.communicate(timeout=20)
    assert (watching.returncode, errors) == (0, "")
    assert lines[0]["time"] < lines[1]["time"] < lines[2]["time"]
