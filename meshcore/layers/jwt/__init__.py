"""Jwt, the rules that tokens are judged by, and where the keys come from."""

from __future__ import annotations

from meshcore.layers.jwt.layer import Jwt
from meshcore.layers.jwt.rules import ALGORITHMS, Rules
from meshcore.layers.jwt.source import FetchedKeys, FileKeys, Keys, KeySource

__all__ = ["ALGORITHMS", "FetchedKeys", "FileKeys", "Jwt", "KeySource", "Keys", "Rules"]
