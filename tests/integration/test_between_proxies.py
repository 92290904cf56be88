"""Opaque connections from one proxy's layers to another's over mutual TLS, on real sockets."""

from __future__ import annotations

import os
from typing import Any

import attrs
import pytest
import trio

from meshcore.codec.transport_header import ALPN, TransportHeader
from meshcore.errors import ConnectError, ConnectionLost, TlsError
from meshcore.layers.tls import Tls
from meshcore.layers.transport_header import SendTransportHeader
from meshcore.server.detect import Detect
from meshcore.server.detect_tls import DetectTls
from meshcore.server.opaque import Forward
from meshcore.server.read_transport_header import ReadTransportHeader
from meshcore.server.serve import Server, serve
from meshcore.stack import Stack
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted, Endpoint, TlsClient
from meshcore.transport.tcp import connect_tcp, open_listeners
from tests.server.mesh import CLIENT, OWN, identity
from tests.server.stacks import Branch, To, read_all


@attrs.frozen
class ToAskedPort:
    """A layer that forwards to the port that the header asked for."""

    asked: list[Accepted]

    def layer(self, inner: Any, /) -> Any:
        return _ToAskedPort(self.asked, inner)


@attrs.frozen
class _ToAskedPort:
    asked: list[Accepted]
    inner: Any

    def new_service(self, target: Accepted, nursery: trio.Nursery, /) -> Any:
        self.asked.append(target)
        assert target.original is not None
        return self.inner.new_service(Endpoint(("127.0.0.1", target.original[1])), nursery)


class Mesh:
    """An application behind its inbound proxy, and an outbound proxy for whoever wants to reach it."""

    def __init__(self, pki: Any, nursery: trio.Nursery) -> None:
        self.pki = pki
        self.nursery = nursery
        self.asked: list[Accepted] = []
        self.peers: list[str | None] = []

    async def start(self, stack: Stack[Any, Any], connect: Any = connect_tcp) -> Server:
        listeners = await open_listeners("127.0.0.1")
        server: Server = await self.nursery.start(
            lambda task_status: serve(
                stack.layer(connect), listeners, upstreams=self.nursery, task_status=task_status
            )
        )
        return server

    async def inbound(self) -> Server:
        async def refuse(connection: Connection) -> None:
            connection.close()

        opaque: Stack[Any, Any] = Stack((ToAskedPort(self.asked), Forward()))
        detect = Detect[Accepted](http=Stack((Branch(refuse),)), opaque=opaque)
        return await self.start(
            Stack(
                (
                    DetectTls[Accepted](
                        identity(self.pki),
                        plain=Stack((ReadTransportHeader(timeout=2.0), detect)),
                        passthrough=Stack((Branch(refuse),)),
                    ),
                )
            )
        )

    async def outbound(self, endpoint: Endpoint) -> Server:
        connecting: Any = Stack((SendTransportHeader(), Tls(identity=identity(self.pki, CLIENT))))
        return await self.start(Stack((To(endpoint), Forward(), connecting)))


def mesh_endpoint(address: tuple[str, int], port: int) -> Endpoint:
    return Endpoint(
        address, tls=TlsClient(OWN, identity=OWN, mesh=True, alpn=()), transport_header=TransportHeader(port)
    )


@pytest.mark.parity("D-19", "D-20", "X-60")
async def test_a_server_that_speaks_first_is_heard_through_two_proxies_at_once(pki: Any, nursery: trio.Nursery) -> None:
    async def application(connection: Connection) -> None:
        await connection.send_all(b"220 ready\r\n")
        data = await read_all(connection)
        await connection.send_all(data[::-1])
        await connection.send_eof()

    mesh = Mesh(pki, nursery)
    with trio.fail_after(30):
        server = await mesh.start(Stack((Branch(application),)))
        inbound = await mesh.inbound()
        outbound = await mesh.outbound(mesh_endpoint(inbound.addresses[0], server.addresses[0][1]))

        began = trio.current_time()
        client = await connect_tcp(Endpoint(outbound.addresses[0]))
        assert b"220 ready\r\n" == await client.receive_some()
        # Nobody waited for the client to say something.
        assert trio.current_time() - began < 0.9

        data = os.urandom(2 << 20)

        async def send() -> None:
            await client.send_all(data)
            await client.send_eof()

        nursery.start_soon(send)
        assert data[::-1] == await read_all(client)
        client.close()
        header = TransportHeader(server.addresses[0][1])
        assert [(header, OWN)] == [(target.transport_header, target.sni) for target in mesh.asked]
        assert 0 == inbound.crashes_total + outbound.crashes_total + server.crashes_total
        nursery.cancel_scope.cancel()


@pytest.mark.parity("D-08", "D-20")
async def test_a_peer_that_does_not_negotiate_it_gets_no_header(pki: Any, nursery: trio.Nursery) -> None:
    got: list[bytes] = []

    async def note(connection: Connection) -> None:
        got.append(await read_all(connection))

    mesh = Mesh(pki, nursery)
    with trio.fail_after(30):
        # Its proxy knows HTTP only.
        detect = DetectTls[Accepted](
            identity(pki), plain=Stack((Branch(note),)), passthrough=Stack((Branch(note),)), alpn=()
        )
        server = await mesh.start(Stack((detect,)))
        connect = SendTransportHeader().layer(Tls(identity=identity(pki, CLIENT)).layer(connect_tcp))
        endpoint = mesh_endpoint(server.addresses[0], 80)
        with pytest.raises((ConnectError, TlsError)):
            await connect(endpoint)
        while server.open_connections:
            await trio.sleep(0.001)
        assert b"" == b"".join(got)
        nursery.cancel_scope.cancel()


@pytest.mark.parity("D-22")
async def test_an_alpn_without_a_header_ends_the_connection_alone(pki: Any, nursery: trio.Nursery) -> None:
    mesh = Mesh(pki, nursery)
    with trio.fail_after(30):
        inbound = await mesh.inbound()
        tls = TlsClient(OWN, identity=OWN, mesh=True, alpn=(ALPN,))
        connect = Tls(identity=identity(pki, CLIENT)).layer(connect_tcp)
        client = await connect(Endpoint(inbound.addresses[0], tls=tls))
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        try:
            assert b"" == await client.receive_some()
        except ConnectionLost:
            # What the proxy had not read turned its end into a reset.
            pass
        client.close()
        while inbound.open_connections:
            await trio.sleep(0.001)
        assert ([], 0) == (mesh.asked, inbound.crashes_total)
        nursery.cancel_scope.cancel()
