"""A proxy of nothing but its two ends: what of HTTP/1 passes through, and what does not (D-29 to D-34)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import meshcore
from meshcore import ClientOptions, Request, Response, ServerOptions
from meshcore._unwrap import find, ready_source, services, statistics_sources
from meshcore.abc import HttpService, link
from meshcore.client.http import EndpointClient
from meshcore.errors import ConnectError, ConnectionLost
from meshcore.http.body import read_all
from meshcore.server.http1 import serve_http1
from meshcore.server.http2 import serve_http2
from meshcore.testing import memory_connection_pair
from meshcore.transport.connection import Connection
from meshcore.transport.target import Endpoint, TlsClient
from tests.http1_peers import KINDS, Peer, proxying, settle

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def pass_through(kind: str, request: bytes, forwarded: bytes, answer: bytes, answered: bytes) -> None:
    async with proxying(kind) as proxy:
        await proxy.round_trip(proxy.client(), request, forwarded, answer, answered)


@pytest.mark.parity("X-70", "X-58")
async def test_a_request_and_its_answer_pass(kind: str) -> None:
    await pass_through(
        kind,
        b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\nAccept: */*\r\nX-One: 2\r\n\r\n",
        b"GET /a?b=c HTTP/1.1\r\nhost: a.test\r\nx-one: 1\r\naccept: */*\r\nx-one: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\nset-cookie: a\r\nset-cookie: b\r\n\r\nhello",
    )


@pytest.mark.parity("D-29", "X-71")
async def test_fields_of_the_connection_are_removed_in_both_directions(kind: str) -> None:
    await pass_through(
        kind,
        b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\n"
        b"proxy-connection: keep-alive\r\nupgrade: foo\r\nx-kept: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a.test\r\nx-kept: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: x-theirs, close\r\nx-theirs: 1\r\nkeep-alive: 5\r\nproxy-connection: x\r\n"
        b"content-length: 0\r\nx-kept: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-kept: 1\r\n\r\n",
    )


@pytest.mark.parity("X-76", "D-29")
async def test_an_h2c_upgrade_is_stripped_and_the_request_answered(kind: str) -> None:
    await pass_through(
        kind,
        b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )


@pytest.mark.parity("X-75")
async def test_nothing_says_that_a_proxy_was_there(kind: str) -> None:
    await pass_through(
        kind,
        b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )


@pytest.mark.parity("X-78", "D-34")
@pytest.mark.parametrize(
    "body",
    [b"content-length: 5\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
async def test_a_bodys_framing_is_kept_in_both_directions(kind: str, body: bytes) -> None:
    await pass_through(
        kind,
        b"POST / HTTP/1.1\r\nhost: a.test\r\n" + body,
        b"POST / HTTP/1.1\r\nhost: a.test\r\n" + body,
        b"HTTP/1.1 200 OK\r\n" + body,
        b"HTTP/1.1 200 OK\r\n" + body,
    )


@pytest.mark.parity("X-79", "D-34")
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"POST", b"PUT", b"PATCH", b"HEAD", b"OPTIONS"])
async def test_a_request_without_a_body_gets_no_framing(kind: str, method: bytes) -> None:
    request = b"%b / HTTP/1.1\r\nhost: a.test\r\n\r\n" % method
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    await pass_through(kind, request, request, answer, answer)


@pytest.mark.parity("X-80", "D-34")
async def test_a_content_length_of_zero_is_kept_in_both_directions(kind: str) -> None:
    request = b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    await pass_through(kind, request, request, answer, answer)


@pytest.mark.parity("X-81", "D-34")
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 55\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 55\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n"),
        (b"GET", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_bodyless_answers_pass_as_they_are(kind: str, method: bytes, answer: bytes) -> None:
    request = b"%b / HTTP/1.1\r\nhost: a.test\r\n\r\n" % method
    async with proxying(kind) as proxy:
        client = proxy.client()
        for _ in range(2):
            await proxy.round_trip(client, request, request, answer, answer)


@pytest.mark.parity("X-82", "D-34")
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_the_connection_passes_whole(kind: str, version: bytes) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
        await proxy.round_trip(
            client,
            request,
            request,
            b"HTTP/%b 200 OK\r\n\r\nhello" % version,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )
        await proxy.upstreams[0].send(b" you")
        proxy.upstreams[0].close()
        await client.expect(b"4\r\n you\r\n0\r\n\r\n")


@pytest.mark.parity("X-82", "X-72")
async def test_a_body_that_ends_with_the_connection_does_so_for_http10(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        request = b"GET / HTTP/1.0\r\nhost: a.test\r\n\r\n"
        await proxy.round_trip(
            client,
            request,
            request,
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello",
        )
        proxy.upstreams[0].close()
        await client.expect_end()


@pytest.mark.parity("X-72", "D-34")
async def test_an_http10_request_with_a_host_is_answered_as_http10(kind: str) -> None:
    await pass_through(
        kind,
        b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a.test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    )


@pytest.mark.parity("X-63", "D-32")
async def test_an_http10_request_without_a_host_is_forwarded(kind: str) -> None:
    await pass_through(
        kind,
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    )


@pytest.mark.parity("X-64", "D-33")
async def test_one_connection_a_host(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        for host, connection in ((b"a", 0), (b"b", 1), (b"a", 0), (b"b", 1)):
            request = b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % host
            await client.send(request)
            upstream = await proxy.upstream(connection)
            await upstream.expect(request)
            await upstream.send(answer)
            await client.expect(answer)
        assert len(proxy.upstreams) == 2


@pytest.mark.parity("X-65", "D-33")
async def test_requests_without_a_host_have_connections_of_their_own(kind: str) -> None:
    async with proxying(kind) as proxy:
        for connection in range(3):
            client = proxy.client()
            await client.send(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            upstream = await proxy.upstream(connection)
            await upstream.head()
            await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await client.head()
        assert len(proxy.upstreams) == 3


@pytest.mark.parity("X-73", "D-32")
@pytest.mark.parametrize("host", [b"b.test", b"a.test"])
async def test_absolute_form_and_a_different_host_are_kept_as_sent(kind: str, host: bytes) -> None:
    request = b"GET http://a.test/path HTTP/1.1\r\nhost: %b\r\n\r\n" % host
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    await pass_through(kind, request, request, answer, answer)


async def test_options_asterisk_passes_in_both_forms() -> None:
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    for request in (
        b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"OPTIONS http://a.test HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ):
        await pass_through("memory", request, request, answer, answer)


# ----- tunnels -----


UPGRADE = b"GET /chat HTTP/1.1\r\nhost: a.test\r\n%bconnection: upgrade\r\nupgrade: %b\r\n%b\r\n"


@pytest.mark.parity("X-74", "D-30")
@pytest.mark.parametrize("order", [1, -1])
async def test_an_upgrade_passes_with_the_bytes_behind_it(kind: str, order: int) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        # What the client sends before it is answered waits.
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nahead")
        upstream = await proxy.upstream()
        await upstream.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\nupgrade: foo\r\nconnection: upgrade\r\n\r\n")
        await settle()
        assert upstream.buffer == b""
        await upstream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\nx: 1\r\n\r\nhello"
        )
        await client.expect(
            b"HTTP/1.1 101 Switching Protocols\r\nx: 1\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nhello"
        )
        await upstream.expect(b"ahead")
        await client.send(b"ping")
        await upstream.expect(b"ping")
        # Half-closed from either side, the other direction goes on.
        first, second = (client, upstream)[::order]
        await first.eof()
        await second.expect_end()
        await second.send(b"after")
        await first.expect(b"after")
        await second.eof()
        await first.expect_end()


@pytest.mark.parity("D-30", "X-74")
async def test_a_websocket_key_that_is_answered_wrongly_is_refused() -> None:
    async with proxying() as proxy:
        client = proxy.client()
        await client.send(
            b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        upstream = await proxy.upstream()
        await upstream.head()
        await upstream.send(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: AAAA\r\n\r\n"
        )
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parity("D-30")
async def test_an_upgrade_that_the_upstream_ignores_is_an_ordinary_exchange(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n")
            await (await proxy.upstream()).head()
            await proxy.upstreams[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
            await client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
        assert len(proxy.upstreams) == 1


@pytest.mark.parity("X-77", "D-30")
async def test_connect_makes_a_tunnel_and_its_answer_has_no_framing(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.expect(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        await upstream.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: x\r\n\r\nhello")
        await client.expect(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\nhello")
        await client.send(b"ping")
        await upstream.expect(b"ping")
        client.close()
        await upstream.expect_end()


@pytest.mark.parity("X-77", "D-30")
async def test_a_connect_that_is_refused_is_answered(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        await (await proxy.upstream()).head()
        await proxy.upstreams[0].send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        await client.expect(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        await client.expect_end()


@pytest.mark.parity("D-31", "X-77")
@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT http://a.test/path HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"CONNECT /path HTTP/1.1\r\nhost: a.test\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.0\r\nhost: a.test\r\n\r\n",
        b"GET a.test:443 HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ],
)
async def test_a_connect_that_is_none_is_answered_400_and_reaches_nobody(kind: str, request_: bytes) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(request_)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert proxy.upstreams == []


async def test_a_tunnel_that_breaks_on_one_side_breaks_on_the_other() -> None:
    async with proxying("memory") as proxy:
        client = proxy.client()
        await client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.head()
        await upstream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await client.head()
        upstream.connection.reset()
        await client.expect_reset()


# ----- both sides together -----


async def test_a_large_body_passes_in_both_directions(kind: str) -> None:
    size = 3_000_000
    data = bytes(range(256)) * (size // 256)
    async with proxying(kind) as proxy, trio.open_nursery() as nursery:
        client = proxy.client()
        head = b"content-length: %d\r\n\r\n" % len(data)

        async def answer() -> None:
            upstream = await proxy.upstream()
            await upstream.expect(b"POST / HTTP/1.1\r\nhost: a.test\r\n" + head + data)
            await upstream.send(b"HTTP/1.1 200 OK\r\n" + head + data)

        nursery.start_soon(answer)
        nursery.start_soon(client.send, b"POST / HTTP/1.1\r\nhost: a.test\r\n" + head + data)
        await client.expect(b"HTTP/1.1 200 OK\r\n" + head + data)


async def test_both_directions_stream_at_the_same_time(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        head = b"transfer-encoding: chunked\r\n\r\n"
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\n" + head)
        upstream = await proxy.upstream()
        await upstream.expect(b"POST / HTTP/1.1\r\nhost: a.test\r\n" + head)
        await upstream.send(b"HTTP/1.1 200 OK\r\n" + head)
        await client.expect(b"HTTP/1.1 200 OK\r\n" + head)
        for _ in range(3):
            await client.send(b"4\r\nping\r\n")
            await upstream.expect(b"4\r\nping\r\n")
            await upstream.send(b"4\r\npong\r\n")
            await client.expect(b"4\r\npong\r\n")
        await client.send(b"0\r\nx-a: 1\r\n\r\n")
        await upstream.expect(b"0\r\nx-a: 1\r\n\r\n")
        await upstream.send(b"0\r\nx-b: 2\r\n\r\n")
        await client.expect(b"0\r\nx-b: 2\r\n\r\n")
        request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        await proxy.round_trip(client, request, request, answer, answer)


async def test_an_early_answer_is_passed_on_and_the_client_may_go_on(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nabc")
        upstream = await proxy.upstream()
        await upstream.head()
        await upstream.send(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        await client.expect(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
        # The upstream's connection is half used and gone; the client's is in order again.
        await client.send(b"defghij")
        request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
        answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        await client.send(request)
        second = await proxy.upstream(1)
        await second.expect(request)
        await second.send(answer)
        await client.expect(answer)


async def test_continue_passes_from_the_upstream(kind: str) -> None:
    async with proxying(kind, client=ClientOptions(continue_timeout=1_000.0)) as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.expect(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
        await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(b"abc")
        await upstream.expect(b"abc")
        await upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")


async def test_a_client_that_hangs_up_closes_the_upstream() -> None:
    async with proxying("socket") as proxy:
        client = proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.head()
        client.close()
        with trio.fail_after(60):
            await upstream.expect_end()


async def test_a_client_that_breaks_off_its_upload_closes_the_upstream(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nabc")
        upstream = await proxy.upstream()
        await upstream.expect(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nabc")
        client.close()
        await upstream.expect_end()


@pytest.mark.parity("X-62")
async def test_an_upstream_that_closes_without_an_answer_is_a_502(kind: str) -> None:
    async with proxying(kind) as proxy:
        client = proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.head()
        upstream.close()
        assert (
            await client.rest()
            == b"HTTP/1.1 502 Bad Gateway\r\nx-meshcore-error: connection-lost\r\ncontent-length: 0\r\n"
            b"connection: close\r\n\r\n"
        )


async def test_an_upstream_that_breaks_in_a_body_cuts_the_answer() -> None:
    async with proxying("memory") as proxy:
        client = proxy.client()
        request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        await proxy.round_trip(client, request, request, answer, answer)
        proxy.upstreams[0].close()
        # It ends in order, so that nothing of it is lost, but without the last chunk.
        await client.expect_end()


async def test_a_request_crashes_nobody_when_its_endpoint_refuses(kind: str) -> None:
    async with proxying(kind) as proxy:
        proxy.refuse = ConnectError("endpoint 10.0.0.7:8080: connection refused")
        client = proxy.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 502 Bad Gateway\r\nx-meshcore-error: connect-failed\r\n")


# ----- the layer itself -----


async def own_nursery(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """A nursery in a task of its own, to be cancelled apart from the test's."""
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


async def test_an_endpoints_connections_end_with_its_nursery(nursery: trio.Nursery) -> None:
    made: list[tuple[Connection, Connection]] = []

    async def connect(_: Endpoint, /) -> Connection:
        made.append(memory_connection_pair())
        return made[-1][0]

    new = meshcore.Http().layer(connect)
    first, second = await nursery.start(own_nursery), await nursery.start(own_nursery)
    one = new.new_service(Endpoint(("a", 1)), first)
    two = new.new_service(Endpoint(("b", 1)), second)
    await ready_source(one)()  # type: ignore[misc]
    await ready_source(two)()  # type: ignore[misc]
    first.cancel_scope.cancel()
    await settle()
    assert [ours.closed for ours, _ in made] == [True, False]
    second.cancel_scope.cancel()
    await settle()
    assert [ours.closed for ours, _ in made] == [True, True]


async def test_the_sweeping_goes_on_when_the_endpoint_that_ran_it_is_removed(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    made: list[Connection] = []

    async def connect(_: Endpoint, /) -> Connection:
        made.append(memory_connection_pair()[0])
        return made[-1]

    new = meshcore.Http().layer(connect)
    first, second = await nursery.start(own_nursery), await nursery.start(own_nursery)
    new.new_service(Endpoint(("a", 1)), first)
    two = new.new_service(Endpoint(("b", 1)), second)
    await settle()
    first.cancel_scope.cancel()
    await settle()
    await ready_source(two)()  # type: ignore[misc]
    assert not made[0].closed
    await trio.sleep(3.1)
    assert made[0].closed
    second.cancel_scope.cancel()
    await settle()
    # All gone, and begun again.
    async with trio.open_nursery() as third:
        three = new.new_service(Endpoint(("c", 1)), third)
        await ready_source(three)()  # type: ignore[misc]
        await trio.sleep(3.1)
        assert made[1].closed
        third.cancel_scope.cancel()


@pytest.mark.parametrize("alpn", ["http/1.1", None])
async def test_over_tls_the_version_is_what_was_negotiated(alpn: str | None) -> None:
    peers: list[Peer] = []

    async def connect(_: Endpoint, /) -> Connection:
        ours, theirs = memory_connection_pair()
        ours.alpn = alpn
        ours.secure = True
        peers.append(Peer(theirs))
        return ours

    endpoint = Endpoint(("a", 1), tls=TlsClient("a.test"))
    async with trio.open_nursery() as nursery:
        service = meshcore.Http().layer(connect).new_service(endpoint, nursery)
        results: list[Response] = []

        async def call() -> None:
            results.append(await service(Request(b"GET", b"https", b"a.test", b"/", version=20)))

        nursery.start_soon(call)
        nursery.start_soon(call)
        await settle()
        # The first of them found out for both, and its connection was used.
        assert len(peers) == 2
        for peer in peers:
            await peer.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await settle()
        assert [response.status for response in results] == [204, 204]
        nursery.cancel_scope.cancel()


async def test_over_tls_a_peer_that_negotiates_h2_is_spoken_to_in_h2() -> None:
    peers: list[Peer] = []

    async def connect(_: Endpoint, /) -> Connection:
        ours, theirs = memory_connection_pair()
        ours.alpn = "h2"
        ours.secure = True
        peers.append(Peer(theirs))
        return ours

    endpoint = Endpoint(("a", 1), tls=TlsClient("a.test"))
    async with trio.open_nursery() as nursery:
        service = meshcore.Http().layer(connect).new_service(endpoint, nursery)

        async def call() -> None:
            await service(Request(b"GET", b"https", b"a.test", b"/"))

        nursery.start_soon(call)
        await settle()
        assert len(peers) == 1
        await peers[0].expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        nursery.cancel_scope.cancel()


async def test_prior_knowledge_decides_without_a_look_at_the_request() -> None:
    peers: list[Peer] = []

    async def connect(_: Endpoint, /) -> Connection:
        ours, theirs = memory_connection_pair()
        peers.append(Peer(theirs))
        return ours

    async with trio.open_nursery() as nursery:
        new = meshcore.Http().layer(connect)
        h2 = new.new_service(Endpoint(("a", 1), protocol="h2"), nursery)
        h1 = new.new_service(Endpoint(("a", 2), protocol="http/1"), nursery)
        for service, version in ((h2, 11), (h1, 20)):

            async def call(service: HttpService = service, version: int = version) -> None:
                await service(Request(b"GET", b"http", b"a.test", b"/", version=version))

            nursery.start_soon(call)
            await settle()
        await peers[0].expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await peers[1].expect(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        nursery.cancel_scope.cancel()


async def test_a_live_stack_is_walked_to_what_can_be_asked() -> None:
    async def connect(_: Endpoint, /) -> Connection:
        return memory_connection_pair()[0]

    async with trio.open_nursery() as nursery:
        client = meshcore.Http().layer(connect).new_service(Endpoint(("a", 1)), nursery)

        async def outer(request: Request) -> Response:
            return await client(request)

        wrapped = link(outer, client, object())
        assert [type(service) for service in services(wrapped)] == [type(outer), EndpointClient]
        assert ready_source(wrapped) == client.ready  # type: ignore[attr-defined]
        assert [service for service, _ in statistics_sources(wrapped)] == [client]
        assert find(wrapped, "nothing") is None
        assert repr(client) == "<EndpointClient a:1 http>"
        nursery.cancel_scope.cancel()


def test_options_of_both_ends_show_in_the_printed_stack() -> None:
    pipeline = meshcore.accept(meshcore.Accepted).then(meshcore.ServeHttp()).then(meshcore.Http())
    assert pipeline.roles() == ["serve_http", "http"]
    assert meshcore.ServeHttp(ServerOptions()) == meshcore.ServeHttp()
    assert meshcore.Http(ClientOptions()) == meshcore.Http()


async def test_an_exchange_costs_no_task_scope_nursery_or_channel(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Count(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            made.append(task.name)

    request = b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    async with proxying(kind) as proxy:
        client = proxy.client()
        await proxy.round_trip(client, request, request, answer, answer)
        upstream = proxy.upstreams[0].connection
        status = trio._core._run.CancelStatus  # type: ignore[attr-defined]
        monkeypatch.setattr(trio._core._run, "CancelStatus", lambda **how: (made.append("scope"), status(**how))[1])
        monkeypatch.setattr(trio, "open_memory_channel", lambda size: made.append("channel"))
        count = Count()
        trio.lowlevel.add_instrument(count)
        for _ in range(10):
            # Without the peers' own scopes.
            await client.connection.send_all(request)
            assert await upstream.receive_some() == request
            await upstream.send_all(answer)
            assert await client.connection.receive_some() == answer
        trio.lowlevel.remove_instrument(count)
        # The sweepers' own waits, not one for each of ten requests.
        assert made.count("scope") <= 2
        assert set(made) <= {"scope"}


async def test_a_peer_that_speaks_another_version_than_before_is_found_out() -> None:
    alpn = ["http/1.1", "h2", "h2", "http/1.1"]
    peers: list[Peer] = []

    async def connect(_: Endpoint, /) -> Connection:
        ours, theirs = memory_connection_pair()
        ours.alpn = alpn[len(peers)]
        ours.secure = True
        peers.append(Peer(theirs))
        return ours

    endpoint = Endpoint(("a", 1), tls=TlsClient("a.test"))
    async with trio.open_nursery() as nursery:
        client = meshcore.Http().layer(connect).new_service(endpoint, nursery)
        assert isinstance(client, EndpointClient)
        await client.ready()
        assert client.statistics().idle == 1  # type: ignore[attr-defined]
        peers[0].connection.reset()
        # The next connection negotiates something else: whoever asked for it may try again, and does so right.
        with pytest.raises(ConnectError, match="speaks HTTP/2 now") as caught:
            await client.ready()
        assert caught.value.retryable
        nursery.start_soon(client.ready)
        await settle()
        await peers[1].expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        nursery.cancel_scope.cancel()


class Either:
    """A ``Connect`` to an upstream that takes both versions, or only HTTP/1, and says which it was sent."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.speaks_http2 = False
        self.speaks_http1 = True
        self.answers = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.connected = 0

    async def connect(self, _: Endpoint, /) -> Connection:
        self.connected += 1
        here, there = memory_connection_pair()
        self.nursery.start_soon(self.serve, there)
        return here

    async def serve(self, connection: Connection) -> None:
        data = await connection.receive_some()
        connection.unread(data)
        connection.protocol = "h2" if data.startswith(b"PRI ") else "http/1"
        if connection.protocol == "h2" and not self.speaks_http2:
            if self.answers:
                await connection.send_all(self.answers)
            connection.close()
            return
        if connection.protocol == "http/1" and not self.speaks_http1:
            connection.close()
            return

        async def version(request: Request) -> Response:
            body = b"%d %b" % (request.version, await read_all(request.body))
            return Response(200, body=meshcore.Full(body))

        serve = serve_http2 if connection.protocol == "h2" else serve_http1
        await serve(connection, version, ServerOptions())


async def sent(client: HttpService, body: bytes = b"") -> bytes:
    """Sends a request that came by HTTP/2; what the upstream saw."""
    request = Request(b"POST", b"http", b"a.test", b"/", body=meshcore.Full(body), version=20)
    return await read_all((await client(request)).body)


@pytest.mark.parametrize("answers", [Either(None).answers, b"", b"\x00"])  # type: ignore[arg-type]
async def test_an_endpoint_that_does_not_speak_http2_is_sent_http1(nursery: trio.Nursery, answers: bytes) -> None:
    upstream = Either(nursery)
    upstream.answers = answers
    client = meshcore.Http().layer(upstream.connect).new_service(Endpoint(("10.0.0.7", 80)), nursery)
    assert b"11 whole" == await sent(client, b"whole")
    assert 2 == upstream.connected
    # It is remembered, and the connection kept.
    assert b"11 " == await sent(client)
    assert 2 == upstream.connected


async def test_several_first_requests_find_out_together(nursery: trio.Nursery) -> None:
    upstream = Either(nursery)
    client = meshcore.Http().layer(upstream.connect).new_service(Endpoint(("10.0.0.7", 80)), nursery)
    answers: list[bytes] = []

    async def send() -> None:
        answers.append(await sent(client))

    async with trio.open_nursery() as clients:
        for _ in range(3):
            clients.start_soon(send)
    assert [b"11 "] * 3 == answers
    assert 4 == upstream.connected


async def test_an_endpoint_is_asked_for_http2_again_after_a_while(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    upstream = Either(nursery)
    client = meshcore.Http().layer(upstream.connect).new_service(Endpoint(("10.0.0.7", 80)), nursery)
    assert b"11 " == await sent(client)
    upstream.speaks_http2 = True
    assert b"11 " == await sent(client)
    await trio.sleep(301)
    assert b"20 again" == await sent(client, b"again")


async def test_an_endpoint_is_asked_for_http2_again_when_http1_fails(nursery: trio.Nursery) -> None:
    upstream = Either(nursery)
    client = meshcore.Http().layer(upstream.connect).new_service(Endpoint(("10.0.0.7", 80)), nursery)
    upstream.speaks_http1 = False
    with pytest.raises(ConnectionLost):
        await sent(client)
    upstream.speaks_http2 = True
    assert b"20 " == await sent(client)


async def test_an_endpoint_that_cannot_be_connected_is_not_taken_for_one_of_http1(nursery: trio.Nursery) -> None:
    upstream = Either(nursery)
    upstream.speaks_http2 = True
    refuse = True

    async def connect(endpoint: Endpoint) -> Connection:
        if refuse:
            raise ConnectError("refused")
        return await upstream.connect(endpoint)

    client = meshcore.Http().layer(connect).new_service(Endpoint(("10.0.0.7", 80)), nursery)
    with pytest.raises(ConnectError):
        await sent(client)
    refuse = False
    assert b"20 " == await sent(client)
    assert b"20 " == await sent(client)
    assert 1 == upstream.connected
