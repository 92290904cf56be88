"""StreamTimeouts: limits of whole exchanges, bodies included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.timeouts import Timeouts
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.http.message import Request, Response

__all__ = ["StreamTimeouts"]


@attrs.frozen
class StreamTimeouts(ServiceLayer):
    """Says how long an exchange may take in all, and how long it may be silent (R-17, R-18).

    It only sets ``request.timeouts``, for requests that have none; the connections' sweepers enforce them, so it
    costs no scope: 504 before the response's head, a reset after it.  Its place is above ``Retry``: the tries of a
    request share its limits.

    Attributes:
        timeouts: the limits in seconds, or a function of the target; None: no limits.
    """

    timeouts: Param[Timeouts | None] = None

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where there are no limits."""
        timeouts = resolve(self.timeouts, target)
        if timeouts is None or timeouts == Timeouts():
            return inner

        def limited(request: Request) -> Awaitable[Response]:
            if request.timeouts is None:
                request.timeouts = timeouts
            return inner(request)

        return limited
