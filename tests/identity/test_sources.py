"""Sources: certificates in files that somebody renews, and from an authority of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from meshcore.identity import Authority, DevIdentity, FilesIdentity, Identity
from meshcore.identity.authority import write_file
from meshcore.identity.dev import dev_authority
from meshcore.metrics.registry import Registry
from tests.identity.issued import DAY, NOW, authority, credentials, running


class Files:
    """Certificate, key and anchors in a folder, and the identity made of them; time is Trio's, from NOW on."""

    def __init__(self, folder: Path, name: str = "a.shop") -> None:
        self.ca = authority()
        self.cert, self.key, self.anchors = folder / "a.crt", folder / "a.key", folder / "ca.crt"
        self.registry = Registry()
        self.identity = Identity(name, clock=lambda: NOW + trio.current_time(), registry=self.registry)
        self.source = FilesIdentity(self.cert, self.key, self.anchors)
        self.anchors.write_bytes(self.ca.cert_pem())

    def write(self, cert: bytes | None = None, key: bytes | None = None) -> None:
        made = self.ca.issue("a.shop", now=NOW)
        self.cert.write_bytes(made[0] if cert is None else cert)
        self.key.write_bytes(made[1] if key is None else key)

    def refused(self) -> int:
        return int(dict(self.identity.metrics.refreshes.series())[(("result", "error"),)].value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parity("T-06")
async def test_files_that_change_are_taken_within_a_second(files: Files, autojump_clock: object) -> None:
    files.write()
    async with running(files.source, files.identity):
        await files.identity.wait_certified()
        first = files.identity.current
        await trio.sleep(10)
        assert 1 == files.identity.generation
        files.write()
        await trio.sleep(1.01)
        assert 2 == files.identity.generation
        assert first is not files.identity.current
        files.anchors.write_bytes(files.ca.cert_pem() + authority("next CA").cert_pem())
        await trio.sleep(1.01)
        assert 3 == files.identity.generation
        assert files.identity.current is not None
        assert 2 == len(files.identity.current.anchors)
    assert 0 == files.refused()


async def test_a_half_written_pair_is_refused_once_and_taken_when_it_is_whole(
    files: Files, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    files.write()
    cert, key = files.ca.issue("a.shop", now=NOW)
    async with running(files.source, files.identity):
        await files.identity.wait_certified()
        old = files.identity.current
        for half, expected in [
            (cert, "the key is not the certificate's"),
            (cert[:100], "no certificate in PEM found"),
            (b"", "no certificate in PEM found"),
        ]:
            caplog.clear()
            before = files.refused()
            files.cert.write_bytes(half)
            await trio.sleep(10)
            assert 1 == files.refused() - before
            assert expected in caplog.text
            assert "a.key" in caplog.text
            assert "PRIVATE" not in caplog.text
            assert old is files.identity.current
        files.cert.write_bytes(cert)
        files.key.write_bytes(key)
        await trio.sleep(1.01)
        assert old is not files.identity.current
        assert files.identity.certified


@pytest.mark.parametrize("which", ["cert", "key", "anchors"])
async def test_a_file_that_is_missing_is_waited_for(
    files: Files, autojump_clock: object, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    files.write()
    missing: Path = getattr(files, which)
    data = missing.read_bytes()
    missing.unlink()
    async with running(files.source, files.identity):
        await trio.sleep(5)
        assert not files.identity.certified
        assert 1 == files.refused()
        assert f"{missing}: no such file or directory" in caplog.text
        missing.write_bytes(data)
        await trio.sleep(1.01)
        assert files.identity.certified


async def test_a_folder_behind_a_symbolic_link_is_swapped_as_kubernetes_does(
    tmp_path: Path, autojump_clock: object
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = Files(tmp_path / "one"), Files(tmp_path / "two")
    one.write()
    two.write()
    os.symlink("one", tmp_path / "data")
    source = FilesIdentity(*(tmp_path / "data" / name for name in ("a.crt", "a.key", "ca.crt")))
    async with running(source, one.identity):
        await one.identity.wait_certified()
        os.symlink("two", tmp_path / "new")
        os.replace(tmp_path / "new", tmp_path / "data")
        await trio.sleep(1.01)
        assert one.identity.current is not None
        assert two.ca.certificate in one.identity.current.anchors


async def test_another_file_of_the_same_size_and_time_is_noticed(files: Files, autojump_clock: object) -> None:
    files.write()
    async with running(files.source, files.identity):
        await files.identity.wait_certified()
        facts = files.anchors.stat()
        fresh = files.anchors.with_name("fresh")
        fresh.write_bytes(files.anchors.read_bytes())
        os.utime(fresh, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.replace(fresh, files.anchors)
        await trio.sleep(1.01)
        assert 2 == files.identity.generation


async def test_what_is_not_valid_yet_is_taken_when_it_is(files: Files, autojump_clock: object) -> None:
    cert, key = files.ca.issue("a.shop", now=NOW + 3600)
    files.write(cert, key)
    async with running(files.source, files.identity):
        await trio.sleep(3000)
        assert not files.identity.certified
        assert 1 == files.refused()
        await trio.sleep(601)
        assert files.identity.certified


async def test_an_expired_and_a_foreign_pair_are_refused(
    files: Files, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    files.write()
    async with running(files.source, files.identity):
        await files.identity.wait_certified()
        old = files.identity.current
        files.write(*files.ca.issue("a.shop", now=NOW - 9 * DAY))
        await trio.sleep(3)
        files.write(*authority("foreign").issue("a.shop", now=NOW))
        await trio.sleep(3)
        files.write(*files.ca.issue("b.shop", now=NOW))
        await trio.sleep(3)
        assert old is files.identity.current
    for text in ("has expired", "not trusted: unknown issuer (CN=foreign)", "expected a.shop, found b.shop"):
        assert text in caplog.text


# ----- dev -----


@pytest.mark.parity("T-12")
async def test_a_development_identity_makes_its_authority_and_renews_itself(
    tmp_path: Path, autojump_clock: object
) -> None:
    made = Identity("a.shop", clock=lambda: NOW + trio.current_time())
    source = DevIdentity("a.shop", tmp_path / "state", days=1)
    async with running(source, made):
        await made.wait_certified()
        first = made.current
        assert first is not None
        assert ("a.shop",) == first.names
        await trio.sleep(0.69 * DAY)
        assert first is made.current
        await trio.sleep(0.02 * DAY)
        assert 2 == made.generation
        assert made.current is not None
        assert made.current.not_after > first.not_after
    assert 0o600 == (tmp_path / "state" / "ca.key").stat().st_mode & 0o777
    assert 0o700 == (tmp_path / "state").stat().st_mode & 0o777


@pytest.mark.parity("T-12")
async def test_a_certificate_of_many_days_is_renewed_after_one(tmp_path: Path, autojump_clock: object) -> None:
    made = Identity("a.shop", clock=lambda: NOW + trio.current_time())
    async with running(DevIdentity("a.shop", tmp_path / "state", days=90, interval=60.0), made):
        await made.wait_certified()
        await trio.sleep(0.98 * DAY)
        assert 1 == made.generation
        await trio.sleep(0.04 * DAY)
        assert 2 == made.generation


async def test_two_development_identities_share_the_authority(tmp_path: Path, autojump_clock: object) -> None:
    ends = [Identity("", clock=lambda: NOW + trio.current_time()) for _ in range(2)]
    async with (
        running(DevIdentity("a.shop", tmp_path), ends[0]),
        running(DevIdentity("spiffe://m/b", tmp_path), ends[1]),
    ):
        for end in ends:
            await end.wait_certified()
    assert ends[0].current is not None
    assert ends[1].current is not None
    assert ends[0].current.anchors == ends[1].current.anchors


async def test_a_folder_that_cannot_be_used_is_said_once_and_tried_again(
    tmp_path: Path, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    made = Identity("a.shop", clock=lambda: NOW + trio.current_time())
    async with running(DevIdentity("a.shop", tmp_path), made):
        await trio.sleep(5)
        assert 1 == len(caplog.records)
        (tmp_path / "ca.crt").unlink()
        await trio.sleep(1.01)
        assert made.certified


def test_processes_that_start_at_once_make_one_authority(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from meshcore.identity.dev import dev_authority\n"
        "sys.stdin.read()\n"
        "sys.stdout.write(dev_authority(pathlib.Path(sys.argv[1]), time.time()).cert_pem().decode())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "ca")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    said = {process.communicate(timeout=60)[0] for process in processes}

    assert 1 == len(said)
    assert dev_authority(tmp_path / "ca", NOW).cert_pem().decode() in said


# ----- files -----


def test_a_file_is_written_whole_with_its_mode_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    old = os.umask(0)
    try:
        write_file(path, b"one", mode=0o600, replace=False)
    finally:
        os.umask(old)
    assert 0o600 == path.stat().st_mode & 0o777
    with pytest.raises(FileExistsError):
        write_file(path, b"two", mode=0o600, replace=False)
    assert b"one" == path.read_bytes()
    write_file(path, b"two", mode=0o644, replace=True)
    assert (b"two", 0o644) == (path.read_bytes(), path.stat().st_mode & 0o777)
    assert ["a.key"] == os.listdir(tmp_path)


def test_an_authority_is_the_same_after_it_was_written_and_read() -> None:
    made = authority()

    again = Authority.from_pem(made.cert_pem(), made.key_pem())

    assert made.certificate == again.certificate
    assert credentials(again, "a.shop").chain[0].issuer == made.certificate.subject
