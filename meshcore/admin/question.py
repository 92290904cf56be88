"""What the query of a page's address asks for: bounded, and never an error that is not told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = ["asked", "seconds"]

_MOST = 50


def asked(request: Request) -> dict[str, str]:
    """The parameters of the query; of those that are there twice the last one."""
    query = request.path.partition(b"?")[2].decode("latin-1")
    try:
        return dict(parse_qsl(query, max_num_fields=_MOST))
    except ValueError:
        return {}


def seconds(text: str) -> float | None:
    """``"10"``, ``"2.5"`` or ``"10s"``; None: it is no such thing."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
