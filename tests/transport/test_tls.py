"""TLS on sockets and over memory streams, both ends ours: what passes, how it ends, and what is refused."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from meshcore.errors import ConfigError, ConnectionLost, ConnectTimeout, TlsError
from meshcore.layers.connect_timeout import ConnectTimeout as ConnectTimeoutLayer
from meshcore.layers.tls import Tls
from meshcore.transport.connection import Connection
from meshcore.transport.identity import ClientContexts, ServerTls, client_tls, server_context, server_tls
from meshcore.transport.socket import SocketConnection
from meshcore.transport.stream import StreamConnection
from meshcore.transport.sweep import Sweeper
from meshcore.transport.target import Endpoint, TlsClient
from meshcore.transport.tls import TlsConnection, TlsSocketConnection, TlsStreamConnection

MIB = 1 << 20


_sockets: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_sockets() -> Iterator[None]:
    yield
    while _sockets:
        _sockets.pop().close()


def socket_pair() -> tuple[Connection, Connection]:
    a, b = socket.socketpair()
    _sockets.extend((a, b))
    return SocketConnection(a, ("10.0.0.1", 1), ("10.0.0.2", 2)), SocketConnection(b, ("10.0.0.2", 2), ("10.0.0.1", 1))


def stream_pair() -> tuple[Connection, Connection]:
    a, b = trio.testing.memory_stream_pair()
    return StreamConnection(a), StreamConnection(b)


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
def pair(request: pytest.FixtureRequest) -> tuple[Callable[[], tuple[Connection, Connection]]]:
    return request.param


@pytest.fixture
def settings(pki: Any) -> ServerTls:
    cert, key = pki.issue("localhost", "127.0.0.1")
    return ServerTls(cert, key)


def trusting(pki: Any, name: str = "localhost", **more: Any) -> TlsClient:
    return TlsClient(name, trust_anchors=pki.ca_file.read_bytes(), **more)


async def shake(
    pair: Callable[[], tuple[Connection, Connection]], context: SSL.Context, client: TlsClient
) -> tuple[TlsConnection, TlsConnection]:
    """Both ends after their handshakes: client, server."""
    a, b = pair()
    ends: dict[str, TlsConnection] = {}

    async def accept() -> None:
        ends["server"] = await server_tls(b, context)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        ends["client"] = await client_tls(a, client, ClientContexts())
    return ends["client"], ends["server"]


async def refused(
    pair: Callable[[], tuple[Connection, Connection]], context: SSL.Context, client: TlsClient
) -> tuple[str, str]:
    """What each end says of a handshake that fails; both ends are closed."""
    a, b = pair()
    said: list[str] = ["", ""]

    async def accept() -> None:
        try:
            secured = await server_tls(b, context)
            await secured.receive_some()
        except (TlsError, ConnectionLost) as error:
            said[1] = str(error)
            b.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        with pytest.raises(TlsError) as caught:
            await client_tls(a, client, ClientContexts())
        said[0] = str(caught.value)
    assert a.closed
    assert b.closed
    return said[0], said[1]


async def both(*tasks: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)


async def read_until_end(connection: Connection) -> bytes:
    parts = []
    while data := await connection.receive_some():
        parts.append(data)
    return b"".join(parts)


# ----- what passes -----


async def test_a_handshake_negotiates_alpn_and_verifies_the_name(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))

    assert ("h2", "h2") == (client.alpn, server.alpn)
    assert ("localhost", None) == (client.identity, server.identity)
    assert client.secure
    assert server.secure
    assert client.plain_socket() is None
    client.close()
    server.close()


async def test_a_plain_socket_is_used_directly_and_anything_else_through_memory(pki: Any, settings: ServerTls) -> None:
    kinds = [type((await shake(pair, settings.context(), trusting(pki)))[0]) for pair in (socket_pair, stream_pair)]

    assert [TlsSocketConnection, TlsStreamConnection] == kinds


async def test_the_servers_order_of_preference_decides(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki, alpn=("http/1.1", "h2")))

    assert ("h2", "h2") == (client.alpn, server.alpn)


async def test_a_client_without_alpn_is_served_without(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki, alpn=()))

    assert (None, None) == (client.alpn, server.alpn)


async def test_megabytes_pass_both_ways_at_once(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))
    up, down = bytes(range(256)) * (3 * MIB // 256), b"\0" * (2 * MIB)
    got: dict[str, bytes] = {}

    async def send(connection: Connection, data: bytes) -> None:
        await connection.send_all(data)
        await connection.send_eof()

    async def receive(name: str, connection: Connection) -> None:
        got[name] = await read_until_end(connection)

    await both(
        lambda: send(client, up),
        lambda: send(server, down),
        lambda: receive("server", server),
        lambda: receive("client", client),
    )

    assert up == got["server"]
    assert down == got["client"]
    assert (len(up), len(down)) == (client.bytes_written, client.bytes_read)
    assert (len(down), len(up)) == (server.bytes_written, server.bytes_read)


async def test_the_socket_under_it_knows_what_moved_and_what_broke(pki: Any, settings: ServerTls) -> None:
    a, b = socket_pair()
    ends: list[TlsConnection] = []

    async def accept() -> None:
        ends.append(await server_tls(b, settings.context()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        client = await client_tls(a, trusting(pki), ClientContexts())
    await client.send_all(b"x" * 100_000)
    assert 100_000 == sum([len(await ends[0].receive_some()) for _ in range(2)])
    assert (100_000, 100_000) == (a.bytes_written, b.bytes_read)
    client.reset()
    with pytest.raises(ConnectionLost):
        while True:
            await ends[0].send_all(b"x")
    assert isinstance(b.error, BrokenPipeError)
    ends[0].close()


async def test_bytes_put_back_are_read_first(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))
    await client.send_all(b"world")
    server.unread(b"hello ")

    assert b"hello " == server.receive_nowait()
    assert b"world" == await server.receive_some()


async def test_a_small_read_leaves_the_rest_of_a_record_for_the_next(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))
    await client.send_all(b"0123456789")

    with trio.fail_after(60):
        assert [b"0123", b"4567", b"89"] == [await server.receive_some(4) for _ in range(3)]


async def test_a_half_closed_side_still_receives(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))
    await client.send_eof()
    assert b"" == await server.receive_some()
    await server.send_all(b"still here")
    await server.send_eof()

    assert b"still here" == await read_until_end(client)


async def test_reading_without_waiting_says_when_there_is_nothing(pki: Any, settings: ServerTls) -> None:
    client, server = await shake(socket_pair, settings.context(), trusting(pki))
    with pytest.raises(trio.WouldBlock):
        server.receive_nowait()
    assert 3 == client.send_nowait(b"abc")

    assert b"abc" == server.receive_nowait()


async def test_writing_without_waiting_takes_what_fits_and_goes_on_from_there(pki: Any, settings: ServerTls) -> None:
    client, server = await shake(socket_pair, settings.context(), trusting(pki))
    data = bytes(range(256)) * (4 * MIB // 256)
    sent = client.send_nowait(data)
    assert 0 < sent < len(data)
    got = []

    async def rest() -> None:
        await client.send_all(data[sent:])
        await client.send_eof()

    async def receive() -> None:
        got.append(await read_until_end(server))

    await both(rest, receive)
    assert data == got[0]


async def test_over_streams_nothing_is_taken_without_waiting(pki: Any, settings: ServerTls) -> None:
    client, _ = await shake(stream_pair, settings.context(), trusting(pki))

    assert 0 == client.send_nowait(b"abc")


# ----- how it ends -----


async def test_close_says_close_notify(pki: Any, settings: ServerTls) -> None:
    client, server = await shake(socket_pair, settings.context(), trusting(pki))
    await client.send_all(b"last")
    client.close()
    client.close()

    assert b"last" == await read_until_end(server)


async def test_an_end_without_close_notify_is_a_loss(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, server = await shake(pair, settings.context(), trusting(pki))
    await client.send_all(b"cut")
    client.reset()

    assert b"cut" == await server.receive_some()
    with pytest.raises(ConnectionLost, match=r"closed without close_notify|reset"):
        await server.receive_some()
    assert server.error is not None
    server.close()


async def test_records_before_close_notify_are_read_and_then_the_end(pki: Any, settings: ServerTls) -> None:
    # Everything is in the socket already: a full record, another, close_notify and no FIN.
    client, server = await shake(socket_pair, settings.context(), trusting(pki))
    await client.send_all(b"x" * 32_768)
    await client.send_eof()

    with trio.fail_after(60):
        assert 32_768 == len(await read_until_end(server))


async def test_closing_wakes_who_reads(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, _ = await shake(pair, settings.context(), trusting(pki))

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()

    async def close() -> None:
        await trio.testing.wait_all_tasks_blocked()
        client.close()

    await both(read, close)
    with pytest.raises(trio.ClosedResourceError):
        await client.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"x")


@pytest.mark.parametrize("polled", [False, True])
async def test_who_is_woken_by_closing_never_reads_from_the_descriptors_next_owner(
    pki: Any, settings: ServerTls, polled: bool
) -> None:
    client, _ = await shake(socket_pair, settings.context(), trusting(pki))
    sweeper = Sweeper()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        if polled:
            client.poll_with(sweeper.poller)
        ended = trio.Event()

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await client.receive_some()
            ended.set()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked(0.01)
        number = client.fileno()
        client.close()
        # The number is given to the next socket, which has bytes for somebody else.
        a, b = socket.socketpair()
        _sockets.extend((a, b))
        assert number in (a.fileno(), b.fileno())
        for each in (a, b):
            each.setblocking(False)
            each.send(b"not yours")
        await ended.wait()
        assert [b"not yours"] * 2 == [a.recv(100), b.recv(100)]
        nursery.cancel_scope.cancel()


async def test_garbage_instead_of_records_breaks_the_connection(pki: Any, settings: ServerTls) -> None:
    client, server = await shake(socket_pair, settings.context(), trusting(pki))
    raw = client._inner  # type: ignore[attr-defined]
    await raw.send_all(b"\x17\x03\x03\x00\x20" + b"g" * 32)

    with pytest.raises(ConnectionLost):
        await server.receive_some()


# ----- what is refused -----


async def test_a_name_that_does_not_match_is_refused_and_both_are_named(
    pair: Any, pki: Any, settings: ServerTls
) -> None:
    said, _ = await refused(pair, settings.context(), trusting(pki, "payments.shop"))

    assert "certificate does not match TLS identity: expected payments.shop, found localhost, 127.0.0.1" == said


async def test_an_address_is_verified_as_an_address(pair: Any, pki: Any, settings: ServerTls) -> None:
    client, _ = await shake(pair, settings.context(), trusting(pki, "127.0.0.1"))
    assert "127.0.0.1" == client.identity

    said, _ = await refused(pair, settings.context(), trusting(pki, "127.0.0.2"))
    assert "certificate does not match TLS identity: expected 127.0.0.2, found localhost, 127.0.0.1" == said


async def test_an_identity_is_required_instead_of_the_name(pair: Any, pki: Any, settings: ServerTls) -> None:
    said, _ = await refused(pair, settings.context(), trusting(pki, identity="orders.shop"))

    assert "expected orders.shop" in said


async def test_an_unknown_issuer_is_refused(pair: Any, settings: ServerTls) -> None:
    other = trustme.CA()

    said, heard = await refused(pair, settings.context(), TlsClient("localhost", trust_anchors=other.cert_pem.bytes()))

    assert said.startswith("certificate is not trusted: unknown issuer (")
    assert "alert" in heard


async def test_the_systems_trust_does_not_know_a_test_authority(pair: Any, settings: ServerTls) -> None:
    said, _ = await refused(pair, settings.context(), TlsClient("localhost"))

    assert said.startswith("certificate is not trusted")


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (-20, -10, "certificate has expired: it is valid from 1999-12-12T00:00:00Z to 1999-12-22T00:00:00Z"),
        (36_500, 36_510, "certificate is not valid yet: it is valid from 2099-12-07T00:00:00Z to 2099-12-17T00:00:00Z"),
    ],
)
async def test_a_certificate_out_of_its_time_is_refused_with_its_times(
    pair: Any, since: int, until: int, expected: str
) -> None:
    start = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    authority = Authority()
    cert, key = authority.issue(
        [x509.DNSName("localhost")], start + datetime.timedelta(days=since), start + datetime.timedelta(days=until)
    )

    said, _ = await refused(
        pair, server_context(cert, key), TlsClient("localhost", trust_anchors=authority.certificate)
    )

    assert expected == said


@pytest.mark.parametrize("name", ["localhost\0.evil.example", "local host", ""])
async def test_a_malformed_name_refuses_the_whole_certificate(pair: Any, name: str) -> None:
    authority = Authority()
    cert, key = authority.issue([x509.DNSName("localhost"), x509.DNSName(name)])

    said, _ = await refused(
        pair, server_context(cert, key), TlsClient("localhost", trust_anchors=authority.certificate)
    )

    assert said == f"certificate has a malformed name: {name!r}"


async def test_a_common_name_alone_is_no_name(pair: Any) -> None:
    authority = Authority()
    cert, key = authority.issue([])

    said, _ = await refused(
        pair, server_context(cert, key), TlsClient("localhost", trust_anchors=authority.certificate)
    )

    assert "certificate does not match TLS identity: expected localhost, found no name" == said


async def test_a_spiffe_identity_is_matched_exactly(pair: Any) -> None:
    authority = Authority()
    cert, key = authority.issue([x509.UniformResourceIdentifier("spiffe://shop.local/ns/shop/sa/orders")])
    context = server_context(cert, key)
    anchors = authority.certificate

    client, _ = await shake(
        pair,
        context,
        TlsClient("orders", trust_anchors=anchors, identity="spiffe://shop.local/ns/shop/sa/orders"),
    )
    assert "spiffe://shop.local/ns/shop/sa/orders" == client.identity
    said, _ = await refused(
        pair, context, TlsClient("orders", trust_anchors=anchors, identity="spiffe://shop.local/ns/shop/sa/order")
    )
    assert "expected spiffe://shop.local/ns/shop/sa/order, found spiffe://shop.local/ns/shop/sa/orders" in said


async def test_without_verification_anything_is_accepted_and_nobody_is_identified(pair: Any) -> None:
    authority = Authority()
    cert, key = authority.issue([x509.DNSName("elsewhere")])

    client, _ = await shake(pair, server_context(cert, key), TlsClient("localhost", verify=False))

    assert client.identity is None


async def test_a_callback_that_fails_refuses(
    pair: Any, pki: Any, settings: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken check")

    monkeypatch.setattr("meshcore.transport.identity.check_name", broken)

    said, _ = await refused(pair, settings.context(), trusting(pki))

    assert "broken check" == said


async def test_a_handshake_whose_callback_was_never_asked_is_refused(
    pair: Any, pki: Any, settings: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshcore.transport.identity.verify", lambda *_: True)

    said, _ = await refused(pair, settings.context(), trusting(pki))

    assert "certificate was not verified" == said


async def test_no_protocol_in_common_is_refused_and_harms_nobody_else(pki: Any, settings: ServerTls) -> None:
    context = settings.context()
    client, server = await shake(socket_pair, context, trusting(pki))
    said, heard = await refused(socket_pair, context, trusting(pki, alpn=("ftp",)))

    assert "no application protocol" in said
    assert "TLS handshake failed: no application protocol in common: the client offers ftp" == heard
    # OpenSSL keeps one list of errors for the thread: what the refusal left in it is not another's.
    with pytest.raises(trio.WouldBlock):
        server.receive_nowait()
    await client.send_all(b"unharmed")
    assert b"unharmed" == await server.receive_some()


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 64])
async def test_what_is_not_tls_is_refused(pair: Any, settings: ServerTls, first: bytes) -> None:
    a, b = pair()
    await a.send_all(first)

    with pytest.raises(TlsError, match="TLS handshake failed"):
        await server_tls(b, settings.context())
    assert b.closed


async def test_an_end_in_the_handshake_is_a_failed_handshake(pair: Any, pki: Any, settings: ServerTls) -> None:
    a, b = pair()
    a.close()
    with pytest.raises(TlsError, match="TLS handshake failed"):
        await server_tls(b, settings.context())

    a, b = pair()
    b.close()
    with pytest.raises(TlsError) as caught:
        await client_tls(a, trusting(pki), ClientContexts())
    assert caught.value.retryable


async def test_a_stalled_handshake_times_out(pair: Any, settings: ServerTls, autojump_clock: Any) -> None:
    _a, b = pair()

    with pytest.raises(TlsError, match=r"TLS handshake timed out after 10 s"):
        await server_tls(b, settings.context(), 10.0)
    assert b.closed
    assert 10.0 == trio.current_time()


async def test_old_versions_are_refused(settings: ServerTls, pki: Any) -> None:
    strict = ServerTls(settings.cert, settings.key, min_version="1.3").context()
    a, b = socket_pair()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(pki.ca_file)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def accept() -> None:
        with pytest.raises(TlsError, match="unsupported protocol"):
            await server_tls(b, strict)

    async def connect() -> None:
        with pytest.raises(ssl.SSLError):
            await trio.to_thread.run_sync(blocking_handshake, a, old)

    await both(accept, connect)


def blocking_handshake(connection: Connection, context: ssl.SSLContext, session: Any = None) -> Any:
    """By the standard library, the independent peer that is always there; returns its session."""
    raw = connection.socket  # type: ignore[attr-defined]
    raw.setblocking(True)
    with context.wrap_socket(raw, server_hostname="localhost", session=session) as secured:
        secured.sendall(b"ping")
        assert b"pong" == secured.recv(4)
        return secured.session, secured.session_reused


async def test_the_standard_librarys_client_is_served_and_never_resumes(settings: ServerTls, pki: Any) -> None:
    context = settings.context()
    client = ssl.create_default_context(cafile=str(pki.ca_file))
    client.set_alpn_protocols(["h2"])
    session = None
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        client.maximum_version = version
        session = None
        for _ in range(2):
            a, b = socket_pair()
            results: list[Any] = []

            async def accept(b: Connection = b) -> None:
                secured = await server_tls(b, context)
                assert b"ping" == await secured.receive_some()
                await secured.send_all(b"pong")
                secured.close()

            async def connect(a: Connection = a, session: Any = session, results: list[Any] = results) -> None:
                results.append(await trio.to_thread.run_sync(blocking_handshake, a, client, session))

            await both(accept, connect)
            session, reused = results[0]
            assert not reused


# ----- settings -----


def test_settings_that_cannot_work_say_why_and_never_show_the_key(tmp_path: Path, pki: Any) -> None:
    cert, key = pki.issue("localhost")
    _, other = pki.issue("elsewhere")
    (tmp_path / "empty").write_text("")
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    def problem(cert: Path, key: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            ServerTls(cert, key).context()
        return caught.value.problems[0]

    assert f"certificate {tmp_path / 'none'}: no such file or directory" == problem(tmp_path / "none", key)
    assert f"{cert} and {other}: the key is not the certificate's" == problem(cert, other)
    assert f"{tmp_path / 'empty'} and {key}: no certificate in PEM found" == problem(tmp_path / "empty", key)
    assert f"{cert} and {tmp_path / 'empty'}: no private key in PEM found" == problem(cert, tmp_path / "empty")
    assert f"{cert} and {locked}: the key is encrypted" == problem(cert, locked)


async def test_a_chain_is_sent_whole(pair: Any) -> None:
    root = Authority()
    middle = Authority(root)
    cert, key = middle.issue([x509.DNSName("localhost")])

    client, _ = await shake(
        pair, server_context(cert + middle.certificate, key), TlsClient("localhost", trust_anchors=root.certificate)
    )
    assert "localhost" == client.identity
    # An authority between may be the anchor, too.
    client, _ = await shake(pair, server_context(cert, key), TlsClient("localhost", trust_anchors=middle.certificate))
    assert "localhost" == client.identity


def test_trust_anchors_that_are_none_are_refused() -> None:
    with pytest.raises(TlsError, match="trust anchors: no certificate in PEM found"):
        ClientContexts().get(b"nonsense", True)


def test_settings_are_made_once_for_the_same_anchors(pki: Any) -> None:
    contexts = ClientContexts()
    anchors = pki.ca_file.read_bytes()

    assert contexts.get(anchors, True) is contexts.get(anchors, True)
    assert contexts.get(anchors, True) is not contexts.get(anchors, False)


# ----- the layers -----


async def test_the_layer_secures_endpoints_that_want_it_and_no_others(pki: Any, settings: ServerTls) -> None:
    context = settings.context()
    async with trio.open_nursery() as nursery:

        async def connect(endpoint: Endpoint) -> Connection:
            a, b = socket_pair()
            if endpoint.tls is not None:
                nursery.start_soon(server_tls, b, context)
            return a

        secure = Tls().layer(connect)
        plain = await secure(Endpoint(("10.0.0.2", 80)))
        assert not plain.secure
        secured = await secure(Endpoint(("10.0.0.2", 443), tls=trusting(pki)))
        assert secured.secure
        with pytest.raises(TlsError, match=r"endpoint 10\.0\.0\.2:443: certificate does not match") as caught:
            await secure(Endpoint(("10.0.0.2", 443), tls=trusting(pki, "elsewhere")))
        assert caught.value.retryable
        nursery.cancel_scope.cancel()


@pytest.mark.parity("B-19")
async def test_a_connection_that_takes_too_long_is_given_up(autojump_clock: Any) -> None:
    async def never(endpoint: Endpoint) -> Connection:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(ConnectTimeout) as caught:
        await ConnectTimeoutLayer().layer(never)(Endpoint(("10.0.0.7", 8080)))

    assert "endpoint 10.0.0.7:8080: connect timed out after 1s" == str(caught.value)
    assert caught.value.retryable
    assert 1.0 == trio.current_time()


class Authority:
    """An authority that issues what trustme does not: any name, any time."""

    def __init__(self, issuer: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"authority {id(self)}")])
        since = datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + datetime.timedelta(days=365 * 200))
            .add_extension(x509.BasicConstraints(True, None), True)
        )
        signed = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.certificate = signed.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: list[x509.GeneralName],
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> tuple[bytes, bytes]:
        """PEM of a certificate for *names* (and ``localhost`` as its common name), and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since or datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(until or datetime.datetime(2150, 1, 1, tzinfo=datetime.UTC))
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        signed = builder.sign(self.key, hashes.SHA256())
        return (
            signed.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
