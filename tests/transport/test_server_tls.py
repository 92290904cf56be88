"""Gateways' TLS: which certificate a client is shown, what is asked of it, and files that change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from meshcore.errors import ConfigError, ConnectionLost, TlsError
from meshcore.identity import Authority, Identity
from meshcore.transport.identity import ClientContexts, client_tls, server_tls
from meshcore.transport.server_tls import ServerTls, WatchedServerTls
from meshcore.transport.target import TlsClient
from tests.identity.issued import DAY, NOW, authority, both, identity
from tests.transport.test_tls import _close_sockets, socket_pair, stream_pair  # noqa: F401 – a fixture

CA = authority()


@pytest.fixture(params=[socket_pair, stream_pair], ids=["socket", "stream"])
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


class Folder:
    """Files of certificates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.anchors = path / "ca.crt"
        self.anchors.write_bytes(CA.cert_pem())

    def issue(self, name: str, issuer: Authority = CA, **more: Any) -> tuple[Path, Path]:
        made = issuer.issue(name, **{"now": NOW, **more})
        pair = self.path / f"{name}.crt", self.path / f"{name}.key"
        for path, data in zip(pair, made, strict=True):
            path.write_bytes(data)
        return pair


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class Own(ClientContexts):
    """Settings that show a client's own certificate."""

    def __init__(self, own: Identity) -> None:
        super().__init__()
        self.own = own

    def get(self, trust_anchors: bytes | None, verify: bool) -> Any:
        return self.own.client_context()


async def meet(pair: Any, context: Any, name: str, *, client: Any = None) -> tuple[Any, Any]:
    """What each end got of a handshake and the first read, or what it raised; *client*: an own identity."""
    a, b = pair()
    said: list[Any] = [None, None]

    async def accept() -> None:
        try:
            secured = said[1] = await server_tls(b, context)
            await secured.send_all(b"x")
        except (TlsError, ConnectionLost) as error:
            said[1] = error

    async def connect() -> None:
        try:
            contexts = ClientContexts() if client is None else Own(client)
            secured = await client_tls(a, TlsClient(name, trust_anchors=CA.cert_pem()), contexts)
            assert b"x" == await secured.receive_some()
            said[0] = secured
        except (TlsError, ConnectionLost) as error:
            said[0] = error

    await both(accept, connect)
    return said[0], said[1]


@pytest.mark.parametrize("name", ["a.example", "B.example", "x.wild.example", "exact.wild.example"])
async def test_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for(
    pair: Any, folder: Folder, name: str
) -> None:
    from cryptography import x509

    from tests.transport.test_tls import Authority as AnyAuthority

    wild_ca = AnyAuthority()
    cert, key = wild_ca.issue([x509.DNSName("*.wild.example")])
    (folder.path / "w.crt").write_bytes(cert)
    (folder.path / "w.key").write_bytes(key)
    wild = folder.path / "w.crt", folder.path / "w.key"
    others = (folder.issue("b.example"), wild, folder.issue("exact.wild.example"))
    context = ServerTls(*folder.issue("a.example"), certificates=others).context()
    trusted = CA.cert_pem() + wild_ca.certificate
    a, b = pair()

    async def accept() -> None:
        await server_tls(b, context)

    got = []

    async def connect() -> None:
        got.append(await client_tls(a, TlsClient(name, trust_anchors=trusted), ClientContexts()))

    await both(accept, connect)
    assert name == got[0].identity
    assert "h2" == got[0].alpn


async def test_an_unknown_name_is_shown_the_first_certificate(pair: Any, folder: Folder) -> None:
    tls = ServerTls(certificates=(folder.issue("a.example"), folder.issue("b.example")))
    said, _ = await meet(pair, tls.context(), "c.example")

    assert "expected c.example, found a.example" in str(said)


async def test_a_selection_that_raises_fails_closed(pair: Any, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ServerTls(*folder.issue("a.example"), certificates=(folder.issue("b.example"),), client_certificates="off")
    context = tls.context()

    def crash(*_: object) -> None:
        raise ZeroDivisionError("crash")

    monkeypatch.setattr("OpenSSL.SSL.Connection.set_context", crash)
    _, said = await meet(pair, context, "a.example")

    assert isinstance(said, TlsError)
    assert "could not be shown a certificate" in str(said)


@pytest.mark.parametrize("name", ["a.example", "b.example"])
@pytest.mark.parametrize("mode", ["optional", "required"])
async def test_clients_show_their_certificate_whatever_name_they_ask_for(
    pair: Any, folder: Folder, mode: Any, name: str
) -> None:
    tls = ServerTls(
        *folder.issue("a.example"),
        certificates=(folder.issue("b.example"),),
        client_certificates=mode,
        trust_anchors=folder.anchors,
    )
    context = tls.context()
    _, accepted = await meet(pair, context, name, client=identity(CA, "spiffe://m/client"))
    assert "spiffe://m/client" == accepted.identity

    other = authority("another CA")
    _, said = await meet(pair, context, name, client=identity(other, "c.shop", trusting=[other, CA]))
    assert "client certificate is not trusted: unknown issuer (CN=another CA)" == str(said)
    _, said = await meet(pair, context, name, client=identity(CA, "c.shop", now=NOW - 9 * DAY))
    assert str(said).startswith("client certificate has expired")

    heard, said = await meet(pair, context, name)
    if mode == "optional":
        assert said.identity is None
    else:
        assert isinstance(heard, TlsError)
        assert "peer did not return a certificate" in str(said)
        assert "no certificate" == said.reason


def test_every_mistake_is_said_at_once(folder: Folder) -> None:
    good = folder.issue("a.example")
    none = folder.path / "none.crt"
    tls = ServerTls(none, good[1], certificates=((good[0], good[0]),), client_certificates="required")
    with pytest.raises(ConfigError) as caught:
        tls.context()

    assert [
        "client certificates are required, and no trust anchors are given",
        f"certificate {none}: no such file or directory",
        f"{good[0]} and {good[0]}: no private key in PEM found",
    ] == caught.value.problems
    for made in (ServerTls(), ServerTls(good[0])):
        with pytest.raises(ConfigError):
            made.context()


async def test_files_that_change_are_used_within_a_second(
    folder: Folder, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = folder.issue("a.example")
    watched = WatchedServerTls(ServerTls(cert, key, client_certificates="optional", trust_anchors=folder.anchors))
    first = watched.context()
    await trio.sleep(5)
    assert first is watched.context()
    folder.issue("a.example")
    await trio.sleep(0.5)
    assert first is watched.context()
    await trio.sleep(0.6)
    second = watched.context()
    assert first is not second
    other = authority("next CA")
    folder.anchors.write_bytes(CA.cert_pem() + other.cert_pem())
    await trio.sleep(1.1)
    third = watched.context()
    assert second is not third
    _, accepted = await meet(stream_pair, third, "a.example", client=identity(other, "c.shop", trusting=[CA, other]))
    assert "c.shop" == accepted.identity


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: (f.path / "a.example.crt").write_bytes(b""), "no certificate in PEM found"),
        (lambda f: os.unlink(f.path / "a.example.key"), "no such file or directory"),
        (lambda f: (f.path / "a.example.key").write_bytes(CA.issue("a.example", now=NOW)[1]), "not the certificate's"),
        (lambda f: f.issue("a.example", now=NOW - 9 * DAY), "certificate has expired"),
        (lambda f: f.issue("a.example", now=NOW + 9 * DAY), "certificate is not valid yet"),
    ],
    ids=["empty", "missing", "half", "expired", "early"],
)
async def test_files_that_cannot_be_used_are_warned_of_once_and_the_old_ones_stay(
    folder: Folder, autojump_clock: object, caplog: pytest.LogCaptureFixture, change: Any, expected: str
) -> None:
    watched = WatchedServerTls(ServerTls(*folder.issue("a.example")))
    first = watched.context()
    change(folder)
    for _ in range(5):
        await trio.sleep(1.1)
        assert first is watched.context()

    (record,) = caplog.records
    assert expected in record.getMessage()
    assert "the old one stays" in record.getMessage()
    folder.issue("a.example")
    await trio.sleep(1.1)
    assert first is not watched.context()
