"""What the query of a page's address, or a body, asks for: bounded, and never an error that is not told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import trio

from meshcore.http.body import read_all

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = ["asked", "body_text", "seconds"]

_MOST = 50
_LONGEST = 4_096
_PATIENCE = 10.0
"""Seconds for a body: who asks and does not go on is not waited for."""


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


async def body_text(request: Request) -> str:
    """The body as text.

    Raises:
        ValueError: it is too long, no UTF-8, or did not come in time.
        MeshError: it broke.
    """
    with trio.move_on_after(_PATIENCE):
        return (await read_all(request.body, _LONGEST)).decode()
    raise ValueError(f"the body did not come within {_PATIENCE:g} s")
