from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshcore.config import Loaded, examine

Told = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with files that look like what a configuration names."""
    monkeypatch.chdir(tmp_path)
    for name in ("orders.crt", "ca.crt", "site.pem", "canary.json"):
        (tmp_path / name).write_text("")
    for name in ("orders.key", "site.key"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def look(folder: Path) -> Callable[..., Loaded]:
    """Examines a text as the file c.toml."""

    def look(text: str, *settings: str, name: str = "c.toml") -> Loaded:
        (folder / name).write_text(text)
        return examine(name, settings)

    return look


@pytest.fixture
def told(look: Callable[..., Loaded]) -> Told:
    """The problems of a text, line by line."""
    return lambda text, *settings, **options: [str(each) for each in look(text, *settings, **options).problems]
