"""A server that refuses our certificate after our handshake: a TLS error, nothing processed, nothing left open."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import meshcore
from meshcore import Endpoint, Headers, Request
from meshcore.errors import ConnectionLost, TlsError
from meshcore.identity import accept_mesh_tls
from meshcore.layers.tls import Tls
from meshcore.stack import stack
from meshcore.transport.connection import Connection
from meshcore.transport.target import TlsClient
from tests.identity.issued import authority, identity
from tests.transport.test_tls import _close_sockets, socket_pair  # noqa: F401 – a fixture

CA = authority()


@pytest.mark.parametrize("protocol", ["http/1", "h2"])
async def test_a_request_on_a_refused_connection_fails_as_tls_and_may_go_elsewhere(engine: str, protocol: str) -> None:
    other = authority("another")
    server = identity(CA, "b.shop")
    made: list[Connection] = []
    refused: list[str] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def accept(connection: Connection) -> None:
                try:
                    await accept_mesh_tls(connection, server)
                except TlsError as error:
                    refused.append(str(error))

            async def connect(endpoint: Endpoint) -> Connection:
                a, b = socket_pair()
                made.append(a)
                nursery.start_soon(accept, b)
                return a

            tls: Any = Tls(identity=identity(other, "a.shop", trusting=[other, CA]))
            new_http = stack(Endpoint).then(meshcore.Http()).then(tls).layer(connect)
            tls_client = TlsClient("b.shop", alpn=(), identity="b.shop", mesh=True)
            client = new_http.new_service(Endpoint(("10.0.0.2", 80), protocol, tls=tls_client), nursery)
            with pytest.raises(TlsError, match="certificate was refused by the peer") as caught:
                await client(Request(b"POST", b"http", b"b.shop", b"/", Headers(), meshcore.Full(b"x"), version=20))
            assert not isinstance(caught.value, ConnectionLost)
            assert caught.value.retryable
            assert str(caught.value).startswith("endpoint 10.0.0.2:80: ")
            nursery.cancel_scope.cancel()
    assert all("unknown issuer" in text for text in refused)
    assert all(connection.closed for connection in made)
