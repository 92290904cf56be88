"""The client of a proxy of the mesh: HTTP/2 by prior knowledge for what is HTTP/2, HTTP/1 for tunnels."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

import meshcore
from meshcore import Request, Response
from meshcore.client.http2 import Http2Statistics
from meshcore.client.pool import PoolStatistics
from meshcore.errors import ConnectError, ConnectionLost, UpstreamProtocolError
from meshcore.http.body import Full, read_all
from meshcore.testing import request
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Endpoint, TlsClient
from tests.http1_peers import Peer
from tests.server.stacks import MemoryServer

pytestmark = pytest.mark.usefixtures("engine")

MESH = Endpoint(("10.0.0.2", 4143), mesh_proxy=True)


async def versions(request: Request) -> Response:
    return Response(200, body=Full(b"%d" % request.version))


class Http:
    """A NewService of one service."""

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        return versions


def both(nursery: trio.Nursery) -> MemoryServer:
    """A server that speaks both versions."""
    serve = meshcore.ServeHttp().layer(Http()).new_service(Accepted(), nursery)
    return MemoryServer(nursery, serve)  # type: ignore[arg-type]


def client(endpoint: Endpoint, server: MemoryServer, nursery: trio.Nursery, **options: Any) -> Any:
    return meshcore.Http(meshcore.ClientOptions(**options)).layer(server).new_service(endpoint, nursery)


async def ask(service: Any, version: int) -> bytes:
    return await read_all((await service(request(version=version))).body)


@pytest.mark.parity("D-08", "D-24", "U-07")
@pytest.mark.parametrize("protocol", ["http", "h2"])
async def test_to_a_mesh_proxy_each_version_goes_as_it_is(protocol: str, nursery: trio.Nursery) -> None:
    server = both(nursery)
    service = client(attrs.evolve(MESH, protocol=protocol), server, nursery)

    await service.ready()
    assert [b"20", b"20", b"11", b"20"] == [await ask(service, version) for version in (20, 20, 11, 20)]

    # The probe's connection is the one that all HTTP/2 requests share.
    assert ["h2", "http/1"] == [connection.protocol for connection in server.connected]
    assert isinstance(service.statistics(), Http2Statistics)
    assert (1, 3) == (service.statistics().connections, service.statistics().requests)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("D-08")
async def test_where_nothing_is_translated_a_mesh_proxy_gets_http_1_alone(nursery: trio.Nursery) -> None:
    server = both(nursery)
    service = client(attrs.evolve(MESH, protocol="http/1"), server, nursery)

    await service.ready()
    assert [b"11", b"11"] == [await ask(service, version) for version in (20, 11)]

    assert isinstance(service.statistics(), PoolStatistics)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("D-08", "T-15")
@pytest.mark.parametrize("mesh", [False, True])
async def test_without_alpn_http_2_is_spoken_by_prior_knowledge_over_tls(mesh: bool, nursery: trio.Nursery) -> None:
    server = both(nursery)
    endpoint = attrs.evolve(MESH, mesh_proxy=mesh, tls=TlsClient("users.shop", alpn=()))
    service = client(endpoint, server, nursery)

    await service.ready()
    assert [b"11", b"20"] == [await ask(service, version) for version in (11, 20)]
    nursery.cancel_scope.cancel()


class Http1Only:
    """A server that answers HTTP/1, whatever it is asked."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __call__(self, connection: Connection) -> None:
        peer = Peer(connection)
        self.heard.append(await peer.more())
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.parity("D-08")
async def test_a_peer_that_speaks_no_http_2_is_not_ready_and_never_gets_a_request(nursery: trio.Nursery) -> None:
    heard = Http1Only()
    server = MemoryServer(nursery, heard)
    service = client(MESH, server, nursery)

    with pytest.raises(ConnectError, match="does not speak HTTP/2, as a proxy of the mesh has to"):
        await service.ready()
    for _ in range(3):
        with pytest.raises((ConnectionLost, UpstreamProtocolError)):
            await ask(service, 20)

    assert 4 == len(heard.heard)
    assert all(data.startswith(b"PRI * HTTP/2.0\r\n") for data in heard.heard)
    nursery.cancel_scope.cancel()


@pytest.mark.parity("D-08")
async def test_a_peer_that_stays_silent_is_not_ready(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def silent(connection: Connection) -> None:
        while await connection.receive_some():
            pass

    service = client(MESH, MemoryServer(nursery, silent), nursery)
    with trio.fail_after(60), pytest.raises(ConnectError):
        await service.ready()
    nursery.cancel_scope.cancel()
