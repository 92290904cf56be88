"""What every test may use: engines, certificates, peers, and the book-keeping of parity marks."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import trio
import trustme

ROOT = Path(__file__).parent.parent
PARITY_LIMIT = 3
PARITY_ID = re.compile(r"[A-Z]-[0-9]{2}")

hypothesis.settings.register_profile("default", deadline=None, max_examples=50, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity-report",
        metavar="FILE",
        help="record which tests with a parity mark passed; runs are merged into the JSON file",
    )
    parser.addoption(
        "--not-twice",
        action="store_true",
        help="leave out what runs on every engine by itself, for a run that comes after one with all engines",
    )


# ----- parity marks -----


def parity_ids(item: pytest.Item) -> list[str]:
    """The IDs on a test's parity marks."""
    return [identifier for mark in item.iter_markers("parity") for identifier in mark.args]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--not-twice"):
        both = [item for item in items if "engine" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=both)
        left_out = set(both)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        ids = parity_ids(item)
        if len(ids) > PARITY_LIMIT:
            raise pytest.UsageError(f"{item.nodeid}: {len(ids)} parity IDs on one test, at most {PARITY_LIMIT}")
        unknown = [identifier for identifier in ids if not PARITY_ID.fullmatch(identifier)]
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: unknown parity IDs {', '.join(unknown)}")


class ParityReport:
    """Records the outcome of tests with parity marks, merged into what earlier runs recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: dict[str, list[str]] = {}
        self.passed: dict[str, bool] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            ids = parity_ids(item)
            if ids:
                self.ids[item.nodeid] = ids

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid in self.ids:
            passed = report.passed if report.when == "call" else not (report.failed or report.skipped)
            self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and passed

    def pytest_sessionfinish(self) -> None:
        known: dict[str, list[str]] = json.loads(self.path.read_text()) if self.path.exists() else {}
        merged = {test: ids for test, ids in known.items() if (ROOT / test.partition("::")[0]).exists()}
        for test, passed in self.passed.items():
            # One line for a test, whatever its parameters: all of them have to pass.
            name = test.partition("[")[0]
            others = [ok for other, ok in self.passed.items() if other.partition("[")[0] == name]
            merged.pop(name, None)
            if passed and all(others):
                merged[name] = sorted(set(self.ids[test]))
        self.path.write_text(json.dumps(dict(sorted(merged.items())), indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--parity-report")
    if path:
        config.pluginmanager.register(ParityReport(Path(path)), "parity-report")


# ----- peers: a test without its peer is skipped, except where every peer has to be there -----


def _peers_required() -> bool:
    return os.environ.get("MESHCORE_REQUIRE_PEERS") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _peers_required() and item.get_closest_marker("system"):
        report.outcome = "failed"
        report.longrepr = f"skipped where no system test may be: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.skipped and _peers_required() and "system" in collector.path.parts:
        report.outcome = "failed"
        report.longrepr = f"skipped where no system test may be: {report.longrepr[2]}"
    return report


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """``peer("nginx")``: the path of an installed program; the test is skipped, by the peer's name,
    where there is none (and fails under ``MESHCORE_REQUIRE_PEERS=1``)."""

    def find(program: str) -> str:
        places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
        path = shutil.which(program, path=os.pathsep.join(places))
        if path is None:
            pytest.skip(f"peer not installed: {program}")
        return path

    return find


# ----- engines -----


def _fast_engines() -> bool:
    try:
        import httptools
        import ngh2
    except ImportError:
        return False
    return bool(httptools and ngh2)


@pytest.fixture(params=["pure", "fast"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once on each pair of engines; codecs made in it are that engine's."""
    name: str = request.param
    forced = os.environ.get("MESHCORE_ENGINE")
    if forced == "pure" and name == "fast":
        pytest.skip("MESHCORE_ENGINE=pure")
    if name == "fast" and not _fast_engines():
        pytest.skip("the extra `fast` is not installed")
    if name == "pure":
        monkeypatch.setenv("MESHCORE_ENGINE", "pure")
    else:
        monkeypatch.delenv("MESHCORE_ENGINE", raising=False)
    return name


# ----- determinism -----


@pytest.fixture(autouse=True)
def _schedule() -> None:
    """One schedule a test, the same in every run; ``MESHCORE_TEST_SEED`` picks another."""
    trio._core._run._r.seed(int(os.environ.get("MESHCORE_TEST_SEED", "0")))  # type: ignore[attr-defined]


# ----- certificates -----


class Pki:
    """A certificate authority for tests, and the files of what it issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca_file = directory / "ca.crt"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self._issued: dict[str, tuple[Path, Path]] = {}

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Certificate chain and key for DNS names or addresses, as PEM files."""
        key = "+".join(names)
        if key not in self._issued:
            leaf = self.ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
            stem = key.replace("*", "_").replace(":", "_")
            certificate = self.directory / f"{stem}.crt"
            private = self.directory / f"{stem}.key"
            for index, blob in enumerate(leaf.cert_chain_pems):
                blob.write_to_path(str(certificate), append=index > 0)
            leaf.private_key_pem.write_to_path(str(private))
            self._issued[key] = (certificate, private)
        return self._issued[key]


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A certificate authority; ``pki.issue("localhost")`` gives the paths of chain and key."""
    return Pki(tmp_path_factory.mktemp("pki"))
