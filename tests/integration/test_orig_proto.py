"""HTTP/1 between two proxies of the mesh: over one HTTP/2 connection, and nobody at either end can tell."""

from __future__ import annotations

import base64

import attrs
import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from meshcore.codec import events
from meshcore.http.forward import accept_websocket
from meshcore.transport.target import TlsClient
from tests.http1_peers import Peer, settle
from tests.mesh_pair import INBOUND, mesh_pair
from tests.peers.codec_peer import CodecPeer

pytestmark = pytest.mark.usefixtures("engine")

ID = b"l5d-client-id: web.shop\r\n"


@pytest.mark.parity("D-24", "D-25", "X-25")
async def test_an_http_1_request_crosses_by_http_2_and_says_what_it_was() -> None:
    async with mesh_pair() as mesh:
        await mesh.pass_through(
            b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nConnection: x-mine\r\nX-Mine: 1\r\nX-One: 1\r\n\r\n",
            b"GET /a?b=c HTTP/1.1\r\nhost: a.test\r\nx-one: 1\r\n" + ID + b"\r\n",
            b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello",
        )
        assert [(20, [(b"x-one", b"1"), (b"l5d-orig-proto", b"HTTP/1.1")])] == mesh.wire.seen
        assert [[(b"server", b"x"), (b"content-length", b"5"), (b"l5d-orig-proto", b"HTTP/1.1")]] == mesh.wire.answers
        assert ["h2"] == [connection.protocol for connection in mesh.between]


@pytest.mark.parity("D-24")
async def test_many_clients_share_one_connection_to_the_endpoint() -> None:
    async with mesh_pair() as mesh:
        clients = [mesh.client() for _ in range(40)]
        for number, client in enumerate(clients):
            await client.send(b"GET /%d HTTP/1.1\r\nhost: a.test\r\n\r\n" % number)
        # All are on their way at once, and the application has a connection for each.
        applications = [await mesh.application(number) for number in range(40)]
        for application in reversed(applications):
            path = (await application.head()).split()[1]
            await application.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))
        for number, client in enumerate(clients):
            path = b"/%d" % number
            await client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))
        assert 1 == len(mesh.between)


@pytest.mark.parity("D-26", "D-25", "U-04")
@pytest.mark.parametrize(
    ("request_", "forwarded", "mark"),
    [
        (
            b"GET http://a.test/x HTTP/1.1\r\nhost: a.test\r\n\r\n",
            b"GET http://a.test/x HTTP/1.1\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.1; absolute-form",
        ),
        (b"GET /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.0\r\n" + ID + b"\r\n", b"HTTP/1.0"),
        (
            b"GET /x HTTP/1.0\r\nhost: a.test\r\n\r\n",
            b"GET /x HTTP/1.0\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.0",
        ),
        (
            b"GET http://a.test/x HTTP/1.0\r\n\r\n",
            b"GET http://a.test/x HTTP/1.0\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.0; absolute-form",
        ),
        (
            b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.1",
        ),
        (
            b"OPTIONS http://a.test HTTP/1.1\r\nhost: a.test\r\n\r\n",
            b"OPTIONS http://a.test HTTP/1.1\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.1; absolute-form",
        ),
    ],
    ids=["absolute-form", "1.0", "1.0-host", "1.0-absolute-form", "asterisk", "absolute-asterisk"],
)
async def test_version_and_form_are_restored(request_: bytes, forwarded: bytes, mark: bytes) -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(request_)
        application = await mesh.application()
        await application.expect(forwarded)
        await application.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert b" 204 No Content\r\n" in await client.head()
        assert mark == dict(mesh.wire.seen[0][1])[b"l5d-orig-proto"]


@pytest.mark.parity("D-26")
async def test_a_host_that_differs_from_the_target_is_replaced_by_it() -> None:
    async with mesh_pair() as mesh:
        await mesh.pass_through(
            b"GET http://a.test/ HTTP/1.1\r\nhost: b.test\r\n\r\n",
            b"GET http://a.test/ HTTP/1.1\r\nhost: a.test\r\n" + ID + b"\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        )


@pytest.mark.parity("D-26")
async def test_an_http_1_0_application_is_told_apart() -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        application = await mesh.application()
        await application.head()
        await application.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        await application.eof()
        assert await client.head() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.expect(b"d\r\nuntil the end\r\n0\r\n\r\n")
        assert (b"l5d-orig-proto", b"HTTP/1.0") in mesh.wire.answers[0]


@pytest.mark.parity("D-26")
async def test_a_body_that_ends_with_the_connection_passes_whole_to_an_http_1_0_client() -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        application = await mesh.application()
        await application.expect(b"GET / HTTP/1.0\r\n" + ID + b"\r\n")
        await application.send(b"HTTP/1.0 200 OK\r\n\r\nuntil ")
        await client.head()
        await application.send(b"the end")
        await application.eof()
        assert b"until the end" == await client.rest()


@pytest.mark.parity("D-26")
@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 5\r\n%b\r\nhello",
        b"transfer-encoding: chunked\r\n%b\r\n5\r\nhello\r\n0\r\n\r\n",
        b"content-length: 0\r\n%b\r\n",
        b"te: trailers\r\ntransfer-encoding: chunked\r\n%b\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    ],
    ids=["length", "chunked", "zero", "trailers"],
)
async def test_a_bodys_framing_is_the_same_at_both_ends(body: bytes) -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\n" + body % b"")
        application = await mesh.application()
        head = await application.head()
        assert ID in head
        framing, _, content = (body % b"").partition(b"\r\n\r\n")
        assert set(framing.split(b"\r\n")) <= set(head.split(b"\r\n"))
        await application.expect(content)
        answer = (body % b"").replace(b"te: trailers\r\n", b"")
        await application.send(b"HTTP/1.1 200 OK\r\n" + answer)
        if b"x-sum" in body:
            assert b"x-sum: 1" in await _until(client, b"0\r\nx-sum: 1\r\n\r\n")
        else:
            await client.expect(b"HTTP/1.1 200 OK\r\n" + answer)


async def _until(peer: Peer, last: bytes) -> bytes:
    while not peer.buffer.endswith(last):
        peer.buffer += await peer.more()
    return peer.buffer


@pytest.mark.parity("D-26")
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"POST", b"PUT", b"PATCH", b"HEAD"])
async def test_a_request_without_a_body_gets_no_framing(method: bytes) -> None:
    async with mesh_pair() as mesh:
        await mesh.pass_through(
            b"%b / HTTP/1.1\r\nhost: a.test\r\n\r\n" % method,
            b"%b / HTTP/1.1\r\nhost: a.test\r\n%b\r\n" % (method, ID),
            b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
        )


async def test_a_100_continue_and_early_hints_come_back() -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        application = await mesh.application()
        assert b"expect: 100-continue\r\n" in await application.head()
        await application.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(b"hello")
        await application.expect(b"hello")
        await application.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        await client.expect(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parity("D-26", "X-24", "X-26")
async def test_no_field_of_the_proxies_leaks_at_either_end() -> None:
    async with mesh_pair() as mesh:
        await mesh.pass_through(
            b"GET / HTTP/1.1\r\nhost: a.test\r\nl5d-orig-proto: HTTP/1.0; absolute-form\r\nl5d-client-id: root.shop\r\n"
            b"l5d-dst-override: b.test\r\nl5d_client_id: root.shop\r\nx-one: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a.test\r\nx-one: 1\r\n" + ID + b"\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nl5d-orig-proto: HTTP/1.0\r\nl5d-proxy-error: x\r\n"
            b"l5d-proxy-connection: close\r\nx-meshcore-error: internal\r\nx-two: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-two: 2\r\n\r\n",
        )


@pytest.mark.parity("D-27", "U-07")
async def test_a_websocket_goes_by_http_1_on_a_connection_of_its_own() -> None:
    key = base64.b64encode(bytes(16))
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(
            b"GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-key: " + key + b"\r\nsec-websocket-version: 13\r\n\r\n"
        )
        application = await mesh.application()
        head = await application.head()
        assert head.startswith(b"GET /chat HTTP/1.1\r\n")
        assert b"upgrade: websocket\r\n" in head
        assert b"orig-proto" not in head
        assert [11] == [version for version, _ in mesh.wire.seen]
        accept = accept_websocket(key)
        await application.send(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: " + accept + b"\r\n\r\n"
        )
        assert (await client.head()).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        await client.send(b"ping")
        await application.expect(b"ping")
        await application.send(b"pong")
        await client.expect(b"pong")
        await mesh.client().send(b"GET /other HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await (await mesh.application(1)).head()
        assert ["http/1", "h2"] == [connection.protocol for connection in mesh.between]


@pytest.mark.parity("D-28", "E-07")
async def test_an_application_that_breaks_is_a_502_at_the_far_end_and_the_shared_connection_stays() -> None:
    async with mesh_pair() as mesh:
        client = mesh.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\n\r\nx")
        application = await mesh.application()
        await application.head()
        application.close()
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        # The far proxy's words are not passed on, its code is; and only the application's own connection would close.
        assert b"l5d-proxy" not in head
        assert b"x-meshcore-error: connection-lost\r\n" in head
        fields = dict(mesh.wire.seen[0][1])
        assert b"HTTP/1.1" == fields[b"l5d-orig-proto"]
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await (await mesh.application(1)).head()
        assert 1 == len(mesh.between)


@pytest.mark.parity("D-28", "X-69", "U-20")
async def test_a_reset_of_a_translated_request_is_a_502() -> None:
    async with mesh_pair(inbound=False) as mesh:
        client = mesh.client()
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\n\r\nx")
        peer = CodecPeer(await mesh.inbound(), server=True)
        request = await peer.wait_for(events.RequestReceived)
        assert (b"l5d-orig-proto", b"HTTP/1.1") in request.headers
        peer.codec.reset_stream(request.stream_id, 8)
        await peer.flush()
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert b"x-meshcore-error: stream-reset\r\n" in head


@pytest.mark.parity("D-28")
async def test_a_reset_after_the_answer_has_begun_cuts_the_answer_off_visibly() -> None:
    async with mesh_pair(inbound=False) as mesh:
        client = mesh.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        peer = CodecPeer(await mesh.inbound(), server=True)
        request = await peer.wait_for(events.RequestReceived)
        peer.codec.send_response(request.stream_id, 200, [(b"l5d-orig-proto", b"HTTP/1.1")], end_stream=False)
        peer.codec.send_data(request.stream_id, b"half", end_stream=False)
        await peer.flush()
        assert await client.head() == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        peer.codec.reset_stream(request.stream_id, 2)
        await peer.flush()
        assert b"4\r\nhalf\r\n" == await client.rest()


@pytest.mark.parity("D-08", "D-24")
async def test_a_peer_that_does_not_speak_http_2_never_sees_a_translated_request_as_http_1() -> None:
    async with mesh_pair(inbound=False) as mesh:
        client = mesh.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        peer = Peer(await mesh.inbound())
        assert (await peer.more()).startswith(b"PRI * HTTP/2.0")
        await peer.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert 1 == len(mesh.between)


@pytest.mark.parity("D-26")
@pytest.mark.parametrize(
    "values",
    [[b"HTTP/2.0"], [b""], [b"http/1.1"], [b"HTTP/1.1;absolute-form"], [b"HTTP/1.1", b"HTTP/1.1"]],
    ids=["2.0", "empty", "case", "space", "twice"],
)
async def test_a_mark_that_means_nothing_is_refused(values: list[bytes]) -> None:
    async with mesh_pair() as mesh:
        peer = CodecPeer(mesh.stranger())
        answer = await peer.ask(b"GET", b"/", [(b"l5d-orig-proto", value) for value in values])
        assert 400 == answer.status
        assert [] == mesh.applications


@pytest.mark.parity("D-26", "E-06", "U-07")
async def test_native_http_2_is_neither_marked_nor_translated() -> None:
    async with mesh_pair(identity=None) as mesh:
        peer = CodecPeer(mesh.stranger())
        stream = peer.send()
        await peer.flush()
        application = await mesh.application()
        await application.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await application.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nl5d-orig-proto: HTTP/1.0\r\n\r\n")
        answer = await peer.answer(stream)
        assert (200, [(b"content-length", b"0")]) == (answer.status, answer.headers)


@pytest.mark.parity("D-27")
async def test_a_mark_on_http_1_means_nothing() -> None:
    async with mesh_pair(identity=None) as mesh:
        peer = Peer(mesh.stranger())
        await peer.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nl5d-orig-proto: HTTP/1.0; absolute-form\r\n\r\n")
        application = await mesh.application()
        await application.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await application.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await peer.expect(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parity("E-06", "U-04")
@pytest.mark.parametrize("identity", ["web.shop", None])
async def test_the_inbound_side_tells_what_went_wrong_to_clients_with_an_identity_alone(identity: str | None) -> None:
    async with mesh_pair(identity=identity) as mesh:
        peer = CodecPeer(mesh.stranger())
        stream = peer.send(headers=[(b"l5d-orig-proto", b"HTTP/1.1")])
        await peer.flush()
        application = await mesh.application()
        await application.head()
        application.close()
        answer = await peer.answer(stream)
        told = {name for name, _ in answer.headers} - {b"content-length"}
        assert 502 == answer.status
        expected = {b"l5d-proxy-error", b"l5d-proxy-connection", b"x-meshcore-error"} if identity else set()
        assert expected == told


@pytest.mark.parity("E-04", "E-06", "U-04")
@pytest.mark.parametrize("identity", ["web.shop", None])
async def test_a_grpc_client_is_answered_by_status_and_told_why_with_an_identity_alone(identity: str | None) -> None:
    async with mesh_pair(identity=identity) as mesh:
        peer = CodecPeer(mesh.stranger())
        stream = peer.send(b"POST", headers=[(b"content-type", b"application/grpc")])
        await peer.flush()
        application = await mesh.application()
        await application.head()
        application.close()
        answer = await peer.answer(stream)
        told = {name for name, _ in answer.headers} - {b"content-length"}
        assert (200, b"14") == (answer.status, dict(answer.headers)[b"grpc-status"])
        why = {b"grpc-message", b"l5d-proxy-error", b"l5d-proxy-connection", b"x-meshcore-error"}
        assert {b"content-type", b"grpc-status"} | (why if identity else set()) == told


@pytest.mark.parity("D-24", "U-07")
async def test_an_endpoint_that_is_no_mesh_proxy_gets_http_1_without_a_mark() -> None:
    async with mesh_pair(attrs.evolve(INBOUND, mesh_proxy=False), inbound=False) as mesh:
        client = mesh.client()
        await client.send(b"GET / HTTP/1.1\r\nhost: a.test\r\nl5d-orig-proto: HTTP/1.0\r\n\r\n")
        peer = Peer(await mesh.inbound())
        await peer.expect(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nl5d-orig-proto: HTTP/1.0\r\n\r\n")
        await client.expect(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parity("D-08")
async def test_a_mesh_proxy_is_offered_no_version_by_alpn() -> None:
    secured = attrs.evolve(INBOUND, tls=TlsClient("web.shop", alpn=("transport.l5d.io/v1", "h2", "http/1.1")))
    async with mesh_pair(secured, inbound=False) as mesh:
        await mesh.client().send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        assert (await Peer(await mesh.inbound()).more()).startswith(b"PRI * HTTP/2.0")
        assert mesh.asked[0].tls is not None
        assert ("transport.l5d.io/v1",) == mesh.asked[0].tls.alpn


async def test_an_upload_is_held_back_by_an_application_that_does_not_read() -> None:
    sent = 0

    async def upload(client: Peer) -> None:
        nonlocal sent
        await client.send(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 6553600\r\n\r\n")
        for _ in range(100):
            await client.send(bytes(65_536))
            sent += 1

    async with mesh_pair() as mesh:
        client = mesh.client()
        mesh.nursery.start_soon(upload, client)
        application = await mesh.application()
        await settle()
        assert sent < 40
        await application.head()
        size = len(application.buffer)
        while size < 6_553_600:
            size += len(await application.more())
        await application.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")


async def test_a_client_that_hangs_up_stops_its_request_alone() -> None:
    async with mesh_pair() as mesh:
        gone, stays = mesh.client("socket"), mesh.client("socket")
        await gone.send(b"GET /gone HTTP/1.1\r\nhost: a.test\r\n\r\n")
        first = await mesh.application()
        await first.head()
        await stays.send(b"GET /stays HTTP/1.1\r\nhost: a.test\r\n\r\n")
        second = await mesh.application(1)
        await second.head()
        gone.close()
        assert b"" == await first.rest()
        await second.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await stays.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert 1 == len(mesh.between)


tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
values = printable.map(lambda text: text.strip().encode())
fields = st.lists(st.tuples(tokens.map(lambda name: b"x-" + name), values), max_size=6)
paths = st.text("abc/?=&%.~_-", max_size=20).map(lambda text: b"/" + text.replace("%", "%25").encode())


@hypothesis.given(
    version=st.sampled_from([b"1.0", b"1.1"]),
    absolute=st.booleans(),
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"FOO"]),
    path=paths,
    sent=fields,
    body=st.none() | st.binary(max_size=2_000),
    answered=fields,
    answer=st.binary(max_size=2_000),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_arrives_by_way_of_two_proxies_is_what_was_sent(
    version: bytes,
    absolute: bool,
    method: bytes,
    path: bytes,
    sent: list[tuple[bytes, bytes]],
    body: bytes | None,
    answered: list[tuple[bytes, bytes]],
    answer: bytes,
) -> None:
    def lines(some: list[tuple[bytes, bytes]]) -> bytes:
        return b"".join(b"%b: %b\r\n" % field for field in some)

    async def main() -> None:
        async with mesh_pair() as mesh:
            client = mesh.client()
            target = b"http://a.test" + path if absolute else path
            start = b"%b %b HTTP/%b\r\nhost: a.test\r\n" % (method, target, version)
            length = b"" if body is None else b"content-length: %d\r\n" % len(body)
            await client.send(start + lines(sent) + length + b"\r\n" + (body or b""))
            application = await mesh.application()
            await application.expect(start + lines(sent) + length + ID + b"\r\n" + (body or b""))
            rest = lines(answered) + b"content-length: %d\r\n" % len(answer)
            await application.send(b"HTTP/1.1 200 OK\r\n" + rest + b"\r\n" + answer)
            head = await client.head()
            assert rest in head
            assert b"\nl5d-" not in head
            await client.expect(answer)
            assert [20] == [wire for wire, _ in mesh.wire.seen]

    trio.run(main)
