"""P7: what a proxy holds while nothing happens."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, TypeAlias

from tests.bench.measure import Settings, chosen, say, started
from tests.bench.report import number, table
from tests.peers import frames, servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.process import Running

__all__ = ["idle_memory"]

CONNECTIONS = 1_000

Use: TypeAlias = "Callable[[int], socket.socket]"


def idle_memory(settings: Settings) -> str:
    """PSS after the start, after some load, and for each of 1,000 idle connections."""
    results: dict[str, dict[str, float]] = {}
    for protocol, use in (("http/1", _use_h1), ("h2", _use_h2)):
        origin_of = servers.nginx if protocol == "http/1" else servers.nghttpd
        with origin_of() as origin:
            for contender in chosen(protocol, settings):
                # One at a time: two processes of one program share pages, and PSS would count halves.
                with started([contender], [origin.port], protocol) as live:
                    for _, proxy in live:
                        _measure(proxy, protocol, use, results.setdefault(contender.name, {}))
    base = results.get("envoy", {}).get("idle")
    rows = []
    for name, found in sorted(results.items(), key=lambda item: item[1].get("idle", 0)):
        idle = found.get("idle")
        ratio = idle / base if idle is not None and base else None
        row = [name, number(idle), number(ratio, 2), number(found.get("http/1")), number(found.get("h2"))]
        rows.append(row)
    return table(["proxy", "idle PSS MiB", "÷ envoy", "KiB a connection, HTTP/1.1", "KiB a connection, HTTP/2"], rows)


def _measure(proxy: Running, protocol: str, use: Use, found: dict[str, float]) -> None:
    if protocol == "http/1":
        time.sleep(0.5)
        found["idle"] = proxy.memory_kib() / 1024
    held: list[socket.socket] = []
    try:
        # The first hundred pay for what is shared.
        held += [use(proxy.port) for _ in range(100)]
        before = proxy.memory_kib()
        held += [use(proxy.port) for _ in range(CONNECTIONS)]
        found[protocol] = (proxy.memory_kib() - before) / CONNECTIONS
    except OSError as error:
        say(f"  {proxy.name}: {error}")
    finally:
        for each in held:
            each.close()


def _use_h1(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.sendall(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
    got = b""
    while not got.endswith(b"x\n"):
        chunk = sock.recv(65_536)
        if not chunk:
            raise ConnectionError("closed before the answer")
        got += chunk
    return sock


def _use_h2(port: int) -> socket.socket:
    peer = frames.Peer.connect(port)
    peer.start()
    peer.get(1)
    peer.read_answer(1)
    return peer.sock
