"""``meshcore identity``: files with the right modes, never overwritten, and explained."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.identity import Credentials
from meshcore_cli.main import main
from tests.identity.issued import DAY, NOW, authority


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    assert main(["identity", "dev-ca", "--out", str(tmp_path / "ca")]) == 0
    return tmp_path / "ca"


def test_a_development_authority_and_what_it_issues_can_be_used(ca: Path, tmp_path: Path) -> None:
    assert (0o600, 0o644) == (mode(ca / "ca.key"), mode(ca / "ca.crt"))
    for name, stem in (("orders.shop", "orders.shop"), ("spiffe://m.local/ns/shop/sa/orders", "orders")):
        assert main(["identity", "issue", name, "--ca", str(ca), "--out", str(tmp_path / "o"), "--days", "2"]) == 0
        cert, key = tmp_path / "o" / f"{stem}.crt", tmp_path / "o" / f"{stem}.key"
        assert (0o600, 0o644) == (mode(key), mode(cert))
        made = Credentials.from_pem(cert.read_bytes(), key.read_bytes(), (ca / "ca.crt").read_bytes())
        assert name == made.name
        assert 2 == len(made.chain)
        assert 2 * DAY == pytest.approx(made.not_after - made.not_before, abs=400)


def test_nothing_is_overwritten_unless_that_is_said(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (ca / "ca.key").read_bytes()
    assert main(["identity", "dev-ca", "--out", str(ca)]) == 1
    assert "ca.key is there already; --force overwrites it" in capsys.readouterr().err
    (ca / "ca.crt").unlink()
    assert main(["identity", "dev-ca", "--out", str(ca)]) == 1
    assert before == (ca / "ca.key").read_bytes()
    assert not (ca / "ca.crt").exists()
    assert main(["identity", "dev-ca", "--out", str(ca), "--force"]) == 0
    assert before != (ca / "ca.key").read_bytes()
    assert 0o600 == mode(ca / "ca.key")


def test_the_authoritys_own_files_are_not_issued_over(ca: Path) -> None:
    before = (ca / "ca.key").read_bytes()
    assert main(["identity", "issue", "spiffe://m/ca", "--ca", str(ca), "--out", str(ca), "--force"]) == 2
    assert before == (ca / "ca.key").read_bytes()


def test_show_explains_names_issuer_and_validity(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identity", "issue", "orders.shop", "--ca", str(ca), "--out", str(ca)]) == 0
    capsys.readouterr()
    assert main(["identity", "show", str(ca / "orders.shop.crt")]) == 0
    text = capsys.readouterr().out
    for expected in (
        "names       orders.shop",
        "issuer      CN=meshcore development CA",
        "accepted, valid for another 23",
    ):
        assert expected in text
    assert main(["identity", "show", "-o", "json", str(ca / "orders.shop.crt")]) == 0
    leaf, issuer = json.loads(capsys.readouterr().out)
    assert ("leaf", ["orders.shop"], True) == (leaf["kind"], leaf["names"], leaf["accepted"])
    assert ("authority", True) == (issuer["kind"], issuer["self_signed"])


def test_show_says_what_this_clock_does_not_accept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for now, expected in ((NOW - 9 * DAY, "refused, expired 8 days ago"), (NOW + 9 * DAY, "refused, not valid yet")):
        path = tmp_path / "a.crt"
        path.write_bytes(authority().issue("a.shop", now=now)[0])
        assert main(["identity", "show", str(path)]) == 1
        assert expected in capsys.readouterr().out


def test_a_key_that_is_shown_is_not_shown(ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identity", "show", str(ca / "ca.key"), str(ca / "none")]) == 1
    out = capsys.readouterr()
    assert "ca.key: no certificate in PEM found" in out.err
    assert "none: no such file or directory" in out.err
    assert (ca / "ca.key").read_text().splitlines()[1] not in out.out + out.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dev-ca"], "--out DIR is missing"),
        (["dev-ca", "x", "--out", "d", "--ca", "e"], "unexpected argument x"),
        (["issue", "--ca", "d", "--out", "d"], "one NAME is wanted, 0 were given"),
        (["issue", "a b", "--ca", "/none", "--out", "d"], "'a b' is neither a DNS name nor a spiffe:// URI"),
        (["issue", "a", "--ca", "/none", "--out", "d"], "/none/ca.key: no such file or directory"),
        (["issue", "a", "--ca", "d", "--out", "d", "--days", "0"], "--days 0 is not between"),
        (["show"], "no FILE is given"),
        (["shwo"], "did you mean show?"),
    ],
)
def test_wrong_usage_is_said_without_a_traceback(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["identity", *words])
    except SystemExit as leaving:
        code = leaving.code  # type: ignore[assignment]
    err = capsys.readouterr().err

    assert 2 == code
    assert expected in err
    assert "Traceback" not in err
    assert [] == os.listdir(tmp_path)


@pytest.mark.system
def test_openssl_verifies_what_was_issued(ca: Path, peer: Callable[[str], str]) -> None:
    for name in ("orders.shop", "spiffe://m/orders"):
        assert main(["identity", "issue", name, "--ca", str(ca), "--out", str(ca), "--force"]) == 0
        cert = ca / f"{name.rpartition('/')[2]}.crt"
        for purpose in ("sslserver", "sslclient"):
            command = [peer("openssl"), "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(ca / "ca.crt")]
            done = subprocess.run([*command, str(cert)], capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, done.stderr
