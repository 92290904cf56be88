"""Reading the transport header: who may send one, what it changes, and its bounds."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing

from meshcore.codec.transport_header import ALPN, MAX_MESSAGE, TransportHeader, encode
from meshcore.errors import AuthorizationError, MeshError, RemoteProtocolError, StreamTimeout
from meshcore.server.detect import Detect
from meshcore.server.read_transport_header import ReadTransportHeader
from meshcore.stack import Stack, accept
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.target import Accepted
from tests.server.stacks import MemoryServer, read_all

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
ACCEPTED = Accepted("inbound", ("10.0.0.2", 4143), ("10.0.0.1", 50_000))


@attrs.define
class Proxy:
    """ReadTransportHeader over Detect, over two branches that note what they are given and answer with their name."""

    nursery: trio.Nursery
    options: dict[str, Any] = attrs.Factory(dict)
    identity: str | None = "client.test"
    alpn: str | None = ALPN
    served: list[tuple[str, Accepted, str | None, bytes]] = attrs.Factory(list)
    errors: list[MeshError] = attrs.Factory(list)

    def connect(self, target: Accepted = ACCEPTED) -> Connection:
        client, accepted = memory_connection_pair(local=target.peer, peer=target.local)
        accepted.alpn, accepted.identity, accepted.secure = self.alpn, self.identity, True
        self.nursery.start_soon(self.serve, accepted, target)
        return client

    async def serve(self, accepted: Connection, target: Accepted) -> None:
        detect = Detect[Accepted](http=Stack((Note("http", self),)), opaque=Stack((Note("opaque", self),)))
        layers = accept(Accepted).then(ReadTransportHeader(**self.options)).then(detect)
        new_accept = layers.layer(MemoryServer(self.nursery, read_all))
        try:
            await new_accept.new_service(target, self.nursery)(accepted)
        except MeshError as error:
            self.errors.append(error)
        finally:
            accepted.close()


@attrs.frozen
class Note:
    branch: str
    proxy: Proxy

    def layer(self, inner: Any, /) -> Any:
        return self

    def new_service(self, target: Any, nursery: trio.Nursery, /) -> Any:
        async def service(connection: Connection) -> None:
            await connection.send_all(self.branch.encode())
            data = await read_all(connection)
            self.proxy.served.append((self.branch, target, connection.protocol, data))

        return service


@pytest.mark.parity("D-19", "D-21", "D-22")
@pytest.mark.parametrize(
    ("header", "branch", "protocol"),
    [
        (TransportHeader(8080), "opaque", "opaque"),
        (TransportHeader(8080, "web.test"), "opaque", "opaque"),
        (TransportHeader(8080, protocol="http/1"), "http", "http/1"),
        (TransportHeader(8080, "web.test", "h2"), "http", "h2"),
    ],
)
@pytest.mark.parametrize("data", [GET, b"\0\1\2", b""])
@pytest.mark.parametrize("size", [1, 24, 10_000])
async def test_the_header_says_where_to_and_what_and_the_bytes_after_it_follow(
    autojump_clock: Any,
    nursery: trio.Nursery,
    header: TransportHeader,
    branch: str,
    protocol: str,
    data: bytes,
    size: int,
) -> None:
    proxy = Proxy(nursery)
    client = proxy.connect()
    wire = encode(header) + data
    for start in range(0, len(wire), size):
        await client.send_all(wire[start : start + size])
        await trio.sleep(0.01)
    # Whoever is behind it speaks at once, whatever the client says.
    assert branch.encode() == await client.receive_some()
    assert trio.current_time() < 1.0
    await client.send_eof()
    await read_all(client)

    target = attrs.evolve(ACCEPTED, original=("10.0.0.2", 8080), transport_header=header)
    assert [(branch, target, protocol, data)] == proxy.served
    assert [] == proxy.errors


async def test_the_original_destinations_host_is_kept(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery)
    client = proxy.connect(attrs.evolve(ACCEPTED, original=("10.9.9.9", 4143)))
    await client.send_all(encode(TransportHeader(25)))
    await client.send_eof()
    await read_all(client)
    assert [("10.9.9.9", 25)] == [target.original for _, target, _, _ in proxy.served]


@pytest.mark.parametrize("alpn", [None, "h2", "http/1.1"])
async def test_without_its_protocol_negotiated_nothing_is_read(nursery: trio.Nursery, alpn: str | None) -> None:
    proxy = Proxy(nursery, identity=None, alpn=alpn)
    client = proxy.connect()
    await client.send_all(GET)
    await client.send_eof()
    assert b"http" == await read_all(client)
    assert [("http", ACCEPTED, "h2" if alpn == "h2" else "http/1", GET)] == proxy.served


@pytest.mark.parity("D-22")
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (GET, "no preface"),
        (b"\0", "no preface"),
        (b"", "ended within it"),
        (encode(TransportHeader(80))[:-1], "ended within it"),
        (encode(TransportHeader(80))[:-2] + b"\x08\x00", "0 is not a port"),
        (encode(TransportHeader(80))[:23] + (MAX_MESSAGE + 1).to_bytes(4, "big"), "exceeds 65536"),
    ],
)
async def test_anything_else_is_refused(nursery: trio.Nursery, data: bytes, text: str) -> None:
    proxy = Proxy(nursery)
    client = proxy.connect()
    await client.send_all(data)
    await client.send_eof()
    assert b"" == await read_all(client)
    assert isinstance(proxy.errors[0], RemoteProtocolError)
    assert text in str(proxy.errors[0])
    assert [] == proxy.served


@pytest.mark.parity("U-03")
async def test_who_has_no_identity_may_not_say_where_its_connection_goes(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, identity=None)
    client = proxy.connect()
    assert b"" == await read_all(client)
    assert ["transport header: the client has no identity"] == [str(error) for error in proxy.errors]
    assert isinstance(proxy.errors[0], AuthorizationError)


async def test_only_ports_that_are_served_may_be_asked_for(nursery: trio.Nursery) -> None:
    proxy = Proxy(nursery, options={"ports": frozenset({80})})
    refused, allowed = proxy.connect(), proxy.connect()
    await refused.send_all(encode(TransportHeader(4191)))
    await allowed.send_all(encode(TransportHeader(80)))
    assert b"" == await read_all(refused)
    assert b"opaque" == await allowed.receive_some()
    assert ["transport header: port 4191 is not served here"] == [str(error) for error in proxy.errors]


@pytest.mark.parity("D-22")
@pytest.mark.parametrize("size", [0, 5, 28])
async def test_a_header_that_does_not_come_in_time_ends_the_connection(
    autojump_clock: Any, nursery: trio.Nursery, size: int
) -> None:
    proxy = Proxy(nursery, options={"timeout": 3.0})
    client = proxy.connect()
    await client.send_all(encode(TransportHeader(4040))[:size])
    assert b"" == await read_all(client)
    assert 3.0 == trio.current_time()
    assert isinstance(proxy.errors[0], StreamTimeout)
    assert ["reading a transport header timed out after 3 s"] == [str(error) for error in proxy.errors]
