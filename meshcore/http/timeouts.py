"""Limits of one exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from meshcore.http.message import Request

__all__ = ["Timeouts", "time_is_up"]


def _smallest(timeouts: Timeouts) -> float | None:
    limits = (timeouts.request, timeouts.response, timeouts.idle)
    return min((limit for limit in limits if limit is not None), default=None)


@attrs.frozen
class Timeouts:
    """Limits of one exchange in seconds, enforced by the connection's sweeper (R-17, R-18).

    Attributes:
        request: from the request's head to the response's last byte.
        response: from the end of the request body to the response's last byte.
        idle: without a byte in either direction.
        smallest: of them; None: there is none.
    """

    request: float | None = None
    response: float | None = None
    idle: float | None = None
    smallest: float | None = attrs.field(
        default=attrs.Factory(_smallest, takes_self=True), init=False, repr=False, eq=False
    )


def time_is_up(request: Request, now: float) -> float:
    """When the limit of the whole exchange ends, infinity without one; the clock starts now if it has not yet."""
    limits = request.timeouts
    if limits is None or limits.request is None:
        return float("inf")
    if request.started is None:
        request.started = now
    return request.started + limits.request
