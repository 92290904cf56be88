"""The server end of a pipeline: which version a connection speaks, and what becomes of one that speaks none."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import meshcore
from meshcore import Accepted, Request, Response, ServerOptions
from meshcore._unwrap import services
from meshcore.abc import HttpService
from meshcore.testing import MockService, mock_service
from meshcore.transport.connection import Connection
from meshcore.transport.sweep import Sweeper
from tests.http1_peers import KINDS, Owner, Peer, pair, settle

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
GET = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class New:
    """Makes the same service for everybody."""

    def __init__(self, service: HttpService) -> None:
        self.service = service
        self.targets: list[object] = []

    def new_service(self, target: object, nursery: trio.Nursery, /) -> HttpService:
        self.targets.append(target)
        return self.service


@contextlib.asynccontextmanager
async def accepted(
    kind: str = "memory", options: ServerOptions | None = None, **attributes: object
) -> AsyncIterator[tuple[Peer, Connection, MockService]]:
    service = mock_service(204)
    new = meshcore.ServeHttp(options or ServerOptions()).layer(New(service))
    ours, theirs = pair(kind)
    owner = Owner()
    ours.owner = owner
    ours.sweeper = Sweeper()
    for name, value in attributes.items():
        setattr(ours, name, value)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.sweeper.run)
        nursery.start_soon(new.new_service(Accepted(), nursery), ours)
        try:
            yield Peer(theirs), ours, service
        finally:
            theirs.close()
        nursery.cancel_scope.cancel()
    assert ours.closed
    assert owner.crashes == []


async def test_http1_is_recognized_by_its_first_bytes(kind: str) -> None:
    async with accepted(kind) as (client, connection, service):
        await client.send(GET)
        await client.expect(NO_CONTENT)
        assert connection.protocol == "http/1"
        assert [request.path for request in service.requests] == [b"/"]


@pytest.mark.parity("D-01", "D-09")
async def test_a_first_segment_that_is_split_anywhere_is_not_mistyped() -> None:
    for size in range(1, len(GET)):
        async with accepted() as (client, _, _service):
            await client.send(GET[:size])
            await settle()
            await client.send(GET[size:])
            await client.expect(NO_CONTENT)


async def test_http2_is_recognized_by_its_preface(kind: str) -> None:
    async with accepted(kind) as (client, connection, _):
        for byte in PREFACE:
            await client.send(bytes([byte]))
            await settle()
        await client.send(SETTINGS)
        frame = b""
        while len(frame) < 9:
            frame += await client.more()
        assert frame[3:9] == b"\x04\x00\x00\x00\x00\x00"
        assert connection.protocol == "h2"


@pytest.mark.parametrize("sent", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00\x01"])
async def test_what_is_no_http_is_answered_400_and_closed(kind: str, sent: bytes) -> None:
    async with accepted(kind) as (client, _, service):
        await client.send(sent)
        assert await client.rest() == (
            b"HTTP/1.1 400 Bad Request\r\n"
            b"x-meshcore-error: bad-request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        assert service.requests == []


async def test_a_connection_without_a_byte_is_closed_silently(kind: str) -> None:
    async with accepted(kind) as (client, _, _service):
        await client.eof()
        await client.expect_end()


async def test_an_end_in_the_middle_of_a_method_is_answered_400(kind: str) -> None:
    async with accepted(kind) as (client, _, _service):
        await client.send(b"GE")
        await client.eof()
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_connection_that_says_nothing_is_closed_at_the_header_timeout(autojump_clock: object) -> None:
    async with accepted() as (client, _, _service):
        await client.expect_end()
        assert 10 <= trio.current_time() <= 11


@pytest.mark.parametrize(("alpn", "version"), [("http/1.1", 11), ("h2", 20)])
async def test_what_tls_negotiated_is_believed(alpn: str, version: int) -> None:
    async with accepted(alpn=alpn, secure=True) as (client, _, service):
        if version == 11:
            await client.send(GET)
            await client.expect(NO_CONTENT)
            assert service.requests[0].scheme == b"https"
        else:
            # The server speaks first, without having read a byte.
            assert (await client.more())[3:5] == b"\x04\x00"


async def test_what_detection_found_is_not_looked_for_again() -> None:
    async with accepted(protocol="http/1") as (client, connection, _):
        connection.unread(GET[:10])
        await client.send(GET[10:])
        await client.expect(NO_CONTENT)


async def test_each_connection_is_served_for_its_own_target() -> None:
    new = New(mock_service(204))
    accept = meshcore.ServeHttp().layer(new)
    async with trio.open_nursery() as nursery:
        targets = [Accepted(peer=("10.0.0.1", port)) for port in (1, 2)]
        made = [accept.new_service(target, nursery) for target in targets]
        assert new.targets == targets
        # A live stack is walked from here.
        assert list(services(made[0])) == [made[0], new.service]
        nursery.cancel_scope.cancel()


async def test_embedders_need_neither_drain_nor_sweeper_nor_owner() -> None:
    ours, theirs = pair("stream")
    client = Peer(theirs)

    async def service(request: Request) -> Response:
        raise ValueError("a bug")

    accept = meshcore.ServeHttp().layer(New(service))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept.new_service(Accepted(), nursery), ours)
        await client.send(GET)
        assert (await client.rest()).startswith(b"HTTP/1.1 500 ")
        client.close()
    assert ours.closed
