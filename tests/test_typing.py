"""Stacks are typed: right orders are inferred, wrong ones are refused before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HERE = ROOT / "tests" / "typing"


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """By file and line what mypy says of tests/typing; of the library itself `nox -s typing` does."""
    api = pytest.importorskip("mypy.api")
    cache = tmp_path_factory.mktemp("mypy")
    out, err, _ = api.run(
        [
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(cache),
            "--follow-imports",
            "silent",
            "--no-error-summary",
            "--hide-error-context",
            str(HERE / "ok.py"),
            str(HERE / "wrong.py"),
        ]
    )
    assert err == ""
    found: dict[str, dict[int, str]] = {"ok.py": {}, "wrong.py": {}}
    for line in out.splitlines():
        match = re.match(r"(?:.*/)?(\w+\.py):(\d+): error: (.*)", line)
        if match is not None and match[1] in found:
            found[match[1]].setdefault(int(match[2]), match[3])
    return found


def test_the_type_of_a_whole_pipeline_follows_from_its_seed(errors: dict[str, dict[int, str]]) -> None:
    assert errors["ok.py"] == {}


def test_wrong_orders_are_refused_each_on_its_line(errors: dict[str, dict[int, str]]) -> None:
    lines = (HERE / "wrong.py").read_text().splitlines()
    expected = [number for number, line in enumerate(lines, 1) if line.endswith("# error")]
    assert expected == sorted(errors["wrong.py"])
