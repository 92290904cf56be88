"""Mutual TLS between proxies: who meets whom, and each refusal with its own words and its own count."""

from __future__ import annotations

import gc
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from cryptography import x509
from OpenSSL import SSL

from meshcore.errors import ConnectionLost, TlsError, TlsRefused
from meshcore.identity import Credentials, Identity, accept_mesh_tls, connect_mesh_tls
from meshcore.layers.tls import Tls
from meshcore.transport.connection import Connection
from meshcore.transport.target import Endpoint, TlsClient
from tests.identity.issued import (
    DAY,
    NOW,
    authority,
    both,
    credentials,
    failures,
    identity,
    refused,
    shake,
)
from tests.transport.test_tls import Authority as AnyAuthority
from tests.transport.test_tls import _close_sockets, _sockets, socket_pair, stream_pair  # noqa: F401 – a fixture

CA = authority()


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("server", ["b.shop", "spiffe://mesh.local/b"])
@pytest.mark.parity("T-01", "T-04", "T-05")
async def test_both_ends_know_each_other(pair: Any, server: str) -> None:
    client, accepted = await shake(pair, identity(CA, "spiffe://mesh.local/a"), identity(CA, server), server)

    assert (server, "spiffe://mesh.local/a") == (client.identity, accepted.identity)
    assert "TLSv1.3" == client.ssl.get_protocol_version_name()
    assert (None, None) == (client.alpn, accepted.alpn)
    await client.send_all(b"hello")
    assert b"hello" == await accepted.receive_some()
    await accepted.send_all(b"there")
    assert b"there" == await client.receive_some()
    client.close()
    accepted.close()


@pytest.mark.parity("T-07")
@pytest.mark.parametrize(
    ("offered", "accepted", "expected"),
    [((), ("h2",), None), (("h2",), (), None), (("x", "h2"), ("h2", "x"), "h2")],
)
async def test_alpn_is_only_what_both_want(
    pair: Any, offered: tuple[str, ...], accepted: tuple[str, ...], expected: str | None
) -> None:
    ends = await shake(pair, identity(CA, "a.shop"), identity(CA, "b.shop"), "b.shop", alpn=offered, accepted=accepted)

    assert (expected, expected) == (ends[0].alpn, ends[1].alpn)


@pytest.mark.parity("T-04")
async def test_a_server_with_another_name_is_refused(pair: Any) -> None:
    client, server = identity(CA, "a.shop"), identity(CA, "b.shop")
    said, _ = await refused(pair, client, server, "c.shop")

    assert "certificate does not match TLS identity: expected c.shop, found b.shop" == str(said)
    assert {("client", "name"): 1} == failures(client)


@pytest.mark.parametrize(
    ("now", "days", "expected", "reason"),
    [
        (NOW - 9 * DAY, 1, "certificate has expired: it is valid from ", "expired"),
        (NOW + 9 * DAY, 1, "certificate is not valid yet: it is valid from ", "not valid yet"),
    ],
    ids=["expired", "early"],
)
async def test_certificates_out_of_their_time_are_refused_on_both_sides(
    pair: Any, now: float, days: float, expected: str, reason: str
) -> None:
    good, bad = identity(CA, "a.shop"), identity(CA, "b.shop", now=now, days=days)
    said, _ = await refused(pair, good, bad, "b.shop")
    assert str(said).startswith(expected)
    assert {("client", reason): 1} == failures(good)

    heard, said = await refused(pair, bad, good, "a.shop")
    assert str(said).startswith(f"client {expected}")
    assert isinstance(heard, TlsError)
    assert 1 == failures(good)["server", reason]


async def test_an_unknown_authority_is_refused_on_both_sides(pair: Any) -> None:
    other = authority("another CA")
    good, bad = identity(CA, "a.shop"), identity(other, "b.shop", trusting=[other, CA])
    said, _ = await refused(pair, good, bad, "b.shop")
    assert "certificate is not trusted: unknown issuer (CN=another CA)" == str(said)
    assert {("client", "unknown issuer"): 1} == failures(good)

    heard, said = await refused(pair, bad, good, "a.shop")
    assert "client certificate is not trusted: unknown issuer (CN=another CA)" == str(said)
    assert isinstance(heard, TlsRefused)
    assert str(heard).startswith("certificate was refused by the peer: ")
    assert heard.retryable


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_name_with_nul_is_refused_though_openssl_accepts_it(pair: Any, side: str) -> None:
    any_ca = AnyAuthority()
    fine = Credentials.from_pem(*any_ca.issue([x509.DNSName("a.shop")]), any_ca.certificate)
    cut = Credentials.from_pem(*any_ca.issue([x509.DNSName("b.shop")]), any_ca.certificate)
    evil = Credentials(
        name="b.shop", names=("b.shop",), not_before=cut.not_before, not_after=cut.not_after, anchors=cut.anchors,
        **_pair(any_ca, [x509.DNSName("b.shop\0.evil.example")]),
    )  # fmt: skip
    ends = [Identity("", clock=lambda: NOW) for _ in range(2)]
    assert ends[0].publish(fine)
    assert ends[1].publish(evil)
    if side == "server":
        said, _ = await refused(pair, ends[0], ends[1], "b.shop")
    else:
        _, said = await refused(pair, ends[1], ends[0], "a.shop")

    assert "certificate has a malformed name" in str(said)


def _pair(any_ca: Any, names: list[x509.GeneralName]) -> dict[str, Any]:
    from meshcore.transport.pem import load_pair

    chain, key = load_pair(*any_ca.issue(names))
    return {"chain": chain, "key": key}


# ----- peers that are not of the mesh: by the standard library -----


def stdlib_client(folder: Path, *, own: bool = False, most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (folder / "ca.crt").write_bytes(CA.cert_pem())
    context.load_verify_locations(folder / "ca.crt")
    if own:
        cert, key = CA.issue("a.shop", now=NOW)
        (folder / "a.pem").write_bytes(cert + key)
        context.load_cert_chain(folder / "a.pem")
    if most is not None:
        context.maximum_version = most
    return context


async def met_by_stdlib(server: Identity, context: ssl.SSLContext, session: Any = None) -> tuple[Any, Any]:
    """The accepted identity and the client's session, or what each raised."""
    a, b = socket_pair()
    said: list[Any] = [None, None]

    async def accept() -> None:
        try:
            secured = await accept_mesh_tls(b, server)
            said[0] = secured
            await secured.receive_some()
            await secured.send_all(b"pong")
            secured.close()
        except (TlsError, ConnectionLost) as error:
            said[0] = error
            b.close()

    def blocking() -> Any:
        raw = a.socket  # type: ignore[attr-defined]
        raw.setblocking(True)
        try:
            with context.wrap_socket(raw, server_hostname="b.shop", session=session) as secured:
                secured.sendall(b"ping")
                secured.recv(4)
                return secured.session, secured.session_reused
        except OSError as error:
            return error

    async def connect() -> None:
        said[1] = await trio.to_thread.run_sync(blocking)

    await both(accept, connect)
    return said[0], said[1]


@pytest.mark.parity("T-03")
async def test_a_client_without_a_certificate_is_accepted_as_nobody(tmp_path: Path) -> None:
    accepted, _ = await met_by_stdlib(identity(CA, "b.shop"), stdlib_client(tmp_path))

    assert accepted.secure
    assert accepted.identity is None


@pytest.mark.parity("T-01")
async def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    server = identity(CA, "b.shop")
    said, heard = await met_by_stdlib(server, stdlib_client(tmp_path, most=ssl.TLSVersion.TLSv1_2))

    assert "TLS handshake failed: unsupported protocol" == str(said)
    assert isinstance(heard, ssl.SSLError)
    assert {("server", "version"): 1} == failures(server)


@pytest.mark.parity("T-03")
async def test_no_session_is_resumed(tmp_path: Path) -> None:
    server, context = identity(CA, "b.shop"), stdlib_client(tmp_path, own=True)
    session = None
    for _ in range(3):
        accepted, (session, reused) = await met_by_stdlib(server, context, session)
        assert "a.shop" == accepted.identity
        assert not reused


# ----- hostile bytes -----


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05garbage!" * 3,
        b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * 16_380,
    ],
    ids=["plaintext", "no hello", "oversized record", "oversized hello"],
)
async def test_what_is_no_hello_is_refused(pair: Any, data: bytes) -> None:
    a, b = pair()
    server = identity(CA, "b.shop")

    async def accept() -> None:
        with pytest.raises(TlsError, match="TLS handshake failed"):
            await accept_mesh_tls(b, server)

    async def send() -> None:
        try:
            await a.send_all(data)
            while await a.receive_some():
                pass
        except ConnectionLost:
            pass

    await both(accept, send)
    assert b.closed
    assert {("server", "malformed"): 1} == failures(server)


def client_hello() -> bytes:
    ssl_end = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    ssl_end.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        ssl_end.do_handshake()
    return ssl_end.bio_read(65_536)


async def test_garbage_after_the_hello_is_refused(pair: Any) -> None:
    a, b = pair()

    async def accept() -> None:
        with pytest.raises(TlsError):
            await accept_mesh_tls(b, identity(CA, "b.shop"))

    async def send() -> None:
        await a.send_all(client_hello() + b"\x17\x03\x03\x00\x20" + b"g" * 32)

    await both(accept, send)
    assert b.closed


async def test_a_stalled_handshake_is_given_up_in_time(autojump_clock: Any) -> None:
    server = identity(CA, "b.shop")
    a, b = stream_pair()
    await a.send_all(client_hello()[:40])
    with pytest.raises(TlsError, match=r"TLS handshake timed out after 3 s"):
        await accept_mesh_tls(b, server, timeout=3.0)

    assert b.closed
    assert {("server", "timeout"): 1} == failures(server)
    c, d = stream_pair()
    with pytest.raises(TlsError, match="timed out"):
        await connect_mesh_tls(c, server, server_name="x", expected="x", timeout=1.0)
    assert c.closed
    d.close()


def test_nobody_may_renegotiate() -> None:
    server = identity(CA, "b.shop")
    for context in (server.server_context(), server.client_context()):
        # pyOpenSSL has no getter: setting nothing returns what is set.
        assert context.set_options(0) & SSL.OP_NO_RENEGOTIATION


# ----- callbacks -----


@pytest.mark.parametrize("where", ["client_name", "check_identity"])
async def test_a_check_that_raises_fails_closed(pair: Any, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("crash")

    monkeypatch.setattr(f"meshcore.identity.tls.{where}", crash)
    said = await refused(pair, identity(CA, "a.shop"), identity(CA, "b.shop"), "b.shop")

    assert "crash" in str(said[1 if where == "client_name" else 0])


@pytest.mark.parametrize("verdict", [True, ZeroDivisionError("crash")])
async def test_a_verification_that_raises_or_was_never_made_fails_closed(
    pair: Any, verdict: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        if isinstance(verdict, Exception):
            raise verdict
        return True

    monkeypatch.setattr("meshcore.identity.store.verify", broken)
    a, b = pair()
    ends = identity(CA, "a.shop"), identity(CA, "b.shop")

    async def accept() -> None:
        with pytest.raises((TlsError, ZeroDivisionError)):
            await accept_mesh_tls(b, ends[1])

    async def connect() -> None:
        with pytest.raises((TlsError, ZeroDivisionError)):
            await connect_mesh_tls(a, ends[0], server_name="b.shop", expected="b.shop")

    await both(accept, connect)
    assert a.closed
    assert b.closed


async def test_an_alpn_choice_that_raises_fails_closed(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr("meshcore.identity.store.choose_alpn", crash)
    a, b = pair()

    async def accept() -> None:
        with pytest.raises(ZeroDivisionError):
            await accept_mesh_tls(b, identity(CA, "b.shop"), alpn=("h2",))

    async def connect() -> None:
        with pytest.raises(TlsError):
            await connect_mesh_tls(a, identity(CA, "a.shop"), server_name="b.shop", expected="b.shop", alpn=("h2",))

    await both(accept, connect)
    assert b.closed


# ----- rotation -----


@pytest.mark.parity("T-06")
async def test_open_connections_live_on_and_new_ones_use_the_new_certificate(pair: Any) -> None:
    client, server = identity(CA, "a.shop"), identity(CA, "b.shop")
    old = await shake(pair, client, server, "b.shop")
    serial = server.current.chain[0].serial_number  # type: ignore[union-attr]
    assert server.publish(credentials(CA, "b.shop"))
    new = await shake(pair, client, server, "b.shop")

    shown = [end[0].ssl.get_peer_certificate(as_cryptography=True).serial_number for end in (old, new)]  # type: ignore[union-attr]
    assert serial == shown[0]
    assert server.current is not None
    assert server.current.chain[0].serial_number == shown[1]
    await old[0].send_all(b"still here")
    assert b"still here" == await old[1].receive_some()


@pytest.mark.parity("T-06")
async def test_the_authority_is_replaced_under_load_and_nothing_fails() -> None:
    before, after = authority("old"), authority("new")
    client, server = identity(before, "a.shop"), identity(before, "b.shop")
    steps = [(before, [before, after]), (after, [before, after]), (after, [after])]
    done = rounds = 0
    ended = False

    async def load() -> None:
        nonlocal done
        while not ended:
            ends = await shake(socket_pair, client, server, "b.shop")
            await ends[0].send_all(b"x")
            assert b"x" == await ends[1].receive_some()
            for end in ends:
                end.close()
            done += 1

    async def rotate() -> None:
        nonlocal rounds, ended
        for issuer, trusting in steps:
            for each, name in ((client, "a.shop"), (server, "b.shop")):
                # One end after the other, each in the middle of handshakes.
                assert each.publish(credentials(issuer, name, trusting=trusting))
                reached = done + 4
                while done < reached:
                    await trio.lowlevel.checkpoint()
                rounds += 1
        ended = True

    await both(load, load, rotate)
    assert 6 == rounds
    assert {} == failures(client)
    assert {} == failures(server)
    old = identity(before, "a.shop", trusting=[before, after])
    assert "unknown issuer" in str((await refused(socket_pair, old, server, "b.shop"))[1])


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.long)])
async def test_handshakes_leave_memory_and_descriptors_flat(count: int) -> None:
    client, server = identity(CA, "a.shop"), identity(CA, "b.shop")
    other = identity(authority("another"), "c.shop")

    async def some(number: int) -> None:
        for index in range(number):
            forget_sockets()
            if index % 10 == 9:
                await refused(socket_pair, other, server, "b.shop")
                continue
            for end in await shake(socket_pair, client, server, "b.shop"):
                end.close()

    await some(100)
    grown = []
    for _ in range(3):
        forget_sockets()
        gc.collect()
        before = resident(), len(os.listdir("/proc/self/fd")), ours()
        await some(count)
        forget_sockets()
        gc.collect()
        after = resident(), len(os.listdir("/proc/self/fd")), ours()
        assert before[1] >= after[1]
        assert before[2] >= after[2]
        grown.append(after[0] - before[0])
    # The allocator takes more once in a while, for its own reasons; what leaks does so every time.
    assert min(grown) < 2 << 20


def forget_sockets() -> None:
    while _sockets:
        _sockets.pop().close()


def ours() -> int:
    """Objects of the library and of pyOpenSSL."""
    return sum(str(type(each).__module__).partition(".")[0] in ("meshcore", "OpenSSL") for each in gc.get_objects())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ----- the layer -----


@pytest.mark.parity("T-15", "T-17")
async def test_an_endpoint_of_the_mesh_is_met_with_the_own_identity_or_not_at_all(pair: Any) -> None:
    server = identity(CA, "b.shop")
    accepted: list[Connection] = []
    connects = 0
    async with trio.open_nursery() as nursery:

        async def accept(b: Connection) -> None:
            accepted.append(await accept_mesh_tls(b, server))

        async def connect(endpoint: Endpoint) -> Connection:
            nonlocal connects
            connects += 1
            a, b = pair()
            nursery.start_soon(accept, b)
            return a

        endpoint = Endpoint(("10.0.0.2", 4143), tls=TlsClient("b.shop", alpn=(), identity="b.shop", mesh=True))
        secured = await Tls(identity=identity(CA, "a.shop")).layer(connect)(endpoint)
        await trio.testing.wait_all_tasks_blocked()
        assert ("b.shop", "a.shop") == (secured.identity, accepted[0].identity)
        with pytest.raises(TlsError, match="no identity is configured"):
            await Tls().layer(connect)(endpoint)
        assert 1 == connects
        secured.close()


def test_an_endpoint_of_the_mesh_has_to_say_who_answers() -> None:
    with pytest.raises(ValueError, match="identity"):
        TlsClient("b.shop", mesh=True)
