"""Limits of one exchange."""

from __future__ import annotations

import attrs

__all__ = ["Timeouts"]


@attrs.frozen
class Timeouts:
    """Limits of one exchange in seconds, enforced by the connection's sweeper (R-17, R-18).

    Attributes:
        request: from the request's head to the response's last byte.
        response: from the end of the request body to the response's last byte.
        idle: without a byte in either direction.
    """

    request: float | None = None
    response: float | None = None
    idle: float | None = None
