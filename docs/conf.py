"""Sphinx's configuration; the generated pages of the reference are made before anything is read."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

generate.write([name for name in generate.PAGES if name not in generate.COMMITTED])

with open(HERE.parent / "pyproject.toml", "rb") as file:
    release = tomllib.load(file)["project"]["version"]

project = "meshcore"
author = "The meshcore authors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"meshcore {release}"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
