"""Whether the data path in use is compiled."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__all__ = ["is_compiled"]


def is_compiled() -> bool:
    """Whether it is; loads none of it."""
    folder = Path(__file__).parent / "codec"
    return any((folder / f"validate{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
