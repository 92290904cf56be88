"""A tapped service: what every request passes, whether somebody looks or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshcore._native import mypyc_attr

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from meshcore.abc import HttpService
    from meshcore.http.message import Request, Response

__all__ = ["Tapped", "Taps"]


class Watcher(Protocol):
    """What is told of one exchange."""

    def failed(self, error: BaseException, /) -> None: ...

    def answered(self, response: Response, /) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Taps:
    """Who looks at requests.

    Attributes:
        wanted: whether anybody does.
    """

    __slots__ = ("wanted",)

    def __init__(self) -> None:
        self.wanted = False

    def begin(self, request: Request, direction: str) -> Watcher | None:
        """What is to be told of the exchange that *request* begins; None: nobody wants to know."""
        return None


@mypyc_attr(native_class=False)
class Tapped:
    """The service: while nobody looks, the inner one's own call."""

    __slots__ = ("__layer__", "__weakref__", "__wrapped__", "_direction", "_inner", "_taps")

    def __init__(self, inner: HttpService, taps: Taps, direction: str) -> None:
        self._inner = inner
        self._taps = taps
        self._direction = direction

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        taps = self._taps
        if taps.wanted:
            watcher = taps.begin(request, self._direction)
            if watcher is not None:
                return self._watched(request, watcher)
        return self._inner(request)

    async def _watched(self, request: Request, watcher: Watcher) -> Response:
        try:
            response = await self._inner(request)
        except BaseException as error:
            watcher.failed(error)
            raise
        watcher.answered(response)
        return response
