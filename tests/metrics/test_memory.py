"""What others name, however many names they have: authorities, paths, identities leave memory bounded."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from meshcore.codec.transport_header import TransportHeader
from meshcore.layers.metrics import Metrics
from meshcore.layers.tcp_metrics import TcpMetrics
from meshcore.metrics import Registry
from meshcore.metrics.authorization import AuthorizationCounts
from meshcore.metrics.detection import transport_headers
from meshcore.metrics.rate_limits import RateLimitCounts
from meshcore.testing import memory_connection_pair, request, response
from meshcore.transport.target import Accepted

BOUND = 1_000


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


@pytest.mark.parametrize(
    "names", [pytest.param(25_000, id="some"), pytest.param(1_000_000, id="a million", marks=pytest.mark.long)]
)
async def test_so_many_authorities_paths_and_identities_leave_memory_bounded(
    names: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    registry = Registry(max_series=BOUND)
    new_http: Any = Metrics(registry, "inbound", authority=True).layer(_Answering())
    new_tcp: Any = TcpMetrics(registry).layer(_Closing())
    authorization, limits = AuthorizationCounts(registry), RateLimitCounts(registry, "inbound")
    told = transport_headers(registry)
    shared = new_http.new_service(Accepted("inbound", ("10.0.0.9", 80)), nursery)
    client, server = memory_connection_pair()
    before = 0
    for number in range(names):
        if not number % 5_000:
            for _ in registry.pieces():
                # Not kept: it is larger than all that it tells of.
                pass
        if number == 10_000:
            # From here on everything is full.
            gc.collect()
            before = resident()
        name = f"{number:x}-" + "n" * 40
        asked = request(authority=f"{name}.test".encode(), path=f"/{name}".encode())
        # Many names in one connection, and connections of many names.
        (await shared(asked)).body.abort()
        target = Accepted("inbound", ("10.0.0.9", 80), secure=True, client_id=name)
        server.identity, server.closed = name, False
        (await new_http.new_service(target, nursery)(request(path=f"/{name}".encode()))).body.abort()
        await new_tcp.new_service(target, nursery)(server)
        authorization.http(target, server, ("server", "inbound"), "", None).value += 1
        limits.refused(target, server, "per-identity", "inbound").value += 1
        told(TransportHeader(number % 65_535 + 1, f"n{number}.test"), name)
    gc.collect()
    client.close()

    for family in registry.families():
        assert len(family.series()) <= BOUND + 1, family
    assert resident() - before < 16 << 20
    # Nothing of it is lost.
    values = {family.name: family.series() for family in registry.families()}
    for name, expected in (("request_total", 2 * names), ("tcp_open_total", names), ("response_total", 2 * names)):
        assert expected == sum(cell.value for _, cell in values[name])
    assert 2 * names == sum(cell.count for _, cell in values["response_latency_ms"])
    assert names == sum(cell.value for _, cell in values["inbound_http_authz_deny_total"])
    assert 0 == sum(cell.value for _, cell in values["tcp_open_connections"])


class _Answering:
    """Answers requests."""

    def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Any:
        async def answer(_: Any) -> Any:
            return response(200)

        return answer


class _Closing:
    """Serves a connection by closing it."""

    def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Any:
        async def serve(connection: Any) -> None:
            connection.closed = True

        return serve
