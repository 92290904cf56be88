"""The commands of the guide to mutual TLS do what it says, as a person would type them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.peers.meshcore import ROOT, command_line
from tests.peers.process import Running, free_port, running

Peer = Callable[[str], str]
GUIDE = (ROOT / "docs" / "how-to" / "mutual-tls.md").read_text()
BLOCKS = [block[2:].split("\n$ ") for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)]
GATEWAY = next(block for block in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL) if "[listen.public]" in block)
ORDERS = """
[service]
name = "orders"
namespace = "shop"
[identity]
cert = "pki/orders.shop.crt"
key = "pki/orders.shop.key"
trust_anchors = "pki/ca.crt"
[inbound]
listen = "127.0.0.1:4143"
forward = "127.0.0.1:8000"
default_policy = "all-authenticated"
[admin]
listen = "off"
"""


class Shell:
    """A folder, and a shell in which ports are other ones than the guide's."""

    def __init__(self, folder: Path, application: int) -> None:
        self.folder = folder
        self.ports = {"8000": application, "4143": free_port(), "8443": free_port()}

    def text(self, text: str) -> str:
        return re.sub(r"(?<=:)(8000|4143|8443)\b", lambda found: str(self.ports[found[1]]), text)

    def run(self, command: str) -> str:
        """What it prints; it has to succeed."""
        meshcore = f'meshcore() {{ {shlex.join(command_line())} "$@"; }}\n'
        done = subprocess.run(
            ["bash", "-c", meshcore + self.text(command)], cwd=self.folder, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def serve(self, name: str, config: str) -> AbstractContextManager[Running]:
        file = self.folder / name
        file.write_text(self.text(config))
        words = [*command_line(), "run", "-c", str(file)]
        return running("sidecar", words, ready=lambda it: "ready " in it.output())


def test_the_guides_commands_do_what_it_says(
    start: Callable[..., Running], peer: Peer, origin: Running, tmp_path: Path
) -> None:
    for each in ("bash", "curl", "openssl"):
        peer(each)
    shell = Shell(tmp_path, origin.port)
    made, asked_sidecar, issued, asked_gateway = BLOCKS
    for command in made + issued:
        shell.run(command)

    orders = start(shell.serve("orders.toml", ORDERS))
    ask, look = asked_sidecar
    assert shell.run(ask).startswith("origin")
    told = shell.run(ask.rstrip() + "info")
    assert '["l5d-client-id", "spiffe://shop.local/ns/shop/sa/payments"]' in told
    stranger = re.sub(r"--(cert|key) \S+", "", ask).replace("curl", "curl -i")
    assert "HTTP/2 403" in shell.run(stranger)
    assert "Verification: OK" in shell.run(look)
    assert "Verification error: hostname mismatch" in shell.run(
        look.replace("-verify_hostname orders", "-verify_hostname other")
    )

    gateway = start(shell.serve("gateway.toml", GATEWAY + '[admin]\nlisten = "off"\n'))
    ask, look = asked_gateway
    assert shell.run(ask).startswith("origin")
    assert '["l5d-client-id", "partner.test"]' in shell.run(ask.rstrip() + "info")
    assert "DNS:api.test" in shell.run(look)
    assert "DNS:site.test" in shell.run(look.replace("-servername api.test", "-noservername"))
    for version, codes in (("--tls-max 1.2", {"35"}), ("--tlsv1.3", {"16", "55", "56"})):
        refused = re.sub(r"--(cert|key) \S+", "", ask).replace("curl", f"curl -sS {version}").rstrip()
        assert shell.run(f"{refused}; echo $?").split("\n")[0] in codes
    assert not re.search("crash in|Traceback", orders.output() + gateway.output())
