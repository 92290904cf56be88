"""Answers that come before their request has ended, where the two sides speak different versions."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from meshcore.codec import events
from meshcore.codec.limits import H2Limits
from meshcore.transport.target import Endpoint
from tests.http1_peers import Peer, Proxy, proxying
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")

H2 = Endpoint(("10.0.0.7", 8080), protocol="h2")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def upstream_of(proxy: Proxy, window: int = 65_535) -> CodecPeer:
    """The upstream's end of the first connection, whose SETTINGS have been seen."""
    peer = CodecPeer(
        (await proxy.upstream()).connection, server=True, limits=H2Limits(stream_window=window), acknowledge=False
    )
    await peer.flush()
    return peer


async def request_on(peer: CodecPeer) -> events.RequestReceived:
    """The next request's head."""
    while True:
        for event in await peer.read():
            if isinstance(event, events.RequestReceived):
                return event


async def answer(peer: CodecPeer, stream_id: int) -> None:
    """A complete answer, whatever the request still has to say."""
    peer.codec.send_response(stream_id, 200, [(b"content-length", b"2")], end_stream=False)
    peer.codec.send_data(stream_id, b"ok", end_stream=True)
    await peer.flush()


async def warmed_up(proxy: Proxy, client: Peer, window: int = 65_535) -> CodecPeer:
    """The upstream's end after a first exchange, so that its window is known."""
    await client.send(b"GET /1 HTTP/1.1\r\nhost: a.test\r\n\r\n")
    peer = await upstream_of(proxy, window)
    await answer(peer, (await request_on(peer)).stream_id)
    await client.expect(OK)
    return peer


@pytest.mark.parametrize("kind", ["socket", "memory"])
async def test_an_upload_that_an_early_answer_left_behind_never_takes_bytes_of_the_next_request(kind: str) -> None:
    async with proxying(kind, endpoint=H2) as proxy:
        client = proxy.client()
        peer = await warmed_up(proxy, client, window=1_000)
        await client.send(b"POST /2 HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n")
        await client.send(b"7d0\r\n" + b"x" * 2_000 + b"\r\n")
        posted = (await request_on(peer)).stream_id
        await answer(peer, posted)
        await client.expect(OK)
        # The upload waits for the upstream's window; what is left of its body is read by the connection.
        await client.send(b"2\r\nyy\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nhost: a.test\r\n\r\n")
        asked = await request_on(peer)
        assert (b"GET", b"/3") == (asked.method, asked.path)
        peer.codec.acknowledge(posted, 1_000)
        await peer.flush()
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"GET /4 HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await answer(peer, asked.stream_id)
        await client.expect(OK)
        asked = await request_on(peer)
        assert (b"GET", b"/4") == (asked.method, asked.path)
        await answer(peer, asked.stream_id)
        await client.expect(OK)
        assert not peer.answers[posted].ended
        assert peer.answers[posted].reset is not None


@pytest.mark.parametrize("kind", ["socket", "memory"])
async def test_an_upload_that_goes_on_after_its_answer_is_finished_and_the_connection_kept(kind: str) -> None:
    async with proxying(kind, endpoint=H2) as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6\r\n\r\nabc")
        peer = await upstream_of(proxy)
        posted = (await request_on(peer)).stream_id
        await answer(peer, posted)
        await client.expect(OK)
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"def")
        await (peer.answer(posted))
        assert b"abcdef" == peer.answers[posted].body
        assert peer.answers[posted].reset is None
        await client.send(b"GET /2 HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await answer(peer, (await request_on(peer)).stream_id)
        await client.expect(OK)


async def test_an_upload_that_does_not_go_on_after_its_answer_is_given_up(autojump_clock: object) -> None:
    async with proxying("memory", endpoint=H2) as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6\r\n\r\nabc")
        peer = await upstream_of(proxy)
        posted = (await request_on(peer)).stream_id
        await answer(peer, posted)
        await client.expect(OK)
        await client.expect_end()
        while peer.answers[posted].reset is None:
            await peer.read()


async def test_a_body_sent_without_a_100_goes_on_after_the_head_of_the_answer(autojump_clock: object) -> None:
    async with proxying("memory") as proxy:
        client = proxy.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n")
        upstream = await proxy.upstream()
        await upstream.head()
        # The upstream knows nothing of expectations: after a while the body is sent all the same.
        await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(b"abc")
        await upstream.expect(b"abc")
        await upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await client.send(b"def")
        await upstream.expect(b"def")
        await upstream.send(b"def")
        await client.expect(b"def")
