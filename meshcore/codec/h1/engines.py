"""Which parsers can run, and what each must do for the codec: split a scanned head into fields.

``h11`` is always there and the reference; ``httptools`` (llhttp, extra ``fast``) is taken where it
can be imported, unless ``MESHCORE_ENGINE=pure`` is in the environment.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from meshcore.codec.events import Fields

__all__ = ["ENGINES", "Engine", "Split", "default_engine", "load"]

Split: TypeAlias = tuple[Fields, Fields]
"""All fields of a head, and those among them that ``control.SPECIAL`` names (the same objects)."""


@attrs.frozen
class Engine:
    """One parser of heads.

    Attributes:
        name: of the package.
        split_request: from a scanned head and its method.
        split_response: from a scanned head.

    Both raise ``ValueError`` where the engine refuses the head.
    """

    name: str
    split_request: Callable[[bytes, bytes], Split]
    split_response: Callable[[bytes], Split]


ENGINES: Final[tuple[str, ...]] = (
    ("h11", "httptools") if importlib.util.find_spec("httptools") is not None else ("h11",)
)
"""The engines that can be imported here, the reference first."""


def default_engine() -> str:
    """What ``"auto"`` means here and now."""
    return "h11" if os.environ.get("MESHCORE_ENGINE") == "pure" else ENGINES[-1]


def load(name: str) -> Engine:
    """The engine called *name*: ``auto``, ``pure`` (which is ``h11``), ``h11`` or ``httptools``.

    Raises:
        LookupError: there is no such engine, or it is not installed.
    """
    if name == "auto":
        name = default_engine()
    elif name == "pure":
        name = "h11"
    if name not in ENGINES:
        raise LookupError(f"no HTTP/1 engine {name!r}: there are {', '.join(ENGINES)}")
    if name == "h11":
        from meshcore.codec.h1 import _h11

        return _h11.ENGINE
    from meshcore.codec.h1 import _httptools

    return _httptools.ENGINE
