"""StreamTimeouts: limits of whole exchanges, bodies included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.abc import HttpService, ServiceLayer
from meshcore.http.grpc import pass_on_deadline, timeout_of
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

    A gRPC client's own ``grpc-timeout`` counts as well where there are limits: the shorter one holds, and the endpoint
    is told what is left of it, at each try (linkerd does not look at it: R-19).

    Attributes:
        timeouts: the limits in seconds, or a function of the target; None: no limits.
        grpc_deadlines: whether ``grpc-timeout`` is read and passed on shortened.
    """

    timeouts: Param[Timeouts | None] = None
    grpc_deadlines: Param[bool] = attrs.field(default=True, repr=False)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where there are no limits."""
        timeouts = resolve(self.timeouts, target)
        if timeouts is None or timeouts == Timeouts():
            return inner

        deadlines = resolve(self.grpc_deadlines, target)

        def limited(request: Request) -> Awaitable[Response]:
            if request.timeouts is None:
                request.timeouts = timeouts
            if deadlines and request.version == 20 and request.method == b"POST":
                _shorten(request)
            return inner(request)

        return limited


def _shorten(request: Request) -> None:
    """Lets a gRPC request's own deadline count, and passes on what it has."""
    seconds = timeout_of(request.headers.raw)
    if seconds is None:
        return
    limits = request.timeouts
    now = trio.current_time()
    if request.started is None:
        # From here on the time runs, wherever the request waits.
        request.started = now
    if limits is None:
        request.timeouts = Timeouts(request=seconds)
    elif limits.request is None or seconds < limits.request:
        request.timeouts = Timeouts(seconds, limits.response, limits.idle)
    pass_on_deadline(request, now)
