"""docs/reference/metrics.md against the code: every family that there can be is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshcore.metrics import Registry
from meshcore.metrics.route_requests import RouteSeries
from meshcore.metrics.route_views import route_views

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
# The first column of its tables of families.
_CELLS = re.findall(r"^\| (`[^|]*) \| (?:counter|gauge|histogram)", PAGE, re.M)
DOCUMENTED = re.findall(r"`([a-z0-9_…]+)`", "\n".join(_CELLS))


def patterns() -> Iterator[tuple[str, str]]:
    """The names of families, as regular expressions, with where they are made."""
    for path in sorted((ROOT / "meshcore").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if node.func.attr not in ("counter", "gauge", "histogram", "view"):
                continue
            name = node.args[0]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value, where
            elif isinstance(name, ast.JoinedStr):
                parts = [str(each.value) if isinstance(each, ast.Constant) else ".+" for each in name.values]
                yield "".join(parts), where


def documented(pattern: str) -> bool:
    for name in DOCUMENTED:
        if re.fullmatch(pattern, name) or (name.startswith("…") and re.search(name[1:] + "$", pattern)):
            return True
    return False


def test_every_family_in_the_code_is_in_the_reference() -> None:
    found = list(patterns())
    assert len(found) > 50
    assert [(name, where) for name, where in found if not documented(name)] == []


def test_the_families_of_routes_are_in_the_reference() -> None:
    registry = Registry()
    for scope, values in (("route", ("p", "r")), ("backend", ("p", "r", "b")), ("inbound", ("p", "r"))):
        RouteSeries(registry, scope, "http", values)
    route_views(registry)
    assert [family.name for family in registry.families() if not documented(family.name)] == []


@pytest.mark.parametrize("name", ["meshcore.rules.yml", "meshcore.test.yml"])
def test_the_alerts_are_told_in_the_guide(name: str) -> None:
    guide = (ROOT / "docs" / "how-to" / "alerts-and-dashboards.md").read_text()
    alerts = set(re.findall(r"alert(?:name)?: (Meshcore\w+)", (ROOT / "docs" / "alerts" / name).read_text()))
    assert alerts == set(re.findall(r"^\| `(Meshcore\w+)`", guide, re.M))


def test_the_alerts_ask_for_families_that_there_are() -> None:
    text = (ROOT / "docs" / "alerts" / "meshcore.rules.yml").read_text()
    found = re.findall(r"expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)", text)
    expressions = "\n".join("".join(each) for each in found)
    names = re.findall(r"\b([a-z0-9]+_[a-z0-9_]+)\b(?=[{\[) ]|$)", re.sub(r"\{[^}]*\}|\([a-z_, ]+\)", " ", expressions))
    own = {name.removesuffix("_bucket") for name in names} - {"histogram_quantile", "trio_loop_lag_seconds"}
    assert len(own) > 10
    assert [name for name in sorted(own) if not documented(name)] == []
