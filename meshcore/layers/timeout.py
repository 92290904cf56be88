"""A limit on the wait for response headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from meshcore.abc import HttpService, ServiceLayer
from meshcore.errors import ResponseTimeout
from meshcore.stack import Param, resolve

if TYPE_CHECKING:
    from meshcore.http.message import Request, Response

__all__ = ["Timeout"]


@attrs.frozen
class Timeout(ServiceLayer):
    """Gives up on a response whose headers do not come in time: ``ResponseTimeout``, answered 504 with the
    connection kept (R-18).

    Under ``Retry`` it limits each try.  The body has no limit here: total and idle limits are
    ``request.timeouts``, which the connection enforces.  Costs one cancel scope a request; without a limit
    it is not there at all.

    Attributes:
        seconds: the limit, or a function of the target; None: no limit (the default).

    Raises:
        ValueError: the limit is not above 0.
    """

    seconds: Param[float | None] = None

    def __attrs_post_init__(self) -> None:
        if not callable(self.seconds):
            _checked(self.seconds)

    def wrap(self, inner: HttpService, target: Any, /) -> HttpService:
        """*inner* itself where there is no limit."""
        seconds = _checked(resolve(self.seconds, target))
        if seconds is None:
            return inner

        async def timeout(request: Request) -> Response:
            with trio.move_on_after(seconds) as scope:
                # Whoever is cancelled by it below knows that the endpoint was too slow.
                request.try_until = scope.deadline
                return await inner(request)
            where = "" if request.endpoint is None else f"endpoint {request.endpoint}: "
            raise ResponseTimeout(f"{where}no response headers within {seconds:g} s")

        return timeout


def _checked(seconds: float | None) -> float | None:
    if seconds is not None and not seconds > 0:
        raise ValueError(f"a timeout has to be above 0 s: {seconds}")
    return seconds
