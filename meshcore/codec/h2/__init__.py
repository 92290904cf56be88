"""HTTP/2: one interface, two engines, the same verdict on the wire (RFC 9113)."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, cast

from meshcore.codec.h2.connection import Connection
from meshcore.codec.h2.engine_direct import DirectEngine
from meshcore.codec.h2.interface import H2Codec
from meshcore.codec.limits import H2Limits
from meshcore.compiled import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshcore.codec.h2.engine import Engine, Sink

__all__ = ["H2Codec", "client_codec", "default_engine", "server_codec"]

_DEFAULT_LIMITS = H2Limits()
_COMPILED = is_compiled()


@cache
def _fast_is_there() -> bool:
    try:
        import ngh2  # noqa: F401
    except ImportError:
        return False
    return True


def default_engine() -> str:
    """What ``"auto"`` means, unless ``MESHCORE_ENGINE`` is ``pure``: ``"direct"`` where it is compiled, else ``"ngh2"``
    where it can be imported, else pure."""
    if os.environ.get("MESHCORE_ENGINE") == "pure":
        return "pure"
    if _COMPILED:
        return "direct"
    return "ngh2" if _fast_is_there() else "pure"


def _maker(engine: str) -> Callable[[Sink, bool, H2Limits], Engine]:
    if engine == "auto":
        engine = default_engine()
    if engine == "direct":
        return cast("Callable[[Sink, bool, H2Limits], Engine]", DirectEngine)
    if engine == "ngh2":
        from meshcore.codec.h2.engine_ngh2 import Ngh2Engine

        return cast("Callable[[Sink, bool, H2Limits], Engine]", Ngh2Engine)
    if engine == "pure":
        from meshcore.codec.h2.engine_h2 import H2Engine

        return H2Engine
    raise ValueError(f"unknown HTTP/2 engine: {engine!r}")


def server_codec(limits: H2Limits = _DEFAULT_LIMITS, engine: str = "auto") -> Connection:
    """The accepted side of a connection; *engine* is ``"auto"``, ``"direct"``, ``"ngh2"`` or
    ``"pure"``.

    Raises:
        ValueError: another engine.
    """
    return Connection(True, limits, _maker(engine))


def client_codec(limits: H2Limits = _DEFAULT_LIMITS, engine: str = "auto") -> Connection:
    """The connecting side of a connection; *engine* is ``"auto"``, ``"direct"``, ``"ngh2"`` or
    ``"pure"``.

    Raises:
        ValueError: another engine.
    """
    return Connection(False, limits, _maker(engine))
