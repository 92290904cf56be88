"""The project's chores, each in an environment that pip makes: ``nox -l`` lists them."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
# What runs on both engines; everything else runs once, on the fast ones.
ENGINE_TESTS = [f"tests/{name}" for name in ("codec", "server", "client", "integration")]
# What runs on the compiled modules too; the others read the sources, or use nothing that is compiled.
COMPILED_TESTS = [
    f"tests/{name}" for name in ("codec", "http", "transport", "server", "client", "grpc", "layers", "integration")
]
# The real peers' packages are not installed for these.
DETERMINISTIC = ["-m", "not system and not long", "--ignore", "tests/system"]
# Two at a time: what CI has processors for.
PARALLEL = ["-n", "2"]
RUFF = "ruff>=0.14"


def _present(paths: list[str]) -> list[str]:
    return [path for path in paths if (ROOT / path).is_dir()]


def _install_built(session: nox.Session, extras: str) -> None:
    """Installs as users do: a wheel, compiled where that is possible; built once for the same sources."""
    digest = hashlib.sha256()
    for package in ("meshcore", "meshcore_cli"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    for path in (ROOT / "pyproject.toml", ROOT / ".ci" / "compile.py"):
        digest.update(path.read_bytes())
    folder = ROOT / ".nox" / "wheels" / f"{digest.hexdigest()[:16]}-{session.python or 'python'}"
    if not list(folder.glob("*.whl")):
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    # The same version may hold other sources.
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "meshcore-sidecar")
    session.install(f"meshcore-sidecar[{extras}] @ {wheel.as_uri()}")


@nox.session
def tests(session: nox.Session) -> None:
    """The deterministic suite, and once more on the reference engines what depends on the engine."""
    session.install("-e", ".[fast,test]")
    session.run("pytest", *DETERMINISTIC, *(session.posargs or PARALLEL), env={"MESHCORE_ENGINE": None})
    if not session.posargs:
        again = [*PARALLEL, "--not-twice", *_present(ENGINE_TESTS)]
        session.run("pytest", *DETERMINISTIC, *again, env={"MESHCORE_ENGINE": "pure"})


@nox.session
def compiled(session: nox.Session) -> None:
    """The deterministic suite of what is compiled (.ci/compile.py), as users have it who install a wheel."""
    _install_built(session, "fast,test")
    # Away from the sources, which would be found first.
    tree = Path(session.create_tmp()) / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    session.chdir(tree)
    session.run("python", "-c", "import sys; from meshcore.compiled import is_compiled; sys.exit(not is_compiled())")
    session.run("pytest", *DETERMINISTIC, *(session.posargs or [*PARALLEL, *COMPILED_TESTS]))


@nox.session
def system(session: nox.Session) -> None:
    """Against real peers: nginx, haproxy, Envoy, curl, h2load, grpcio … (those that are installed)."""
    _install_built(session, "fast,test,peers")
    if session.posargs:
        session.run("pytest", "-m", "system and not long", *session.posargs)
        return
    # A file at a time, for its servers are started once.
    together = ["-n", "2", "--dist", "loadfile"]
    session.run("pytest", "-m", "system and not long and not alone", *together)
    session.run("pytest", "-m", "system and not long and alone")


@nox.session
def long(session: nox.Session) -> None:
    """What takes minutes: soaks, 2 GiB bodies, 200,000 requests."""
    _install_built(session, "fast,test,peers")
    session.run("pytest", "-m", "long", *(session.posargs or ["tests"]))


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the deterministic suite on both engines."""
    session.install("-e", ".[fast,test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *DETERMINISTIC, *session.posargs)
    session.run(
        "coverage", "run", "-m", "pytest", *DETERMINISTIC, *_present(ENGINE_TESTS), env={"MESHCORE_ENGINE": "pure"}
    )
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules (pyproject.toml)."""
    session.install(RUFF)
    session.run("ruff", "check", *(session.posargs or ["."]))


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Formats what is named (default: everything) in place."""
    session.install(RUFF)
    session.run("ruff", "check", "--fix", *(session.posargs or ["."]))
    session.run("ruff", "format", *(session.posargs or ["."]))


@nox.session
def typing(session: nox.Session) -> None:
    """mypy --strict, and pyright for what its users run."""
    # pyright's Node comes as a wheel, so that pip is all that is needed.
    session.install("-e", ".[fast,test]", "pyright[nodejs]>=1.1.407")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML in docs/_build; a warning fails it."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-E", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def parity(session: nox.Session) -> None:
    """Runs every test that carries a parity mark and writes the parity table anew."""
    session.install("-e", ".[fast,test,peers]")
    # Begun anew: a test that has lost its mark proves nothing any more.
    (ROOT / "docs" / "reference" / "parity_passed.json").unlink(missing_ok=True)
    session.run(
        "pytest",
        "-m",
        "parity and not long",
        "--parity-report",
        "docs/reference/parity_passed.json",
        *session.posargs,
        success_codes=[0, 1],
    )
    session.run("python", "docs/generate.py", "parity")


@nox.session
def bench(session: nox.Session) -> None:
    """Measures against every peer that is installed; writes docs/explanation/benchmarks.md."""
    _install_built(session, "fast,peers")
    # The other Python proxies pin versions of what we use, so they get an environment of their own; without
    # it they are left out.
    rivals = Path(session.create_tmp()) / "rivals"
    python = rivals / "bin" / "python"
    if not python.exists():
        session.run("python", "-m", "venv", str(rivals))
        names = ["aiohttp", "uvloop", "twisted", "mitmproxy"]
        session.run(str(python), "-m", "pip", "install", "-q", *names, external=True, success_codes=[0, 1])
    session.run("python", "tests/bench/run.py", *session.posargs, env={"MESHCORE_BENCH_PYTHON": str(python)})


@nox.session
def demo(session: nox.Session) -> None:
    """The demonstration, as a new user sees it."""
    session.install(".[fast]")
    session.run("meshcore", "demo", *(session.posargs or ["--seconds", "15"]))


@nox.session
def release_notes(session: nox.Session) -> None:
    """The news fragments as the next release's notes; ``-- --yes`` writes them to CHANGELOG.md."""
    session.install("towncrier>=24.8")
    arguments = session.posargs or ["--draft"]
    session.run("towncrier", "build", *arguments, env={"TERM": os.environ.get("TERM", "dumb")})
