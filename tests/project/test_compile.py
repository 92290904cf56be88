"""What is compiled into a wheel, and when."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
HOOK = ROOT / ".ci" / "compile.py"

pytestmark = pytest.mark.skipif(not HOOK.exists(), reason="the sources are elsewhere")


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("compile_hook", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_to_be_compiled_is_there(hook: Any) -> None:
    assert [] == [name for name in hook.MODULES if not (ROOT / "meshcore" / f"{name}.py").exists()]
    assert len(set(hook.MODULES)) == len(hook.MODULES)


def test_causes_do_not_depend_on_what_the_compiler_forgets(hook: Any) -> None:
    """``raise … from``: each says ``caused`` as well, or raises what has its cause already."""
    helpers = ("._lost(error)", ".lost(error)", "._failure(cause)", "._broken(error)")
    said = ("caused(", *helpers, "raise error from error.__cause__")
    forgotten = []
    for name in hook.MODULES:
        text = (ROOT / "meshcore" / f"{name}.py").read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise) and isinstance(node.cause, ast.expr) and ast.unparse(node.cause) != "None":
                line = ast.unparse(node)
                if not any(how in line for how in said):
                    forgotten.append(f"{name}:{node.lineno}: {line}")
    assert [] == forgotten


def test_the_choice_is_the_environments(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHCORE_COMPILE", raising=False)
    assert "auto" == hook.chosen()
    monkeypatch.setenv("MESHCORE_COMPILE", "0")
    assert "0" == hook.chosen()


def test_without_headers_or_a_compiler_nothing_is_compiled(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook.sysconfig, "get_path", lambda name: "/nowhere")
    assert not hook.possible()
    monkeypatch.undo()
    monkeypatch.setattr(hook.shutil, "which", lambda name: None)
    assert not hook.possible()
