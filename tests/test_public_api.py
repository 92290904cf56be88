"""What users may import is there, documented, and costs nothing until it is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import meshcore

ROOT = Path(__file__).parent.parent


def declared_for_type_checkers() -> dict[str, str]:
    """Name to module, from the block that type checkers read."""
    tree = ast.parse(Path(meshcore.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_type_checkers_and_the_interpreter_find_the_same_names_in_the_same_modules() -> None:
    assert declared_for_type_checkers() == meshcore._HOME
    assert sorted(meshcore._HOME) == sorted(meshcore.__all__)


@pytest.mark.parametrize("name", meshcore.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(meshcore, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys, meshcore; print([m for m in sys.modules if m.startswith(('meshcore.', 'trio', 'h2', 'h11'))])"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        meshcore.Nonsense  # noqa: B018


def test_every_name_shows_in_dir() -> None:
    assert set(meshcore.__all__) <= set(dir(meshcore))


def public_modules() -> list[str]:
    found = []
    for path in sorted((ROOT / "meshcore").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found.append(".".join(parts))
    return found


@pytest.mark.parametrize("name", public_modules())
def test_what_a_module_exports_exists_and_is_documented(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ("ngh2", "httptools"):
            pytest.skip(f"the extra `fast` is not installed: {error.name}")
        raise
    undocumented = []
    for exported in getattr(module, "__all__", ()):
        value = getattr(module, exported)
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
            undocumented.append(exported)
    assert undocumented == []


CLASSES = [name for name in meshcore.__all__ if inspect.isclass(getattr(meshcore, name))]


OWN = [name for name in CLASSES if not getattr(getattr(meshcore, name), "_is_protocol", False)]


@pytest.mark.parametrize("name", OWN)
def test_public_methods_of_public_classes_are_documented(name: str) -> None:
    cls = getattr(meshcore, name)
    bare = [
        method
        for method, value in vars(cls).items()
        if inspect.isfunction(value) and not method.startswith("_") and not inspect.getdoc(getattr(cls, method))
    ]
    assert bare == []
