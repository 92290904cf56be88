"""Requests counted by the authority that they name, for those who ask for that (M-04)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshcore.metrics.requests import Measured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response
    from meshcore.metrics.requests import RequestSeries

__all__ = ["MeasuredByAuthority"]

_MOST = 200
"""Authorities that one service remembers; the series of those that it forgets stay, as long as there is room."""


class MeasuredByAuthority:
    """A measured service for each authority, over the same *inner*.

    Args:
        inner: the service.
        make: the series of an authority.
    """

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_inner", "_known", "_make")

    def __init__(self, inner: HttpService, make: Callable[[str], RequestSeries]) -> None:
        self._inner = inner
        self._make = make
        self._known: dict[bytes, Measured] = {}

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        authority = request.authority
        measured = self._known.get(authority)
        if measured is None:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            # Names have no case (RFC 9110 §4.2.3): one series for all ways to write them.
            series = self._make(authority.decode("latin-1").lower())
            measured = self._known[authority] = Measured(self._inner, series)
        answer: Awaitable[Response] = measured(request)
        return answer
