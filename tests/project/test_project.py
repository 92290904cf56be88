"""The project's own promises: the README's commands, the parity table, the licence, the fragments."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
IDS: dict[str, dict[str, str]] = tomllib.loads((ROOT / "docs/reference/parity_ids.toml").read_text())
KNOWN = {identifier for section, ids in IDS.items() if section != "different" for identifier in ids}


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_begins_with_the_two_commands_each_on_one_line() -> None:
    block = (ROOT / "README.md").read_text().split("```")[1]
    assert block.split("\n") == [
        "",
        "python3 -m venv .venv && .venv/bin/pip install '.[fast]' && .venv/bin/meshcore demo",
        "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s tests",
        "",
    ]


def test_nothing_says_to_install_the_unrelated_library() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [str(page) for page in pages if re.search(r"pip install ['\"]?meshcore(?!-sidecar)", page.read_text())] == []


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["name"]) == ("Apache-2.0", "meshcore-sidecar")


def test_each_fragment_has_a_known_type() -> None:
    types = {
        kind["directory"] for kind in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    }
    wrong = [
        path.name
        for path in (ROOT / "newsfragments").iterdir()
        if path.name != "README.md" and (path.suffix != ".md" or path.stem.split(".")[-1] not in types)
    ]
    assert wrong == []


def marked_ids() -> dict[str, list[str]]:
    """Every ID on a parity mark, by the file that has it."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.parity"):
                ids = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                found.setdefault(str(path.relative_to(ROOT)), []).extend(map(str, ids))
    return found


def test_every_parity_mark_names_ids_that_there_are() -> None:
    unknown = {
        path: wrong for path, ids in marked_ids().items() if (wrong := [each for each in ids if each not in KNOWN])
    }
    assert unknown == {}


def test_what_is_different_is_among_the_known_ids_and_says_why() -> None:
    assert set(IDS["different"]) <= KNOWN
    assert [identifier for identifier, why in IDS["different"].items() if not why.endswith(".")] == []


def test_the_committed_parity_table_is_what_its_sources_make() -> None:
    assert (ROOT / "docs/reference/parity.md").read_text() == load("docs/generate.py").parity()


def test_the_parity_table_counts_passed_tests_that_still_exist() -> None:
    recorded = ROOT / "docs/reference/parity_passed.json"
    passed: dict[str, list[str]] = json.loads(recorded.read_text()) if recorded.exists() else {}
    gone = []
    for test in passed:
        path, _, name = test.partition("::")
        if not (ROOT / path).exists() or f"def {name.rpartition('::')[2]}(" not in (ROOT / path).read_text():
            gone.append(test)
    assert gone == []


@pytest.mark.parametrize("page", ["layers", "errors", "cli"])
def test_the_generated_pages_have_a_section_for_each_thing(page: str) -> None:
    from meshcore import registry
    from meshcore.explain import EXPLANATIONS
    from meshcore_cli.main import COMMANDS

    names = {"layers": registry.names(), "errors": list(EXPLANATIONS), "cli": [f"meshcore {name}" for name in COMMANDS]}
    text = load("docs/generate.py").PAGES[page]()
    assert [name for name in names[page] if f"\n## `{name}`\n" not in text] == []


def test_the_chores_are_those_that_the_readme_names() -> None:
    sessions = re.findall(r"@nox\.session(?:\(name=\"(\w+)\"\))?\ndef (\w+)\(", (ROOT / "noxfile.py").read_text())
    names = {given or function for given, function in sessions}
    assert {"tests", "system", "long", "lint", "typing", "docs", "bench", "demo", "release_notes"} <= names


def run_pytest(directory: Path, test: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest on one file with the suite's own conftest."""
    (directory / "conftest.py").write_text("from tests.conftest import *\n")
    (directory / "system").mkdir()
    (directory / "system" / "test_it.py").write_text(f"import pytest\n{test}")
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n  parity(*ids): x\n  system: x\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(directory)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_test_with_more_than_three_parity_ids_is_refused(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, '@pytest.mark.parity("D-01", "D-02", "D-03", "D-04")\ndef test_it(): pass\n')
    assert result.returncode != 0
    assert "4 parity IDs on one test, at most 3" in result.stdout + result.stderr


def test_passed_tests_with_parity_ids_are_recorded_and_failed_ones_taken_out(tmp_path: Path) -> None:
    test = (
        '@pytest.mark.parity("D-01")\ndef test_good(): pass\n'
        '@pytest.mark.parity("D-02")\n@pytest.mark.parametrize("n", [0, 1])\ndef test_half(n): assert n\n'
    )
    report = tmp_path / "passed.json"
    report.write_text(json.dumps({"system/test_it.py::test_half": ["D-02"], "tests/conftest.py::test_kept": ["D-03"]}))
    run_pytest(tmp_path, test, "--parity-report", str(report))
    assert json.loads(report.read_text()) == {
        "system/test_it.py::test_good": ["D-01"],
        "tests/conftest.py::test_kept": ["D-03"],
    }


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_a_system_test_without_its_peer_is_skipped_except_where_peers_are_required(
    tmp_path: Path, required: str, code: int
) -> None:
    test = '@pytest.mark.system\ndef test_it(peer): peer("no-such-program")\n'
    result = run_pytest(tmp_path, test, "-rs", MESHCORE_REQUIRE_PEERS=required)
    assert result.returncode == code, result.stdout
    assert "peer not installed: no-such-program" in result.stdout


def test_a_system_module_without_its_package_fails_where_peers_are_required(tmp_path: Path) -> None:
    test = 'pytest.importorskip("no_such_package")\n'
    assert run_pytest(tmp_path, test, MESHCORE_REQUIRE_PEERS="1").returncode not in (0, 5)
