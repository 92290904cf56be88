"""Who is measured: meshcore on both engines, and every peer that is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers import servers
from tests.peers.meshcore import meshcore
from tests.peers.process import Running, find, free_port, running, scratch

__all__ = ["CONTENDERS", "OURS", "Contender", "PeerMissing"]

PeerMissing = servers.PeerMissing
HERE = Path(__file__).parent
OURS = "meshcore"

Start = Callable[[Sequence[int], str], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Contender:
    """A proxy under test.

    Attributes:
        name: its name in the tables.
        start: starts it in front of ports on loopback, for a protocol.
        protocols: ``"http/1"``, ``"h2"`` (both sides, cleartext), ``"opaque"``.
        python: whether it is one of the other Python proxies (P10).
    """

    name: str
    start: Start
    protocols: frozenset[str]
    python: bool = False


def _meshcore(engine: str) -> Start:
    schemes = {"http/1": "http", "h2": "h2c", "opaque": "tcp"}

    def start(to: Sequence[int], protocol: str) -> AbstractContextManager[Running]:
        listen = "tcp://127.0.0.1:0" if protocol == "opaque" else "127.0.0.1:0"
        return meshcore(to, scheme=schemes[protocol], engine=engine, listen=listen)

    return start


def _envoy(to: Sequence[int], protocol: str) -> AbstractContextManager[Running]:
    return servers.envoy(to, protocol)


def _haproxy(to: Sequence[int], protocol: str) -> AbstractContextManager[Running]:
    return servers.haproxy(to, protocol)


def _nginx(to: Sequence[int], protocol: str) -> AbstractContextManager[Running]:
    return servers.nginx_proxy(to)


@contextmanager
def _caddy(to: Sequence[int], protocol: str) -> Iterator[Running]:
    path = servers.program("caddy")
    port = free_port()
    scheme = "h2c://" if protocol == "h2" else ""
    upstreams = " ".join(f"{scheme}127.0.0.1:{each}" for each in to)
    with scratch("caddy") as directory:
        file = directory / "Caddyfile"
        file.write_text(
            "{\n admin off\n auto_https off\n servers {\n  protocols h1 h2c\n }\n}\n"
            f"http://127.0.0.1:{port} {{\n reverse_proxy {upstreams} {{\n  lb_policy least_conn\n }}\n}}\n"
        )
        env = {"GOMAXPROCS": "1", "HOME": str(directory)}
        with running("caddy", [path, "run", "--config", str(file)], port=port, env=env) as server:
            yield server


def _other_python(module: str) -> str:
    """A Python that has *module*: this one, or the one that the bench session made for peers that
    cannot share an environment with us.

    Raises:
        PeerMissing: none has.
    """
    import subprocess

    for python in (sys.executable, *os.environ.get("MESHCORE_BENCH_PYTHON", "").split(os.pathsep)):
        if (
            python
            and subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
        ):
            return python
    raise PeerMissing(module)


def _script(module: str, script: str) -> Start:
    @contextmanager
    def start(to: Sequence[int], protocol: str) -> Iterator[Running]:
        port = free_port()
        command = [_other_python(module), str(HERE / "rivals" / script), str(port), str(to[0])]
        with running(module, command, port=port) as server:
            yield server

    return start


@contextmanager
def _mitmproxy(to: Sequence[int], protocol: str) -> Iterator[Running]:
    python = _other_python("mitmproxy")
    program = str(Path(python).parent / "mitmdump")
    if find(program) is None:
        raise PeerMissing("mitmdump")
    port = free_port()
    with scratch("mitmproxy") as directory:
        command = [program, "-q", "--mode", f"reverse:http://127.0.0.1:{to[0]}", "--listen-host", "127.0.0.1"]
        command += ["-p", str(port), "--set", f"confdir={directory}", "--set", "flow_detail=0"]
        with running("mitmproxy", command, port=port) as server:
            yield server


ALL = frozenset({"http/1", "h2", "opaque"})
HTTP = frozenset({"http/1", "h2"})
H1 = frozenset({"http/1"})

CONTENDERS = [
    Contender(OURS, _meshcore("auto"), ALL),
    Contender("envoy", _envoy, ALL),
    Contender("haproxy", _haproxy, ALL),
    Contender("nginx", _nginx, H1),
    Contender("caddy", _caddy, HTTP),
    Contender("meshcore (pure)", _meshcore("pure"), HTTP),
    Contender("aiohttp on uvloop", _script("aiohttp", "aiohttp_proxy.py"), H1, python=True),
    Contender("Twisted", _script("twisted", "twisted_proxy.py"), H1, python=True),
    Contender("mitmproxy", _mitmproxy, H1, python=True),
]
