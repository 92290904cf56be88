"""Commands that ask an admin server in TLS: whom they trust, whom they take it for, and who they are."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshcore_cli.main import main
from tests.cli.stub_proxy import Stub, stub_proxy
from tests.peers.sidecar import Issuer

URI = "spiffe://shop.local/admin"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("admin"))


@contextmanager
def secure(issuer: Issuer, name: str = "admin.shop", *, asks: bool = False) -> Iterator[Stub]:
    """One that shows a certificate with that name, and *asks* for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issuer.issue(name))
    if asks:
        context.load_verify_locations(issuer.anchors)
        context.verify_mode = ssl.CERT_REQUIRED
    with stub_proxy(context=context) as stub:
        yield stub


def ask(stub: Stub, *words: str) -> int:
    return main(["stat", "--admin", f"https://{stub.address}", *words])


def test_a_certificate_with_the_name_that_is_wanted_is_trusted(
    issuer: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    with secure(issuer) as stub:
        assert 0 == ask(stub, "--cacert", str(issuer.anchors), "--server-name", "admin.shop")
        assert ["/stats?window=10"] == stub.asked
    assert "orders.shop  ready" in capsys.readouterr().out


def test_a_certificate_with_a_uri_is_trusted_by_the_whole_of_it(
    issuer: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    with secure(issuer, URI) as stub:
        assert 0 == ask(stub, "--cacert", str(issuer.anchors), "--server-name", URI)
        assert 1 == ask(stub, "--cacert", str(issuer.anchors), "--server-name", f"{URI}s")
        assert 1 == len(stub.asked)
    assert f"its certificate is not that of {URI}s" in capsys.readouterr().err


def test_a_certificate_is_shown_to_who_asks_for_one(issuer: Issuer, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = map(str, issuer.issue("ops.shop"))
    trusted = ("--cacert", str(issuer.anchors), "--server-name", "admin.shop")
    with secure(issuer, asks=True) as stub:
        assert 0 == ask(stub, *trusted, "--cert", cert, "--key", key)
        assert 1 == ask(stub, *trusted)
        assert 1 == len(stub.asked)
    assert f"no proxy answers at https://{stub.address}: " in capsys.readouterr().err


def test_nothing_is_asked_of_who_is_not_trusted(
    issuer: Issuer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHCORE_ADMIN_TOKEN", "s3cret-s3cret-s3cret")
    with secure(issuer) as stub:
        assert 1 == ask(stub, "--server-name", "admin.shop")
        assert "--cacert FILE says who vouches for it" in capsys.readouterr().err
        assert 1 == ask(stub, "--cacert", str(issuer.anchors))
        assert "--server-name NAME says whose it is" in capsys.readouterr().err
        assert [] == stub.asked


def test_who_speaks_no_tls_is_told_about(capsys: pytest.CaptureFixture[str]) -> None:
    with stub_proxy() as stub:
        assert 1 == ask(stub)
    assert "it speaks no TLS" in capsys.readouterr().err


def test_files_that_are_none_are_wrong_usage(
    issuer: Issuer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cert, key = map(str, issuer.issue("ops.shop"))
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    with secure(issuer) as stub:
        for words, said in (
            (("--cacert", "/nowhere/ca.crt"), "--cacert: '/nowhere/ca.crt': no such file or directory"),
            (("--cacert", key), "it holds no certificate"),
            (("--cacert", str(empty)), "it holds no certificate"),
            (("--cert", cert), f"--cert: '{cert}': no certificate with its key"),
            (("--cert", str(empty), "--key", key), "no certificate with its key"),
            (("--cert", cert, "--key", "/nowhere/x.key"), "no such file or directory"),
            (("--key", key), "--key: there is no --cert that it is of"),
        ):
            assert 2 == ask(stub, *words), words
            assert said in capsys.readouterr().err
        assert [] == stub.asked
