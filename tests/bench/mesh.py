"""P4 and handshakes: what a mesh adds, for two proxies of a kind with mutual TLS between them."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshcore.identity.authority import Authority
from tests.bench import loads
from tests.bench.measure import Settings, in_turns, say
from tests.bench.report import side_by_side
from tests.peers import mesh, servers
from tests.peers.process import scratch
from tests.peers.sidecar import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.peers.process import Running

__all__ = ["grpc_through_two", "handshakes"]

CLIENT, SERVER = "client.test", "server.test"
ANY = "127.0.0.1:0"
# One message of 32 bytes, not compressed.
BODY = b"\0\0\0\0\x20" + b"x" * 32


class Several:
    """Proxies in a row, measured as one; a load enters at the first."""

    def __init__(self, name: str, proxies: Sequence[Running]) -> None:
        self.name = name
        self.port = proxies[0].port
        self._proxies = proxies

    def cpu_seconds(self) -> float:
        return sum(each.cpu_seconds() for each in self._proxies)

    def memory_kib(self) -> int:
        return sum(each.memory_kib() for each in self._proxies)

    def output(self) -> str:
        return "".join(each.output() for each in self._proxies)


@dataclass(frozen=True)
class Files:
    """Certificates of the authority, the client's proxy and the server's, in one folder."""

    directory: Path

    @property
    def anchors(self) -> Path:
        return self.directory / "ca.crt"

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def make(self) -> Files:
        now = time.time()
        authority = Authority.make("Benchmark", now=now)
        self.anchors.write_bytes(authority.cert_pem())
        for name in (CLIENT, SERVER):
            for path, data in zip(self.pair(name), authority.issue(name, now=now), strict=True):
                path.write_bytes(data)
                path.chmod(0o600)
        return self


@dataclass(frozen=True)
class Pair:
    """A kind of proxy that can stand at both sides.

    Attributes:
        inbound: starts the server's, for an application at a port that speaks ``"h2"`` or ``"http/1"``.
        outbound: starts the client's, in front of an inbound one at a port.
    """

    name: str
    inbound: Callable[[int, str, Files], AbstractContextManager[Running]]
    outbound: Callable[[int, Files], AbstractContextManager[Running]]


def _ours(engine: str) -> Pair:
    def told(name: str, files: Files) -> dict[str, dict[str, object]]:
        cert, key = files.pair(name)
        identity = {"cert": str(cert), "key": str(key), "trust_anchors": str(files.anchors)}
        return {"identity": identity, "admin": {"listen": "off"}, "proxy": {"engine": engine}}

    def inbound(to: int, protocol: str, files: Files) -> AbstractContextManager[Running]:
        side = {"listen": ANY, "forward": f"127.0.0.1:{to}", "default_policy": "all-authenticated"}
        return sidecar({**told(SERVER, files), "inbound": side})

    def outbound(to: int, files: Files) -> AbstractContextManager[Running]:
        everything = {"endpoints": [f"127.0.0.1:{to}"], "identity": SERVER}
        return sidecar({**told(CLIENT, files), "outbound": {"listen": ANY, "to": {"*": everything}}})

    return Pair("meshcore" if engine == "auto" else f"meshcore ({engine})", inbound, outbound)


def _envoy_inbound(to: int, protocol: str, files: Files) -> AbstractContextManager[Running]:
    return mesh.envoy_inbound(to, *files.pair(SERVER), files.anchors, protocol=protocol)


def _envoy_outbound(to: int, files: Files) -> AbstractContextManager[Running]:
    return mesh.envoy_outbound(to, *files.pair(CLIENT), files.anchors, server=SERVER)


PAIRS = (_ours("auto"), Pair("envoy", _envoy_inbound, _envoy_outbound), _ours("pure"))


@contextmanager
def _started(settings: Settings, start: Callable[[Pair, ExitStack], Several]) -> Iterator[list[tuple[Pair, Several]]]:
    """All of those that are wanted, installed and start, running at once."""
    with ExitStack() as stack:
        live = []
        for pair in PAIRS:
            if settings.only and pair.name not in settings.only:
                continue
            try:
                live.append((pair, start(pair, stack)))
            except servers.PeerMissing as error:
                say(f"  skipped {pair.name}: {error} is not installed")
            except RuntimeError as error:
                say(f"  skipped {pair.name}: {error}")
        yield live


def grpc_through_two(settings: Settings) -> str:
    """The table of P4."""
    with scratch("mesh") as directory, servers.nghttpd("--trailer=grpc-status: 0") as origin:
        files = Files(directory).make()
        message = directory / "message"
        message.write_bytes(BODY)

        def start(pair: Pair, stack: ExitStack) -> Several:
            inbound = stack.enter_context(pair.inbound(origin.port, "h2", files))
            outbound = stack.enter_context(pair.outbound(inbound.port, files))
            return Several(pair.name, (outbound, inbound))

        with _started(settings, start) as live:
            series = in_turns(
                live,
                lambda port: loads.grpc(port, message, seconds=settings.seconds),
                settings,
                lambda port: loads.grpc(port, message, seconds=1),
            )
    return side_by_side(series, "µs/request", lambda sample: sample.per_request)


def handshakes(settings: Settings) -> str:
    """The table of handshakes at the inbound side."""
    with scratch("mesh") as directory, servers.nginx() as origin:
        files = Files(directory).make()

        def start(pair: Pair, stack: ExitStack) -> Several:
            return Several(pair.name, [stack.enter_context(pair.inbound(origin.port, "http/1", files))])

        def load(port: int) -> loads.Load:
            return loads.handshakes(port, *files.pair(CLIENT), files.anchors, SERVER, seconds=settings.seconds)

        with _started(settings, start) as live:
            series = in_turns(live, load, settings)
    return side_by_side(series, "µs/handshake", lambda sample: sample.per_request)
