"""The built-in layers are found as anybody else's are, so each has to be in pyproject.toml."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import attrs
import pytest

from meshcore.stack import role

ROOT = Path(__file__).parent.parent.parent
TABLE: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def layer_classes() -> dict[str, str]:
    """``module:Class`` of each layer by its name in snake case."""
    found = {}
    for path in sorted((ROOT / "meshcore" / "layers").rglob("*.py")):
        package = path.parent.name != "layers"
        if path.name.startswith("_") or (package and path.name != "layer.py"):
            continue
        module = f"meshcore.layers.{path.parent.name if package else path.stem}"
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
            if "layer" in methods or any("ServiceLayer" in ast.unparse(base) for base in node.bases):
                cls = type(node.name, (), {})
                found[role(cls())] = f"{module}:{node.name}"
    return found


def test_every_layer_has_its_entry_point_under_its_role() -> None:
    assert layer_classes() == TABLE["meshcore.layers"]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, points in TABLE.items() for name in points])
def test_every_entry_point_leads_to_a_documented_class(group: str, name: str) -> None:
    module, _, attribute = TABLE[group][name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert found.__doc__


@pytest.mark.parametrize("name", TABLE["meshcore.layers"])
def test_every_layer_is_a_frozen_value(name: str) -> None:
    module, _, attribute = TABLE["meshcore.layers"][name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    assert attrs.has(cls)
    assert cls.__setattr__ is not object.__setattr__
