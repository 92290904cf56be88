"""Tap between two sidecars as processes: seen by the command and by curl, by those who may."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest

from tests.peers.meshcore import command_line
from tests.peers.process import Running, wait_until
from tests.peers.sidecar import admin, config
from tests.system.mesh.conftest import PAYMENTS, Curl, Sidecars, meshed

# What may stand in a field, and is meant to be more than text: markup, and a mark that turns the writing round.
HOSTILE = "<script>alert(1)</script>\u202e"


class Tapping:
    """``meshcore tap`` as a process."""

    def __init__(self, proxy: Running, *words: str, folder: Path) -> None:
        self.out = folder / f"tap-{proxy.ports['admin']}.out"
        command = [*command_line(), "tap", "--admin", f"127.0.0.1:{proxy.ports['admin']}", *words]
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)

    def lines(self, count: int) -> list[str]:
        wait_until(lambda: len(self.out.read_text().splitlines()) >= count, what=f"{count} events")
        return self.out.read_text().splitlines()

    def events(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(count)]


def ask_until_tapped(curl: Curl, tap: Tapping, *words: str) -> None:
    """Asks until the tap, which may not be there at once, has seen it."""

    def seen() -> bool:
        curl("-s", "-o", "/dev/null", *words)
        return bool(tap.out.read_text())

    wait_until(seen, 20, what="the first event")


@pytest.mark.parity("X-43")
def test_two_sidecars_show_a_request_with_both_identities(
    sidecars: Sidecars, curl: Curl, origin: Running, tmp_path: Path
) -> None:
    outbound, inbound = sidecars.pair(origin.port)
    where = f"http://127.0.0.1:{outbound.port}/tapped?token=abc"
    with (
        Tapping(outbound, "-o", "json", "--headers", "--path", "/tapped", folder=tmp_path) as here,
        Tapping(inbound, "--headers=x-hostile,authorization", folder=tmp_path) as there,
    ):
        for tap in (here, there):
            ask_until_tapped(curl, tap, "-H", f"x-hostile: {HOSTILE}", "-H", "authorization: Bearer hunter2", where)
        shown, lines = here.events(3), there.lines(5)
        assert [0, 0] == [here.end(), there.end()]

    sent, answered, ended = shown[:3]
    assert ("outbound", "/tapped?token=***") == (sent["direction"], sent["path"])
    assert (PAYMENTS, True) == (answered["target"]["identity"], answered["secured"])
    assert ("response_end", 200) == (ended["event"], ended["status"])
    assert ["x-hostile", HOSTILE] in sent["headers"]
    assert "orders.shop > " in "\n".join(lines)
    assert " mtls " in lines[0]
    assert any("> x-hostile: <script>alert(1)</script>\\u202e" in line for line in lines)
    for tap in (here, there):
        text = tap.out.read_text()
        assert "hunter2" not in text
        assert "token=abc" not in text
        assert text.isascii()
        assert "Traceback" not in text
    # What the proxies write is no place for it either.
    assert "hunter2" not in outbound.output() + inbound.output()


def test_the_command_ends_in_order_when_the_proxy_does(
    sidecars: Sidecars, curl: Curl, origin: Running, tmp_path: Path
) -> None:
    outbound, _ = sidecars.pair(origin.port)
    with Tapping(outbound, folder=tmp_path) as tap:
        ask_until_tapped(curl, tap, f"http://127.0.0.1:{outbound.port}/")
        outbound.signal(signal.SIGTERM)
        assert 0 == outbound.wait(20)
        assert 0 == tap.process.wait(10)
    assert "Traceback" not in tap.out.read_text()


@pytest.mark.parity("X-44")
def test_a_grpc_status_is_seen_at_both_ends(
    sidecars: Sidecars, grpc_origin: Running, curl: Curl, tmp_path: Path
) -> None:
    grpc = pytest.importorskip("grpc")
    from tests.system.test_grpc import echo

    inbound = sidecars.inbound(grpc_origin.port)
    outbound = sidecars.outbound({"grpc:80": meshed(inbound.port, listen="127.0.0.1:0", protocol="h2c")})
    with Tapping(outbound, "-o", "json", "--grpc-status", "unimplemented", folder=tmp_path) as tap:

        def fail() -> bool:
            with echo(outbound.ports["grpc:80"]) as client, pytest.raises(grpc.RpcError):
                client.call("Missing")
            return bool(tap.out.read_text())

        wait_until(fail, 20, what="the first event")
        *_, ended = tap.events(3)[:3]
        assert (200, 12) == (ended["status"], ended["grpc_status"])


@pytest.mark.parity("X-42")
def test_only_a_client_with_the_right_certificate_may_tap_from_elsewhere(
    sidecars: Sidecars, curl: Curl, origin: Running
) -> None:
    issuer = sidecars.issuer
    proxy = sidecars.run(
        config(
            issuer.identity(PAYMENTS),
            forward=origin.port,
            admin={"listen": "0.0.0.0:0", "tap": "authorized", "tap_identities": ["tap.viz"]},
        )
    )
    port = proxy.ports["admin"]

    def status(path: str, name: str | None = None) -> bytes:
        shown = [] if name is None else [str(each) for each in issuer.issue(name)]
        certificate = ["--cert", shown[0], "--key", shown[1]] if shown else []
        place = ["--resolve", f"{PAYMENTS}:{port}:127.0.0.1", "--cacert", str(issuer.anchors)]
        return curl(
            "-o", "/dev/null", "-w", "%{http_code}", "-m", "2", "-H", "host: localhost", *place, *certificate,
            f"https://{PAYMENTS}:{port}{path}",
        ).stdout  # fmt: skip

    assert b"200" == status("/tap?seconds=1", "tap.viz")
    assert b"403" == status("/tap?seconds=1", "prometheus.viz")
    assert b"403" == status("/tap?seconds=1")
    assert (200, "live\n") == admin(proxy, "/live")
    assert 403 == admin(proxy, "/tap")[0]


def test_a_kubelet_and_a_prometheus_get_what_is_open_and_a_token_opens_the_rest(
    sidecars: Sidecars, curl: Curl, origin: Running, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    told = config(
        forward=origin.port,
        admin={"listen": "0.0.0.0:0", "open": ["/live", "/ready", "/metrics"], "token": str(token)},
    )
    proxy = sidecars.run(told)
    assert [200, 200, 200, 401, 401] == [
        admin(proxy, page)[0] for page in ("/live", "/ready", "/metrics", "/config", "/stack")
    ]
    header = f"authorization: Bearer {token.read_text().strip()}"
    where = f"http://127.0.0.1:{proxy.ports['admin']}"
    assert b'"layers"' in curl("-H", header, f"{where}/stack").stdout
    command = [*command_line(), "reload", "--admin", f"127.0.0.1:{proxy.ports['admin']}"]
    assert 1 == subprocess.run(command, capture_output=True, timeout=60).returncode
    reloaded = subprocess.run([*command, "--token", f"@{token}"], capture_output=True, timeout=60)
    assert (0, b"") == (reloaded.returncode, reloaded.stderr)
    assert "0123456789abcdef" not in proxy.output() + curl("-H", header, f"{where}/config").stdout.decode()
