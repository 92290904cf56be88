"""Sending the transport header: once, first, and only to who negotiated it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from meshcore.codec.transport_header import ALPN, TransportHeader, encode
from meshcore.errors import ConnectError
from meshcore.layers import SendTransportHeader
from meshcore.stack import role
from meshcore.testing import memory_connection_pair
from meshcore.testing.streams import Wire
from meshcore.transport.connection import Connection
from meshcore.transport.target import Endpoint, TlsClient

HEADER = TransportHeader(25, "smtp.test", None)
ENDPOINT = Endpoint(("10.0.0.2", 4143), tls=TlsClient("a.test"), transport_header=HEADER)


class Below:
    """A ``Connect`` that negotiates *alpn* where it is offered.

    Attributes:
        offered: what each endpoint wanted negotiated.
        far: the peers' ends.
        here: the ends given away.
    """

    def __init__(self, alpn: str | None = ALPN, wire: Wire | None = None) -> None:
        self.alpn = alpn
        self.wire = wire
        self.offered: list[tuple[str, ...] | None] = []
        self.far: list[Connection] = []
        self.here: list[Connection] = []

    async def __call__(self, endpoint: Endpoint, /) -> Connection:
        here, there = memory_connection_pair(self.wire, peer=endpoint.address)
        self.offered.append(endpoint.tls.alpn if endpoint.tls is not None else None)
        here.alpn = self.alpn
        self.far.append(there)
        self.here.append(here)
        return here


@pytest.mark.parity("D-19", "D-20", "U-11")
async def test_it_is_the_first_that_is_sent_where_it_was_negotiated() -> None:
    below = Below()
    connection = await SendTransportHeader().layer(below)(ENDPOINT)
    await connection.send_all(b"EHLO")

    assert [(ALPN,)] == below.offered
    data = b""
    while len(data) < len(encode(HEADER)) + 4:
        data += await below.far[0].receive_some()
    assert encode(HEADER) + b"EHLO" == data


@pytest.mark.parity("U-11")
async def test_endpoints_without_one_are_left_alone() -> None:
    below = Below()
    connect = SendTransportHeader().layer(below)
    plain = attrs.evolve(ENDPOINT, transport_header=None)
    assert await connect(plain) is below.here[0]
    assert await connect(attrs.evolve(plain, tls=None)) is below.here[1]

    assert [("h2", "http/1.1"), None] == below.offered
    with pytest.raises(trio.WouldBlock):
        below.far[0].receive_nowait()


@pytest.mark.parity("D-20")
@pytest.mark.parametrize("alpn", [None, "h2"])
async def test_a_peer_that_does_not_take_it_gets_nothing(alpn: str | None) -> None:
    below = Below(alpn)
    with pytest.raises(ConnectError, match=r"endpoint 10\.0\.0\.2:4143: does not take a transport header") as raised:
        await SendTransportHeader().layer(below)(ENDPOINT)

    assert not raised.value.retryable
    assert b"" == await below.far[0].receive_some()


@pytest.mark.parity("T-17")
async def test_without_tls_there_is_no_connection() -> None:
    below = Below()
    with pytest.raises(ConnectError, match="a transport header needs TLS"):
        await SendTransportHeader().layer(below)(attrs.evolve(ENDPOINT, tls=None))
    assert [] == below.far


async def test_a_connection_that_breaks_meanwhile_is_one_that_was_not_made() -> None:
    below = Below(wire=Wire(reset_after=0, capacity=0))
    connect = SendTransportHeader().layer(below)

    async def breaking(endpoint: Endpoint) -> Connection:
        connection = await below(endpoint)
        below.far[0].reset()
        return connection

    with pytest.raises(ConnectError, match="reset") as raised:
        await SendTransportHeader().layer(breaking)(ENDPOINT)
    assert raised.value.retryable
    assert below.here[0].closed
    with trio.move_on_after(0.05):
        await connect(ENDPOINT)
    assert below.here[1].closed


def test_its_role_can_be_named() -> None:
    layer: Any = SendTransportHeader(name="opaque_send_transport_header")
    assert "opaque_send_transport_header" == role(layer)
    assert "send_transport_header" == role(SendTransportHeader())
